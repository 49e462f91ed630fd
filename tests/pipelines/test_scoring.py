"""Scores are computed once, and say what the model itself says."""

import numpy as np
import pytest
import torch
from tiny_base import sentences
from tiny_store import FACTS, SETTINGS

from peer_cl.read import read
from pipelines.batches import tokenise
from pipelines.progress import no_progress
from pipelines.scoring import ScoreBook, ScoredText, mixed
from stores.records import BASE_SUBJECT


@pytest.fixture
def opened(store):
    model, tokenizer = store.load()
    return store.registry, model, tokenizer


def texts(tokenizer, num=3, seed=21):
    rows = tokenise(tokenizer, sentences("law", num, seed=seed))
    return [ScoredText(tuple(ids)) for ids in rows]


def versions(registry, *names):
    live = registry.queries.live()
    return {name: live.state(name).version for name in names}


def test_scores_are_those_of_reading_each_text_alone(opened):
    registry, model, tokenizer = opened
    own = versions(registry, "medicine", "law")  # the model has them in another order
    book, items = ScoreBook(registry, model, own), texts(tokenizer)
    book.fill(items, "scoring", no_progress)
    for item in items:
        ids = torch.tensor([item.ids])
        oracle = read(model, ids, routing="all")
        for branch, subject in enumerate((BASE_SUBJECT, own["law"], own["medicine"])):
            expected = oracle.log_probs_QBT[branch, 0, 1:].numpy()
            np.testing.assert_allclose(book.log_probs(subject, item), expected, atol=1e-5)
        stacked = book.stack(list(own.values()), item)
        expected = oracle.mixture_BT[0, 1:].numpy()
        np.testing.assert_allclose(mixed(stacked, model.prior).numpy(), expected, atol=1e-5)
        for lengths, found in (
            (None, book.is_found),
            (torch.tensor([item.num_first_half]), book.is_found_by_half),
        ):
            routed = read(model, ids, routing="prompt", prompt_lengths=lengths).domains
            assert {name for name, version in own.items() if found(version, item)} == {*routed}


def test_facts_are_found_in_the_texts_that_ask_for_one_by_the_whole_and_by_half(store):
    store.ingest("houses", [], facts=FACTS, settings=SETTINGS)
    model, tokenizer = store.load()
    version = store.registry.queries.live().state("houses").version
    statements = [fact.statement for fact in FACTS]
    (law,) = sentences("law", 1, seed=21)
    some = [*statements, f"{statements[1]} {law}", law]
    items = [ScoredText(tuple(ids)) for ids in tokenise(tokenizer, some)]
    book = ScoreBook(store.registry, model, {"houses": version})
    book.fill(items, "scoring", no_progress)
    found = []
    for item in items:
        ids = torch.tensor([item.ids])
        half = read(model, ids[:, : item.num_first_half])
        found.append((book.is_found(version, item), book.is_found_by_half(version, item)))
        assert found[-1] == ("houses" in read(model, ids).domains, "houses" in half.domains)
        alone = read(model, ids, domains="houses")
        expected = alone.log_probs_QBT[1, 0, 1:].numpy()
        np.testing.assert_allclose(book.log_probs(version, item), expected, atol=1e-5)
    assert found[:1] == [(True, False)]
    assert found[3:] == [(True, True), (False, False)]


def test_only_what_is_missing_is_computed(opened):
    registry, model, tokenizer = opened
    read_rows = []

    class Watched(type(registry)):
        def put_scores(self, new):
            read_rows.extend((score.subject, score.document_key) for score in new)
            super().put_scores(new)

    registry.__class__ = Watched
    law = versions(registry, "law")
    some = texts(tokenizer, 2)
    ScoreBook(registry, model, law).fill(some, "scoring", no_progress)
    assert len(read_rows) == 4
    first = ScoreBook(registry, model, law)
    first.fill(some, "scoring", no_progress)
    assert len(read_rows) == 4
    every = ScoreBook(registry, model, versions(registry, "law", "medicine"))
    every.fill(texts(tokenizer, 3), "scoring", no_progress)
    assert len(set(read_rows)) == len(read_rows) == 4 + 2 + 3
    for item in some:
        assert np.array_equal(first.log_probs(law["law"], item), every.log_probs(law["law"], item))


def test_special_tokens_are_read_and_left_out(opened):
    registry, model, tokenizer = opened
    end = tokenizer.eos_token_id
    (ids,) = tokenise(tokenizer, [sentences("law", 1, seed=5)[0]])
    item = ScoredText((*ids[:4], end, *ids[4:]), special_ids=frozenset([end]))
    book = ScoreBook(registry, model, {})
    book.fill([item], "scoring", no_progress)
    reading = read(model, torch.tensor([item.ids]), domains=[])
    counted = reading.evidence_BT[0]
    assert not counted[4]
    expected = reading.log_probs_QBT[0, 0, counted].numpy()
    np.testing.assert_allclose(book.log_probs(BASE_SUBJECT, item), expected, atol=1e-5)


def test_two_documents_that_begin_alike_have_scores_of_their_own():
    one, other, background = (ScoredText((0, 5, 6), document_id=key) for key in ("a", "b", None))
    assert len({one.key, other.key, background.key}) == 3
    assert one.key == ScoredText((0, 5, 6), document_id="a").key
