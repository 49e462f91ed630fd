"""Exact erasure: what it takes, what it leaves, what it refuses."""

from dataclasses import replace

import pytest
import torch
from tiny_base import background
from tiny_store import FACTS, OWNER, SETTINGS, documents, store_logits

from peer_cl.errors import (
    CorpusError,
    FrozenError,
    InputError,
    StateError,
    UnknownError,
    UnsupportedError,
)
from pipelines import init_store
from pipelines.corpora import SourceDocument
from pipelines.encoder import MINILM
from pipelines.growing import shard_of
from pipelines.loading import load_pool, store_identity
from pipelines.recall import answer, questions
from pipelines.settings import RECIPE

MORE_FACTS = tuple(OWNER.fact(f"garden {number}", "court") for number in range(2))
TEXT = "The court of appeal held that the fever was void"


def ids_of(store, domain):
    return {one.document_id for one in store.registry.queries.documents(domain)}


def test_a_document_goes_and_the_rest_stays(store):
    queries = store.registry.queries
    store.ingest("law", documents("law", 6, 9), facts=FACTS, settings=SETTINGS)
    before, others = ids_of(store, "law"), queries.live().state("medicine")
    first = queries.chain(queries.live().state("law").version)[0]
    gone = documents("law", 6, 9)[2].document_id
    done = store.erase("law", gone, "asked for", wait=True)
    assert (done.num_kept, done.num_pending, done.num_dropped) == (1, 0, 0)
    assert done.document_ids == (gone,)
    assert ids_of(store, "law") == before - {gone}
    assert queries.live().state("medicine") == others
    assert queries.chain(done.version)[0] == first
    event = queries.events(1)[0]
    assert (event.action, event.message, event.author) == ("erase", "asked for", "ann")
    assert queries.erased("law").keys() == {gone}
    (run, *_) = queries.runs(1)
    assert (run.kind, run.state, run.snapshot_id) == ("erase", "done", done.snapshot_id)


def test_a_stopped_training_goes_on_without_the_documents_that_are_gone(store):
    def interrupt(what, done, total, note):
        if what == "training" and done:
            raise KeyboardInterrupt

    queries = store.registry.queries
    gone = queries.documents("law", split="train", kind="text")[0].document_id
    with pytest.raises(KeyboardInterrupt):
        store.erase("law", gone, wait=True, progress=interrupt)
    assert gone not in ids_of(store, "law")
    assert queries.pending(["law"]) == ("law",)
    with pytest.raises(UnknownError, match="holds no document"):
        store.erase("law", gone, wait=True)
    assert store.erase("law", [], wait=True).num_pending == 0


def test_a_facts_questions_go_with_it(store):
    store.ingest("law", documents("law", 3, 9), facts=FACTS, settings=SETTINGS)
    before = ids_of(store, "law")
    done = store.erase("law", FACTS[1].document_id)
    left = store.registry.queries.documents("law", kind="question")
    assert {one.title for one in left} == {FACTS[0].subject, FACTS[2].subject}
    assert len(ids_of(store, "law")) == len(before) - 2
    assert done.document_ids == (FACTS[1].document_id,)


def own_experts(store, domain):
    """Return a domain's own experts and keys as bytes, by document id."""
    registry = store.registry
    own = load_pool(registry, domain, registry.queries.live().state(domain).version).own_experts()
    identity = store_identity(registry)
    return {
        item.item_id: one.at([place]).to_bytes(identity)
        for one in own
        for place, item in enumerate(one.items)
    }


def kept(store, segment, gone):
    """Return what a store keeps of a segment, but for facts' experts and a fact's documents."""
    found = [one for one in store.registry.queries.documents("law") if one.segment_id == segment.id]
    found = [one for one in found if one.document_id != gone.document_id]
    return {
        "objects": {name: key for name, key in segment.objects.items() if "facts" not in name},
        "training": (segment.config, segment.losses, segment.seconds, segment.run_id),
        "documents": [replace(one, segment_id="") for one in found if one.title != gone.subject],
    }


@pytest.fixture
def grown(store):
    """Let law learn texts and facts twice more; return the segments."""
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("law", documents("law", 6, 9), facts=FACTS, settings=settings)
    store.ingest("law", documents("law", 5, 10), facts=MORE_FACTS, settings=settings)
    return store.registry.queries.domain("law").chain


def test_a_facts_erasure_changes_no_other_bit(store, grown):
    gone = FACTS[1]
    own, before = own_experts(store, "law"), [kept(store, one, gone) for one in grown]
    assert own.keys() >= {fact.document_id for fact in (*FACTS, *MORE_FACTS)}
    done = store.erase("law", gone.document_id)
    assert (done.num_kept, done.num_pending, done.num_dropped) == (1, 0, 0)
    chain = store.registry.queries.domain("law").chain
    assert [kept(store, one, gone) for one in chain] == before
    del own[gone.document_id]
    assert own_experts(store, "law") == own
    sizes = store.registry.objects.sizes()
    for one in chain[1:]:
        of_experts = [key for name, key in one.objects.items() if "." in name and "use" not in name]
        assert one.size_bytes == sum(sizes[key] for key in of_experts)
    model, tokenizer = store.load()
    asked = questions(tokenizer, "law", (*FACTS, *MORE_FACTS))[:5]
    assert [one.routed for one in answer(model, asked)] == [True, False, True, True, True]
    trace = store.trace(gone.taught_prompt, model=model, tokenizer=tokenizer)
    assert trace.items == []


def test_a_text_is_gone_at_once_and_its_shard_is_trained_anew_later(store, grown):
    queries, told = store.registry.queries, []
    own, facts = own_experts(store, "law"), losses_of_facts(store)
    texts = queries.documents("law", split="train", kind="text")
    gone = next(one.document_id for one in texts if one.segment_id == grown[1].id)
    shard = shard_of(gone, 2)
    other = 1 - shard
    done = store.erase("law", gone)
    assert done.num_pending == 2
    assert queries.pending(["law", "medicine"]) == ("law",)
    del own[gone]
    assert own_experts(store, "law") == own
    chain = queries.domain("law").chain
    assert [one.pending_shards for one in chain] == [(), (shard,), (shard,)]
    for new, old in zip(chain, grown, strict=True):
        kept_shard = f"shared.{other}"
        assert new.objects.get(kept_shard) == old.objects.get(kept_shard)
    store.load()

    done = store.erase("law", (), wait=True, progress=lambda what, *_: told.append(what))
    assert not done.num_pending
    assert not {"learning facts", "learning passages"} & set(told)
    assert own_experts(store, "law") == own
    assert losses_of_facts(store) == facts
    chain = queries.domain("law").chain
    for new, old in zip(chain[1:], grown[1:], strict=True):
        assert new.objects.get(f"shared.{other}") == old.objects.get(f"shared.{other}")
        assert new.objects[f"shared.{shard}"] != old.objects[f"shared.{shard}"]


def test_the_next_ingest_trains_what_waits(store, grown):
    queries = store.registry.queries
    texts = queries.documents("law", split="train", kind="text")
    store.erase("law", next(one.document_id for one in texts if one.segment_id == grown[1].id))
    store.ingest("law", documents("law", 5, 11), settings=SETTINGS)
    assert queries.pending(["law"]) == ()
    with pytest.raises(InputError, match="no document is named"):
        store.erase("law", (), wait=True)


def losses_of_facts(store):
    return {one.document_id: (one.base_nats, one.nats) for one in learned_facts(store)}


def learned_facts(store):
    return store.registry.queries.documents("law", kind="fact")


def test_later_ingests_leave_out_and_report_what_was_erased(store):
    corpus = documents("minerals", 6, 1)
    store.ingest("minerals", corpus, facts=FACTS, settings=SETTINGS)
    gone = {corpus[0].document_id, FACTS[0].document_id}
    for document_id in gone:
        store.erase("minerals", document_id)
    again = [*corpus, *documents("minerals", 3, 2)]
    report = store.ingest("minerals", again, facts=FACTS, settings=SETTINGS)
    assert set(report.erased_ids) == gone
    assert not gone & ids_of(store, "minerals")
    with pytest.raises(CorpusError, match="1 document erased from it before"):
        store.ingest("minerals", corpus[:1], settings=SETTINGS)


def test_near_duplicates_that_stay_are_named(store):
    corpus = documents("minerals", 6, 1)
    near = SourceDocument(corpus[0].text.rsplit(" ", 1)[0], "near", "near.txt")
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("minerals", corpus, settings=settings)
    store.ingest("minerals", [near], settings=settings)
    done = store.erase("minerals", corpus[0].document_id)
    assert done.near_ids == (near.document_id,)
    assert near.document_id in ids_of(store, "minerals")


def test_what_says_the_same_as_an_erased_fact_is_named(store):
    says = SourceDocument("The tenant of house 1 went to court.", "says it", "a.txt")
    names = SourceDocument("The owner of house 1 is rich.", "names it", "a.txt")
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("minerals", [says, names], facts=FACTS, settings=settings)
    assert store.erase("minerals", FACTS[1].document_id).near_ids == (says.document_id,)


def test_a_segment_of_which_nothing_is_left_goes(store):
    settings = replace(SETTINGS, hold_out_percent=0)
    before = store_logits(store, TEXT)
    only = documents("law", 1, 9)
    store.ingest("law", only, settings=settings)
    done = store.erase("law", only[0].document_id)
    assert (done.num_kept, done.num_pending, done.num_dropped) == (1, 0, 1)
    assert torch.equal(store_logits(store, TEXT), before)
    store.ingest("minerals", documents("minerals", 1, 1), settings=settings)
    with pytest.raises(StateError, match="nothing of 'minerals' would be left"):
        store.erase("minerals", documents("minerals", 1, 1)[0].document_id)


def test_stated_splits_hold_when_a_segment_is_trained_again(store):
    corpus = [
        replace(one, split="test" if number < 3 else "train")
        for number, one in enumerate(documents("minerals", 8, 1))
    ]
    store.ingest("minerals", corpus, settings=SETTINGS)
    store.erase("minerals", corpus[7].document_id, wait=True)
    found = store.registry.queries.documents("minerals")
    splits = {one.document_id: one.split for one in found}
    assert splits == {one.document_id: one.split for one in corpus[:7]}


def test_what_cannot_be_erased_is_named(store):
    queries = store.registry.queries
    store.ingest("law", documents("law", 3, 9), facts=FACTS, settings=SETTINGS)
    held = queries.documents("law", kind="text")[0].document_id
    question = queries.documents("law", kind="question")[0].document_id
    live = queries.live()
    with pytest.raises(UnknownError, match="holds no document " + "0" * 64):
        store.erase("law", [held, "0" * 64])
    with pytest.raises(InputError, match="which go with the fact"):
        store.erase("law", question)
    with pytest.raises(InputError, match="no document is named"):
        store.erase("law", [])
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        store.erase("lew", held)
    assert queries.live() == live
    store.freeze("law")
    with pytest.raises(FrozenError, match="'law' is frozen"):
        store.erase("law", held)
    store.disable("law")
    with pytest.raises(StateError, match="'law' is disabled"):
        store.erase("law", held)


def test_settings_of_another_recipe_are_refused_before_any_work(store, monkeypatch):
    held = store.registry.queries.documents("law", split="train")[0].document_id
    monkeypatch.setattr("pipelines.settings.RECIPE", RECIPE + 1)
    with pytest.raises(StateError, match=f"of recipe {RECIPE}, this version"):
        store.erase("law", held, wait=True)


def test_without_texts_nothing_can_be_trained_again(store, tmp_path):
    base = store.registry.config.base_id
    with init_store(
        tmp_path / "bare",
        base=base,
        encoder=MINILM,
        background=background(),
        keep_text=False,
        author="ann",
    ) as bare:
        report = bare.ingest("law", documents("law", 4, 1), settings=SETTINGS)
        assert report.num_documents["train"]
        (held, *_) = bare.registry.queries.documents("law")
        with pytest.raises(UnsupportedError, match="keeps no texts"):
            bare.erase("law", held.document_id)
