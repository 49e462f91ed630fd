"""Exact erasure names the near-duplicates that stay, whichever ingest they came with."""

import dataclasses

import pytest
from tiny_base import background, copy_store, make_tiny_base, sentences, tiny_settings

from pipelines import init_store, open_store
from pipelines.documents import SourceDocument


def texts(subject, num, seed):
    return [SourceDocument(t, f"{subject} {seed}", "s") for t in sentences(subject, num, seed=seed)]


@pytest.fixture(scope="module")
def amended(tmp_path_factory):
    """A store, and pairs of an old text and its amended copy that came with a later ingest."""
    folder = tmp_path_factory.mktemp("amended")
    old = texts("law", 10, 21)
    new = [dataclasses.replace(one, text=f"{one.text} Amended.") for one in old]
    settings = dataclasses.replace(tiny_settings(), text_passes=1.0, hold_out_percent=0.0)
    base = make_tiny_base(folder / "base")
    with init_store(folder / "knowledge", base=str(base), background=background()) as opened:
        opened.ingest("law", old, settings=settings)
        parts = [dataclasses.replace(one, section_of="book") for one in texts("law", 3, 22)]
        opened.ingest("law", [*new, *parts], settings=settings)
    pairs = [(a.document_id, b.document_id) for a, b in zip(old, new, strict=True)]
    return folder / "knowledge", pairs, [part.document_id for part in parts]


def test_a_near_copy_of_another_ingest_is_named_whatever_group_was_recorded(amended, tmp_path):
    """Which id is the smaller one, and so names the group, is chance."""
    place, pairs, parts = amended
    with open_store(copy_store(place, tmp_path)) as opened:
        recorded = {d.document_id: d.near_group for d in opened.registry.documents("law")}
        later = [pair for pair in pairs if recorded[pair[0]] != recorded[pair[1]]]
        assert 0 < len(later) < len(pairs)
        (first, copy), (_, second) = later[0], later[1]
        assert opened.erase_exact("law", [first]).near_ids == (copy,)
        old = later[1][0]
        assert opened.erase_exact("law", [second, parts[0]]).near_ids == tuple(
            sorted([old, *parts[1:]])
        )
        assert opened.erase_exact("law", [copy]).near_ids == ()
