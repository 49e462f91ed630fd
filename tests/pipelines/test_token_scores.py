"""Stored scores: by what a purge finds them, and the list of held-out documents."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tiny_base import make_tiny_store, sentences, tiny_settings, write_corpus

from peer_cl.errors import DamageError
from pipelines import open_store, tokenise
from pipelines.background import BackgroundSource
from pipelines.evaluate import version_branch
from pipelines.loading import empty_model, load_store_base
from pipelines.token_scores import Item, ScoreBook
from stores import patience
from stores.schema import ScoreRow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("scores"), domains=("law",))


def items_of(store, texts, document_id=None):
    _, tokenizer = store.load_base()
    return [Item(tuple(ids), document_id) for ids in tokenise(tokenizer, texts)]


def scores_of(store, text, document_id=None):
    """Return the documents that the scores of a text are of."""
    (item,) = items_of(store, [text], document_id)
    query = select(ScoreRow.document_id)
    query = query.where(ScoreRow.document_key.in_([item.key, item.ask_key]))
    with store.registry._database.reading() as session:
        return list(session.scalars(query))


def held_out(store, domain):
    documents = store.registry.documents(domain, split="test", kind="text")
    return {document.document_id: store.registry.document_text(document) for document in documents}


def shown(store, domain):
    version = store.registry.live().state(domain).version
    return [found.document_id for found in store.registry.held_out_scores(version)]


def evaluated(store, *texts):
    source = [BackgroundSource("letters", "prose", list(texts))] if texts else False
    return store.evaluate(background=source, with_recall=False)


def texts_of(corpus):
    return [json.loads(line)["text"] for line in corpus.read_text().splitlines()]


def test_a_background_text_that_is_a_held_out_document_goes_with_it(store):
    (document_id, text), *_ = held_out(store, "law").items()
    evaluated(store, text, *sentences("prose", 3, seed=3))
    assert scores_of(store, text, document_id) == [document_id] * 3  # the base's, and two of law's
    assert scores_of(store, text) == [None] * 3
    store.roll_back("law", out=True)
    store.purge("law")
    assert scores_of(store, text, document_id) == scores_of(store, text) == []


@pytest.mark.parametrize("is_evaluated", [True, False])
def test_background_text_that_a_domain_learns_later_leaves_nothing(store, tmp_path, is_evaluated):
    corpus = write_corpus(tmp_path / "minerals.jsonl", "minerals", num=24)
    texts = texts_of(corpus)
    evaluated(store, *texts)
    assert all(scores_of(store, text) == [None] * 3 for text in texts)
    store.ingest("minerals", corpus, settings=tiny_settings())
    own = held_out(store, "minerals")
    if is_evaluated:
        evaluated(store, *texts)
        assert sorted(shown(store, "minerals")) == sorted(own)
    store.roll_back("minerals", out=True)
    store.purge("minerals")
    for document_id, text in own.items():
        assert scores_of(store, text, document_id) == []
    assert [text for text in texts if scores_of(store, text)] == []
    evaluated(store, *texts[:2])  # law's, and the background that is given, are scored again
    assert sorted(shown(store, "law")) == sorted(held_out(store, "law"))


def test_documents_that_begin_alike_have_scores_each(store):
    """Where a text is cut, another one may have the same tokens."""
    registry = store.registry
    version = registry.live().state("law").version
    first, second, *_ = held_out(store, "law")
    (item,) = items_of(store, sentences("law", 1, seed=11), first)
    alike = [item, replace(item, document_id=second), replace(item, document_id=None)]
    model = empty_model(registry, load_store_base(registry))
    book = ScoreBook(registry, model, [version_branch(registry, model, "law", version)])
    book.fill(alike, "", lambda *_: None)
    model.detach()
    found = registry.held_out_scores(version)
    assert sorted(one.document_id for one in found) == sorted([first, second])
    assert found[0].log_probs.tolist() == found[1].log_probs.tolist()
    with registry._database.reading() as session:
        assert len(set(session.scalars(select(ScoreRow.document_key)))) == 6


@pytest.fixture
def older(store, monkeypatch):
    """A store of before: a score's key is of its tokens alone; one document's base scores came as
    background's."""
    report = evaluated(store, *sentences("prose", 3, seed=3))
    with store.registry._database.writing() as session:
        for number, (document_id, text) in enumerate(held_out(store, "law").items()):
            (item,) = items_of(store, [text], document_id)
            for old, new in item.shared_keys().items():
                query = update(ScoreRow).where(ScoreRow.document_key == new)
                session.execute(query.values(document_key=old))
                if not number:
                    query = update(ScoreRow).where(ScoreRow.document_key == old)
                    query = query.where(ScoreRow.subject == "base")
                    session.execute(query.values(document_id=None))
    return report


def rows_of(store):
    with store.registry._database.reading() as session:
        query = select(ScoreRow.subject, ScoreRow.document_key, ScoreRow.document_id)
        return sorted(tuple(map(str, row)) for row in session.execute(query))


def test_scores_of_before_are_taken_over_and_completed(store, older, monkeypatch):
    first, *others = held_out(store, "law")
    assert sorted(shown(store, "law")) == sorted(others)
    assert evaluated(store, *sentences("prose", 3, seed=3))["mixture"] == [
        {name: pytest.approx(value) for name, value in row.items()} for row in older["mixture"]
    ]
    assert sorted(shown(store, "law")) == sorted([first, *others])
    before = rows_of(store)
    from pipelines import token_scores

    def refuse(*_, **__):
        raise DamageError("a forward was run again")

    monkeypatch.setattr(token_scores, "run_base", refuse)
    evaluated(store, *sentences("prose", 3, seed=3))
    assert rows_of(store) == before


def test_no_document_is_read_again_whose_scores_are_of_before(store, older, monkeypatch):
    from pipelines import token_scores

    read = []
    compute = ScoreBook._compute

    def watch(book, batch):
        read.extend(item.document_id for item in batch)
        return compute(book, batch)

    monkeypatch.setattr(token_scores.ScoreBook, "_compute", watch)
    first, *_ = held_out(store, "law")
    evaluated(store, *sentences("prose", 3, seed=3))
    assert read == [first]


def test_a_purge_of_scores_of_before_leaves_none_of_a_document(store, older):
    texts = held_out(store, "law")
    assert scores_of(store, next(iter(texts.values()))).count(None) == 1
    store.roll_back("law", out=True)
    store.purge("law")
    assert rows_of(store) == []


def test_scores_are_kept_though_another_process_writes_for_long(store, monkeypatch):
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    path, told = store.registry.layout.database, []
    with (
        open_store(store.registry.folder) as mine,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):

        def progress(what, done, total, note):
            told.append(note)
            if "has been busy" in note:
                other.execute("ROLLBACK")

        other.execute("BEGIN IMMEDIATE")
        report = mine.evaluate(progress, background=False, with_recall=False)
    assert sum("has been busy" in note for note in told) == 1
    assert store.registry.evaluation(report["snapshot"]) == report
