"""Exact erasure: the store that erased is the store that never saw, object by object."""

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from erasure_child import FACT, corpora
from tiny_base import make_tiny_base

from stores import Registry

MODES = ("erased", "never", "kept")


def start(mode, base, folder):
    """Make a store in a process of its own."""
    child = Path(__file__).parents[1] / "support" / "erasure_child.py"
    return subprocess.run(
        [sys.executable, str(child), mode, str(base), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("erasure")
    base = make_tiny_base(folder / "base")
    for mode in MODES:
        done = start(mode, base, folder / mode)
        assert done.returncode == 0, done.stderr
    return {mode: folder / mode for mode in MODES}


def objects(place):
    return sorted(path.name for path in place.glob("objects/*/*"))


def chain(place, domain):
    with Registry.open(place) as registry:
        return [
            (segment.pool_object, segment.signature_object, segment.use_object)
            for segment in registry.domain(domain).chain
        ]


def test_a_store_that_erased_holds_the_objects_of_one_that_never_saw(stores):
    assert objects(stores["erased"]) == objects(stores["never"])
    assert chain(stores["erased"], "law") == chain(stores["never"], "law")


def test_a_store_that_kept_it_differs(stores):
    assert objects(stores["kept"]) != objects(stores["never"])
    for ours, theirs in zip(
        chain(stores["kept"], "law"), chain(stores["never"], "law"), strict=True
    ):
        assert ours[0] != theirs[0]


def test_another_domain_is_untouched(stores):
    assert chain(stores["erased"], "medicine") == chain(stores["kept"], "medicine")
    with Registry.open(stores["erased"]) as registry:
        (segment,) = registry.domain("medicine").versions
        assert not segment.is_purged


def test_its_near_duplicate_was_on_its_side_and_is_divided_anew(stores):
    _, _, erased, near = corpora()
    sides, groups = {}, {}
    for mode, place in stores.items():
        with Registry.open(place) as registry:
            found = {d.document_id: d for d in registry.documents("law")}
        sides[mode] = found[near.document_id].split
        if mode == "kept":
            assert found[erased.document_id].split == "train"
        groups[mode] = found[near.document_id].near_group
        assert (erased.document_id in found) == (mode == "kept")
    assert groups["kept"] == min(erased.document_id, near.document_id)
    assert groups["erased"] == groups["never"] == near.document_id
    assert sides["erased"] == sides["never"]


def everything(place):
    """Return the bytes of every file, and what they are uncompressed."""
    for path in place.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield path, data
            if data.startswith(zstandard.FRAME_HEADER):
                yield path, zstandard.ZstdDecompressor().decompress(data)


def test_nothing_of_it_is_left_in_any_file(stores):
    _, _, erased, _ = corpora()
    fact = FACT.document("")
    traces = [erased.document_id, erased.title, erased.text]
    traces += [fact.document_id, FACT.statement, FACT.subject]
    left = {
        mode: {
            trace
            for _, data in everything(stores[mode])
            for trace in traces
            if trace.encode() in data
        }
        for mode in MODES
    }
    assert left["kept"] == set(traces), "the search finds what is there"
    assert left["erased"] == left["never"] == set()


def test_the_store_is_sound_and_old_snapshots_are_refused(stores):
    with Registry.open(stores["erased"]) as registry:
        assert [f for f in registry.doctor() if f.severity == "error"] == []
        acts = [event.action for event in registry.history()]
        assert acts[:4] == ["purge", "erase", "erase", "erase"]
        tombstones = [s for s in registry.domain("law").versions if s.is_purged]
        assert len(tombstones) == 4, "two segments and a mask, and a segment between the erasures"
        runs = {run.segment_id: run for run in registry.domain("law").runs}
        assert all(runs[s.id].config == {} and runs[s.id].losses == () for s in tombstones)
        for document in registry.documents("law"):
            places = registry.document_places(document.document_id)
            assert any(place.is_live for place in places)
