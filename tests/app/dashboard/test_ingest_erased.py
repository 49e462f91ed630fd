"""The page Ingest where documents were erased from the domain."""

import os

from pages import fill, is_sound, press
from tiny_base import make_tiny_store

from pipelines import open_store
from stores import Registry


def test_what_was_erased_is_learned_again_only_where_the_box_is_ticked(
    run_page, tmp_path, monkeypatch
):
    place = make_tiny_store(tmp_path, domains=("law",))
    monkeypatch.setattr("pipelines.jobs._spawn", lambda registry, job: os.getpid())
    with open_store(place) as store:
        erased = store.registry.documents("law", split="train")[0].document_id
        store.erase_exact("law", [erased], why="asked for")
    at = press(fill(run_page("ingest", place, domain="law"), tmp_path / "law.jsonl"), "Preview")
    assert "nothing new" in at.info[-1].value
    (box,) = (item for item in at.checkbox if "erased" in item.label)
    assert box.label == "Learn what was erased from it too (1 document)"
    assert not box.value
    at = press(box.check().run(), "Preview")
    assert is_sound(at)
    assert next(item.value for item in at.metric if item.label == "New documents") == "1"
    at = press(at, "Start learning")
    with Registry.open(place) as registry:
        assert registry.jobs.find(at.query_params["job"]).request["learn_erased"] is True
