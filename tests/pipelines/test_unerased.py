"""What was erased exactly is neither learned again nor brought back unasked, on a tiny base."""

import pytest
import torch
from tiny_base import copy_store, make_tiny_store, sentences, store_logits

from peer_cl import PoolShape
from peer_cl.errors import CorpusError, StateError
from pipelines import TrainingSettings, open_store
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.previewing import preview
from pipelines.verify import verify

SETTINGS = TrainingSettings(
    shape=PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16), text_passes=2.0
)
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]


def texts(subject, num, seed):
    return [SourceDocument(t, f"{subject} {seed}", "s") for t in sentences(subject, num, seed=seed)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store whose law has two segments."""
    place = make_tiny_store(tmp_path_factory.mktemp("unerased"))
    with open_store(place, who="ann") as store:
        store.ingest("law", texts("law", 16, 5), facts=FACTS, settings=SETTINGS)
    return place


def bits(store):
    return store_logits(store, "The court held that the tenant owed no rent")


def chain(store):
    return store.registry.chain(store.registry.live().state("law").version)


def learned(store, segment=0):
    """Return the ids of the trained texts of one segment of law."""
    wanted = chain(store)[segment].id
    found = store.registry.documents("law", split="train", kind="text")
    return [document.document_id for document in found if document.segment_id == wanted]


def test_what_was_erased_is_not_learned_again_unasked(store, tmp_path):
    registry = store.registry
    target, fact = learned(store, segment=1)[0], FACTS[1].document("").document_id
    (found,) = [d for d in registry.documents("law") if d.document_id == target]
    again = SourceDocument(registry.document_text(found), "Again", "again")
    store.erase_exact("law", [target])
    store.erase_exact("law", [fact])
    assert registry.erased.count("law") == 2, "of a fact's questions none is counted"
    with pytest.raises(CorpusError, match=r"is left out \(2 documents\).*--learn-erased"):
        store.ingest("law", [again], facts=[FACTS[1]], settings=SETTINGS)
    file = tmp_path / "again.txt"
    file.write_text(f"\r\n{again.text}  ", encoding="utf-8")
    told = preview(store, "law", file)
    assert (told.num_erased, told.num_new, told.num_known) == (1, 0, 0)
    asked = preview(store, "law", file, learn_erased=True)
    assert (asked.num_erased, asked.num_new) == (0, 1)
    new = texts("law", 6, 77)
    said = {again.document_id: ("In other words.",)}
    report = store.ingest("law", [again, *new], rewordings=said, settings=SETTINGS)
    assert (report.num_erased, report.num_duplicates) == (1, 0)
    assert sum(report.num_documents.values()) == len(new)
    assert target not in registry.known_documents("law")
    elsewhere = store.ingest("minerals", [again, *texts("minerals", 6, 3)], settings=SETTINGS)
    assert elsewhere.num_erased == 0, "it was erased from law alone"
    report = store.ingest("law", [again], settings=SETTINGS, learn_erased=True)
    assert report.num_erased == 0
    assert target in registry.known_documents("law")
    assert registry.erased.count("law") == 1
    assert store.ingest("law", texts("law", 6, 78), settings=SETTINGS).num_erased == 0
    assert verify(store).is_good


def test_a_folder_that_is_given_again_makes_the_domain_of_one_without_the_erased(store, tmp_path):
    other = copy_store(store.registry.folder, tmp_path / "never")
    target = learned(store, segment=1)[0]
    (found,) = [d for d in store.registry.documents("law") if d.document_id == target]
    again = SourceDocument(store.registry.document_text(found), "Again", "again")
    new = texts("law", 8, 79)
    store.erase_exact("law", [target])
    store.ingest("law", [*new, again], settings=SETTINGS)
    with open_store(other, who="ann") as never:
        never.erase_exact("law", [target])
        never.ingest("law", new, settings=SETTINGS)
        assert [row.pool_object for row in chain(store)] == [
            row.pool_object for row in chain(never)
        ]


def test_an_erased_document_comes_back_only_on_purpose(store):
    registry = store.registry
    full, target = registry.live(), learned(store, segment=1)[0]
    before = bits(store)
    store.erase_exact("law", [target])
    erased = registry.live()
    with pytest.raises(StateError, match=rf"snapshot {full.id} holds a document .*{target[:12]}"):
        store.restore(full.id)
    assert registry.live() == erased
    assert store.restore(full.id, with_erased=True).domains == full.domains
    assert torch.equal(bits(store), before)
    with pytest.raises(CorpusError, match="its live version has all of it: 1 text"):
        store.ingest("law", [_again(store, target)], settings=SETTINGS)
    store.restore(erased.id)
    with pytest.raises(CorpusError, match=r"was erased from it exactly is left out \(1 document\)"):
        store.ingest("law", [_again(store, target)], settings=SETTINGS)
    store.purge("law", retired=True)
    assert target not in {d.document_id for d in registry.documents("law")}
    assert registry.erased.among("law", [target]) == {target}
    assert store.registry.holders([target]) == set()


def _again(store, document_id):
    (place, *_) = store.registry.document_places(document_id)
    return SourceDocument(store.registry.document_text(place.document), "Again", "again")


def test_a_mask_can_be_rolled_back_as_ever(store):
    full = store.registry.live()
    store.erase_masked("law", learned(store, 0)[:1], num_rows=10)
    assert store.restore(full.id).domains == full.domains
    assert store.registry.erased.count("law") == 0


def test_what_is_learned_again_above_a_mask_that_stays_stands_on_the_masked_chain(store):
    """A mask below the segment that is trained anew is kept as it is, with the rows it takes."""
    masked = learned(store, segment=0)[0]
    store.erase_masked("law", [masked], num_rows=10)
    store.ingest("law", texts("law", 8, 9), settings=SETTINGS)
    first, second, mask, third = chain(store)
    gone = [d for d in store.registry.documents("law", split="train") if d.segment_id == third.id]
    report = store.erase_exact("law", [gone[0].document_id])
    assert (report.num_kept, report.num_retrained, report.unmasked_ids) == (2, 1, ())
    assert chain(store)[:3] == (first, second, mask)
    assert chain(store)[3].parent_id == mask.id
    assert verify(store).is_good
