"""What an unfinished run is known again by, and that none is done in vain."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.errors import FrozenError, PeerError, StateError
from pipelines import growing, ingest, open_store
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.loading import empty_model, load_store_base
from pipelines.preparing import prepare, read_chain
from stores import Registry

OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("grown"), domains=())


def test_a_checkpoint_is_gone_on_from_only_where_the_same_documents_are_held_out(store):
    registry, base = store.registry, load_store_base(store.registry)
    chain = read_chain(registry, "minerals", (), base)
    texts = sentences("minerals", 30, seed=3)
    apart = [SourceDocument(text, "a title", "m.jsonl") for text in texts]
    tied = [replace(one, section_of=f"m.jsonl#{n // 6}") for n, one in enumerate(apart)]
    one, again, two = (prepare(chain, it, (), base) for it in (apart, apart, tied))
    assert one.splits == again.splits != two.splits
    assert [d.document_id for d in one.documents] == [d.document_id for d in two.documents]
    paths = [growing._checkpoint(registry, chain, it, tiny_settings()) for it in (one, again, two)]
    assert paths[0] == paths[1] != paths[2]


def test_a_checkpoint_is_of_one_chain_corpus_and_way_of_training(store):
    registry, base = store.registry, load_store_base(store.registry)
    chain, settings = read_chain(registry, "minerals", (), base), tiny_settings()
    documents = [SourceDocument(text, "a title", "m") for text in sentences("minerals", 9, seed=3)]
    fact = OWNER.fact("house 1", "rent")
    asked_else = replace(fact, reworded_prompts=("Whose is house 1?",))
    learned, other = (prepare(chain, documents, [one], base) for one in (fact, asked_else))
    first, *_ = learned.of("train", ("text",))
    reworded = replace(learned, rewordings={first.document_id: ("In other words.",)})
    model = empty_model(registry, base)
    one, two = (replace(chain, segments=(model.new_segment(settings.shape),)) for _ in range(2))
    model.detach()
    assert other.facts.keys() == learned.facts.keys()
    runs = [
        (chain, learned, settings),
        (replace(chain, domain="law"), learned, settings),
        (one, learned, settings),
        (two, learned, settings),
        (chain, other, settings),
        (chain, reworded, settings),
        (chain, learned, replace(settings, seed=settings.seed + 1)),
    ]
    paths = [growing._checkpoint(registry, *run) for run in runs]
    assert len(set(paths)) == len(runs)
    assert [growing._checkpoint(registry, *run) for run in runs] == paths


@pytest.mark.parametrize("why", ["frozen", "full"])
def test_nothing_is_trained_for_a_domain_that_may_not_grow(store, monkeypatch, why):
    documents = [SourceDocument(text, "a title", "m") for text in sentences("minerals", 9, seed=3)]
    for name in ("law", "medicine"):
        store.ingest(name, documents, settings=tiny_settings())
    store.freeze("law")
    filled = replace(store.registry.config, capacity=2)
    monkeypatch.setattr(store.registry, "config", filled)
    read = []
    monkeypatch.setattr(ingest, "load_store_base", read.append)
    expected: type[PeerError] = FrozenError if why == "frozen" else StateError
    with pytest.raises(expected, match="is frozen" if why == "frozen" else "the store is full"):
        store.ingest("law" if why == "frozen" else "chemistry", documents[:4])
    assert read == [], "not even the base is read"


@pytest.mark.parametrize("act", ["add_segment", "regrow"])
def test_what_was_trained_waits_for_a_busy_registry(store, monkeypatch, act):
    documents = [SourceDocument(text, "a title", "m") for text in sentences("minerals", 9, seed=3)]
    store.ingest("minerals", documents, settings=tiny_settings())
    gone, *_ = (d.document_id for d in store.registry.documents("minerals", split="train"))
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    commit, tries, told = getattr(Registry, act), [], []
    with (
        open_store(store.registry.folder) as mine,
        closing(sqlite3.connect(mine.registry.layout.database, isolation_level=None)) as other,
    ):

        def committed(*parts, **named):
            other.execute("ROLLBACK" if tries else "BEGIN IMMEDIATE")
            tries.append(parts)
            return commit(*parts, **named)

        def tell(what, done, total, note):
            told.append((what, str(note)))

        monkeypatch.setattr(Registry, act, committed)
        before = mine.registry.live().id
        if act == "regrow":
            mine.erase_exact("minerals", [gone], tell)
        else:
            mine.ingest("law", documents, settings=tiny_settings(), progress=tell)
        assert mine.registry.live().id == before + 1
    assert len(tries) == 2
    (why,) = [note for what, note in told if what == "registering"]
    assert "has been busy" in why
