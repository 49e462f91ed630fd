"""Pages that list acts, where documents were erased in both ways."""

import pytest
from tiny_base import make_tiny_store

from pipelines import open_store

ACTS = ["erase exactly", "mask 1 document"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store in which a document was masked, then another one erased exactly."""
    place = make_tiny_store(tmp_path_factory.mktemp("erased"), domains=("law",))
    with open_store(place) as store:
        masked, erased = store.registry.documents("law", split="train")[:2]
        store.erase_masked("law", [masked.document_id])
        store.erase_exact("law", [erased.document_id])
    return place


def test_the_history_tells_a_mask_from_an_exact_erasure(run_page, place):
    at = run_page("history", place)
    assert not at.exception
    made = next(table.value for table in at.dataframe if "domains" in table.value)
    for table in (made, at.dataframe[-1].value):
        assert table["action"].tolist()[:2] == ACTS
    (after,) = (box for box in at.selectbox if box.label == "After (snapshot)")
    told = [option.split(", ")[1] for option in after.options[:2]]
    assert told == ACTS
    lines = [caption.value for caption in at.caption]
    assert any("erase exactly" in line for line in lines)
    assert any("mask 1 document" in line for line in lines)


def test_a_domains_events_tell_a_mask_from_an_exact_erasure(run_page, place):
    at = run_page("domains", place, domain="law", part="Events")
    assert at.dataframe[-1].value["action"].tolist()[:2] == ACTS
