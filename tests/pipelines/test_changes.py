"""Files that changed or went since they were ingested, on a tiny base."""

import zipfile
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_base import sentences
from tiny_files import write_files
from tiny_store import FACTS, SETTINGS, store_logits

from peer_cl.errors import CorpusError, StateError
from pipelines.loading import load_owns, store_identity

TEXT = "The court of appeal held that the fever was void"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three files of two sections each, and one of rows."""
    drawn = iter(sentences("minerals", 40, seed=3))
    files = {
        f"{name}.md": f"# {name} one\n{next(drawn)} {next(drawn)}\n# {name} two\n{next(drawn)}\n"
        for name in ("a", "b", "c")
    }
    return write_files(tmp_path / "notes", {**files, "d.csv": f"text\n{next(drawn)}\n"})


def ingest(store, folder, **options):
    return store.ingest("minerals", folder, settings=SETTINGS, **options)


def held(store):
    """Return the title of each text of the domain."""
    found = store.registry.queries.documents("minerals", kind="text")
    return sorted(one.title for one in found)


def owners(store):
    """Return the ids of the documents that own experts in the live version."""
    queries, identity = store.registry.queries, store_identity(store.registry)
    chain = queries.chain(queries.live().state("minerals").version)
    lists = [own for row in chain for own in load_owns(store.registry, row, identity)]
    return {item.item_id for own in lists for item in own.items}


def change(folder, more="The dike holds."):
    """Change the second section of a file."""
    first, _, _ = (folder / "a.md").read_text().partition("\n# a")
    (folder / "a.md").write_text(f"{first}\n# a new\n{more} {more}\n")


def test_a_changed_section_takes_the_place_of_the_old_one(store, folder):
    ingest(store, folder, facts=FACTS)
    queries = store.registry.queries
    old = next(one for one in queries.documents("minerals") if one.title == "a: a two")
    first = queries.chain(old.segment_id)
    change(folder)
    report = ingest(store, folder)
    assert (report.num_replaced, report.missing_files) == (1, ())
    assert held(store) == [
        *("a: a new", "a: a one", "b: b one", "b: b two", "c: c one", "c: c two", "d, line 1")
    ]
    now = {one.document_id for one in queries.documents("minerals", split="train")}
    assert owners(store) == now
    assert old.document_id not in now
    assert {fact.document_id for fact in FACTS} <= now
    chain = queries.chain(report.version)
    assert chain[0].objects_of("shared") == first[0].objects_of("shared")
    assert queries.erased("minerals") == {}
    assert queries.events(1)[0].action == "ingest"


def test_rolling_back_brings_the_old_one_back(store, folder):
    first = ingest(store, folder)
    before, logits = held(store), store_logits(store, TEXT)
    change(folder)
    ingest(store, folder)
    store.roll_back("minerals")
    assert store.registry.queries.live().state("minerals").version == first.version
    assert held(store) == before
    assert torch.equal(store_logits(store, TEXT), logits)
    with pytest.raises(StateError, match=r"earlier ones: none"):
        store.roll_back("minerals")


def test_a_replaced_version_that_was_purged_is_not_brought_back(store, folder):
    ingest(store, folder)
    change(folder)
    ingest(store, folder)
    store.purge("minerals", retired=True)
    with pytest.raises(StateError, match="was purged: its bytes are gone"):
        store.roll_back("minerals")


def test_a_file_that_changes_twice_is_replaced_twice(store, folder):
    ingest(store, folder)
    for number in range(2):
        change(folder, f"The dike number {number} holds.")
        assert ingest(store, folder).num_replaced == 1
    assert held(store).count("a: a new") == 1


def test_a_file_that_is_gone_is_named_and_pruned_on_demand(store, folder):
    ingest(store, folder)
    (folder / "c.md").unlink()
    with pytest.raises(CorpusError, match=r"nothing new .* 1 file gone \(.*c\.md, \.\.\.; --prune"):
        ingest(store, folder)
    change(folder)
    report = ingest(store, folder)
    assert report.missing_files == (str(folder / "c.md"),)
    assert "c: c one" in held(store)
    pruned = ingest(store, folder, prune=True)
    assert (pruned.num_pruned, pruned.num_learned_texts, pruned.missing_files) == (2, 0, ())
    assert "c: c one" not in held(store)
    store.roll_back("minerals")
    assert "c: c one" in held(store)


def test_a_section_that_is_only_gone_needs_no_training(store, folder):
    ingest(store, folder)
    (folder / "b.md").write_text((folder / "b.md").read_text().partition("# b two")[0])
    report = ingest(store, folder)
    assert (report.num_replaced, report.num_steps, report.label) == (1, 0, "v2")
    assert "b: b two" not in held(store)


def test_a_file_that_moved_is_neither_new_nor_gone(store, folder):
    ingest(store, folder)
    (folder / "c.md").rename(folder / "e.md")
    with pytest.raises(CorpusError, match="nothing new") as got:
        ingest(store, folder)
    assert "gone" not in str(got.value)


def test_a_file_elsewhere_and_one_that_cannot_be_read_replace_nothing(store, folder, tmp_path):
    ingest(store, folder)
    write_files(tmp_path / "other", {"a.md": "# a new\nThe dike holds. The dike holds."})
    (folder / "b.md").write_bytes(b"\0\xff")
    report = store.ingest("minerals", [folder, tmp_path / "other"], settings=SETTINGS)
    assert (report.num_replaced, len(report.skipped), report.missing_files) == (0, 1, ())
    assert len(held(store)) == 8


def test_an_archive_with_a_broken_file_replaces_nothing(store, folder):
    def pack(**members):
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.md", content)

    pack(x="# x\nThe dike holds.", y="# y\nMica is soft.")
    ingest(store, folder)
    pack(x="# x\nAnother dike holds.", y=b"\0\xff")
    assert ingest(store, folder).num_replaced == 0
    pack(x="# x\nAnother dike holds.")
    assert ingest(store, folder).num_replaced == 2


def test_an_erasure_trains_shared_experts_without_what_was_replaced(store, folder):
    ingest(store, folder)
    lone = write_files(folder.parent / "lone", {"x.txt": "The dike holds."})
    ingest(store, lone)
    write_files(lone, {"x.txt": "Another dike holds."})
    version = ingest(store, lone).version
    queries = store.registry.queries
    of_segment = Counter(one.segment_id for one in queries.documents("minerals"))
    assert [of_segment[one.id] > 0 for one in queries.chain(version)] == [True, False, True]
    gone = queries.documents("minerals", split="train", kind="text")[0].document_id
    done = store.erase("minerals", gone, wait=True)
    chain = queries.chain(done.version)
    holders = {one.segment_id for one in queries.documents("minerals")}
    assert (done.num_pending, {row.id for row in chain}) == (0, holders)


def test_a_domain_is_not_emptied(store, tmp_path):
    folder = write_files(tmp_path / "two", {"x.txt": "The dike holds.", "y.txt": "Mica is soft."})
    store.ingest("minerals", folder, settings=replace(SETTINGS, hold_out_percent=0))
    erased = store.registry.queries.documents("minerals")[1]
    store.erase("minerals", erased.document_id)
    (folder / "x.txt").unlink()
    with pytest.raises(StateError, match="nothing of 'minerals' would be left; remove it"):
        ingest(store, folder, prune=True)
