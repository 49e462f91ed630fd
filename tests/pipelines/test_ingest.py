"""From a corpus to a snapshot that knows it, on a tiny base."""

from dataclasses import replace

import pytest
import torch
from tiny_base import sentences, write_corpus
from tiny_store import FACTS, SETTINGS, documents, store_logits

from peer_cl.errors import CorpusError, DamageError, FrozenError, InputError, StateError
from peer_cl.own import joined, load_own
from pipelines.corpora import SourceDocument
from pipelines.growing import group_of
from pipelines.loading import load_owns, store_identity

TEXT = "The court of appeal held that the fever was void"


def held_out(store, domain):
    found = store.registry.queries.documents(domain, kind="text")
    return [one for one in found if one.split != "train"]


def portrait(store):
    """Return what an act that failed must not have changed."""
    queries = store.registry.queries
    return queries.live(), queries.events(), queries.domains()


def test_a_domain_is_learned_and_its_documents_are_kept(store, tmp_path):
    corpus = write_corpus(tmp_path / "m.jsonl", "minerals")
    report = store.ingest("minerals", corpus, facts=FACTS, settings=SETTINGS, message="new")
    queries = store.registry.queries
    found = queries.documents("minerals")
    by_kind = {kind: [d for d in found if d.kind == kind] for kind in ("text", "fact", "question")}
    assert {d.split for d in by_kind["text"]} == {"train", "validation", "test"}
    assert {d.split for d in by_kind["fact"]} == {"train"}
    assert len(by_kind["question"]) == len(FACTS) == report.num_facts
    assert report.num_documents["train"] == report.num_learned_texts + len(FACTS)
    assert report.num_learned_texts + report.num_held_out_texts == 24
    assert report.label == "v1"
    assert queries.document_text(found[0]).endswith(".")
    before, after = report.mean_losses_nats["text"]
    assert after < before
    (segment,) = queries.chain(report.version)
    assert len(segment.losses) == report.num_steps
    (run, *_) = queries.runs(1)
    assert (run.kind, run.state, run.domain, run.message) == ("ingest", "done", "minerals", "new")
    assert (run.snapshot_id, run.id) == (report.snapshot_id, segment.run_id)
    assert 0 < run.losses[-1][0] < report.num_steps, "of the shard that was trained last"


def test_a_domain_grows_by_what_is_new(store, tmp_path):
    corpus = documents("law", 8, 9) * 2
    first = store.ingest("law", corpus, settings=SETTINGS)
    assert (first.label, first.num_duplicates) == ("v2", 8)
    more = store.ingest("law", [*corpus[:8], *documents("law", 6, 10)], settings=SETTINGS)
    assert (more.label, more.num_duplicates) == ("v3", 8)
    with pytest.raises(CorpusError, match=r"nothing new for 'law': 8 documents in its live"):
        store.ingest("law", corpus[:8], settings=SETTINGS)


def test_an_ingest_leaves_the_callers_random_numbers_alone(store):
    state = torch.random.get_rng_state()
    store.ingest("minerals", documents("minerals", 4, 1), settings=SETTINGS)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_held_out_stays_so_until_nothing_is_to_be(store):
    corpus = documents("minerals", 16, 1)
    store.ingest("minerals", corpus, settings=SETTINGS)
    held = held_out(store, "minerals")
    again = [one for one in corpus if one.document_id in {d.document_id for d in held}]
    with pytest.raises(CorpusError, match=rf"{len(held)} of them held out \(--hold-out 0"):
        store.ingest("minerals", again, settings=SETTINGS)
    report = store.ingest("minerals", again, settings=replace(SETTINGS, hold_out_percent=0))
    assert report.num_learned_texts == len(held)


def test_a_fact_that_was_held_out_as_a_text_is_learned(store):
    fact = FACTS[0]
    text = SourceDocument(fact.statement, "a text", "notes.txt", split="test")
    store.ingest("minerals", [*documents("minerals", 4, 1), text], settings=SETTINGS)
    assert fact.document_id in {one.document_id for one in held_out(store, "minerals")}
    report = store.ingest("minerals", [text], facts=FACTS, settings=SETTINGS)
    assert (report.num_facts, report.num_learned_texts) == (len(FACTS), 0)


def test_a_corpus_may_state_its_splits(store):
    corpus = [
        replace(one, split="test" if number < 3 else "train")
        for number, one in enumerate(documents("minerals", 8, 1))
    ]
    report = store.ingest("minerals", corpus, settings=SETTINGS)
    assert report.num_documents == {"test": 3, "train": 5}
    assert {one.document_id for one in held_out(store, "minerals")} == {
        one.document_id for one in corpus[:3]
    }


def test_a_near_duplicate_of_what_is_held_out_is_held_out(store):
    held = held_out(store, "law")[0]
    text = store.registry.queries.document_text(held)
    near = SourceDocument(text.rsplit(" ", 1)[0], "shorter", "law.txt")
    with pytest.raises(CorpusError, match="all are near-duplicates of documents that 'law' holds"):
        store.ingest("law", [near], settings=SETTINGS)


@pytest.mark.parametrize(
    ("domain", "corpus", "change", "error", "message"),
    [
        ("Law!", [], {}, InputError, "a domain cannot be called 'Law!'"),
        ("minerals", [], {"message": "\0"}, InputError, "message"),
        ("minerals", [], {}, CorpusError, "nothing new for 'minerals'"),
        ("minerals", [SourceDocument(" ", "", "")], {}, CorpusError, r"corpus\[0\] has no text"),
        ("minerals", "nowhere", {}, CorpusError, "nowhere"),
    ],
)
def test_a_refused_ingest_leaves_the_store_as_it_was(store, domain, corpus, change, error, message):
    before = portrait(store)
    with pytest.raises(error, match=message):
        store.ingest(domain, corpus, settings=SETTINGS, **change)
    assert portrait(store) == before


def test_frozen_domains_and_full_stores_are_refused_before_any_work(store):
    store.freeze("law")
    with pytest.raises(FrozenError, match="law"):
        store.ingest("law", "nowhere", settings=SETTINGS)
    for name in ("a", "b"):
        store.ingest(name, documents("minerals", 4, 1), settings=SETTINGS)
    with pytest.raises(StateError, match="the store is full"):
        store.ingest("c", "nowhere", settings=SETTINGS)


def test_a_failed_run_is_recorded_and_changes_nothing(store):
    before = portrait(store)
    with pytest.raises(DamageError, match="the loss became"):
        store.ingest(
            "minerals",
            documents("minerals", 8, 1),
            settings=replace(SETTINGS, expert_learning_rate=1e12),
        )
    assert portrait(store) == before
    (run, *_) = store.registry.queries.runs(1)
    assert run.state == "failed"
    assert "the loss became" in run.error


def test_ctrl_c_cancels_and_the_next_ingest_works(store):
    def interrupt(what, done, total, note):
        if what == "training" and done == 3:
            raise KeyboardInterrupt

    before = portrait(store)
    corpus = documents("minerals", 8, 1)
    with pytest.raises(KeyboardInterrupt):
        store.ingest("minerals", corpus, settings=SETTINGS, progress=interrupt)
    assert portrait(store) == before
    assert store.registry.queries.runs(1)[0].state == "cancelled"
    assert store.ingest("minerals", corpus, settings=SETTINGS).label == "v1"


def test_a_facts_experts_are_the_same_in_any_ingest_and_after_a_stop(store):
    def interrupt(what, done, total, note):
        if what == "learning facts" and done:
            raise KeyboardInterrupt

    registry, live = store.registry, store.registry.queries.live
    store.ingest("one", documents("minerals", 6, 1), facts=FACTS, settings=SETTINGS)
    store.ingest("two", [], facts=FACTS[2:], settings=SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        store.ingest("two", [], facts=FACTS[:2], settings=SETTINGS, progress=interrupt)
    store.ingest("two", [], facts=FACTS[:2], settings=SETTINGS)
    identity = store_identity(registry)
    whole, parts = (
        {
            item.item_id: own.at([place]).to_bytes(identity)
            for row in registry.queries.chain(live().state(name).version)
            for own in load_owns(registry, row, identity, ["facts"])
            for place, item in enumerate(own.items)
        }
        for name in ("one", "two")
    )
    assert whole == parts
    assert whole.keys() == {fact.document_id for fact in FACTS}
    assert not list(registry.staging.iterdir())


def test_a_corpus_of_one_file_is_learned_whole_though_nothing_is_left_to_measure(store, tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# One\n\n" + "\n\n# Two\n\n".join(sentences("minerals", 2, seed=3)))
    report = store.ingest("minerals", path, settings=SETTINGS)
    assert (report.num_learned_texts, report.num_held_out_texts) == (2, 0)


def test_long_documents_are_learned_in_pieces(store):
    text = " ".join(sentences("minerals", 12, seed=3))
    report = store.ingest(
        "minerals",
        [SourceDocument(text, "long", "long.txt")],
        settings=replace(SETTINGS, max_tokens=32, text_passes=1.0, hold_out_percent=0),
    )
    (document,) = store.registry.queries.documents("minerals")
    assert report.num_tokens >= document.num_tokens > 3 * 32
    assert torch.isfinite(store_logits(store, TEXT)).all()
    (segment,) = store.registry.queries.domain("minerals").chain
    own = joined(load_owns(store.registry, segment, store_identity(store.registry)))
    assert {item.item_id for item in own.items} == {document.document_id}
    assert len(own.items) >= document.num_tokens / 32, "each piece is a passage of its own"


def test_each_documents_own_experts_lie_in_its_group(store):
    settings = replace(SETTINGS, max_tokens=32, hold_out_percent=0)
    texts = documents("minerals", 12, 1)
    long = SourceDocument(" ".join(one.text for one in texts[:2]), "long", "long.txt")
    store.ingest("minerals", [*texts[2:], long], facts=FACTS, settings=settings)
    registry = store.registry
    (segment,) = registry.queries.domain("minerals").chain
    learned = registry.queries.documents("minerals", split="train")
    for kind, of_kind in (("facts", "fact"), ("passages", "text")):
        found = []
        for group, object_id in segment.objects_of(kind).items():
            own = load_own(registry.objects.read(object_id), store_identity(registry))
            assert {group_of(item.item_id) for item in own.items} == {group}
            found += [item.item_id for item in own.items]
        assert {*found} == {one.document_id for one in learned if one.kind == of_kind}
        assert (found.count(long.document_id) > 1) == (kind == "passages")


def test_a_domain_keeps_its_number_of_shards(store):
    live = store.registry.queries.live()
    with pytest.raises(InputError, match="num_shards is 3, and 'law' began with 2"):
        store.ingest("law", documents("law", 3, 9), settings=replace(SETTINGS, num_shards=3))
    assert store.registry.queries.live() == live
