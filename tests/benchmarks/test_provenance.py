"""What switching rows off takes from documents: all of a gain with all rows, nothing with none."""

import sqlite3
from contextlib import closing

import pytest
import torch
from tiny_base import make_tiny_store

from benchmarks import provenance
from pipelines import open_store

MOST = 10**6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("learned"), ("law",))


@pytest.fixture(scope="module")
def store(folder):
    with open_store(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def scorer(store):
    model, tokenizer = store.load()
    yield provenance.Scorer(store, model, tokenizer, "law")
    model.detach()


@pytest.fixture(scope="module")
def documents(store):
    return provenance.drawn(store.registry.documents("law", split="train", kind="text"), 4)


@pytest.fixture(scope="module")
def samples(scorer, documents):
    return scorer.samples(documents)


def every_row(scorer):
    return [
        (segment_id, layer, row)
        for segment_id, segment in scorer.segments.items()
        for layer in segment.host_layers
        for row in range(segment.shape.num_experts)
    ]


def of_each(samples, rows):
    return {one.document.document_id: rows for one in samples}


def weights(scorer):
    return {
        (name, key): tensor.clone()
        for name, segment in scorer.segments.items()
        for key, tensor in segment.state_dict().items()
    }


def test_a_learned_document_is_likelier_to_its_pool(samples):
    assert all(one.nats < one.base_nats for one in samples)


def test_all_rows_take_the_whole_gain_and_none_take_nothing(scorer, samples):
    assert scorer.switched_off(samples, samples, of_each(samples, [])) == (0.0, 0.0)
    own, others = scorer.switched_off(samples, samples, of_each(samples, every_row(scorer)))
    assert own == pytest.approx(1.0, abs=1e-4)
    assert others == pytest.approx(1.0, abs=1e-4)


def test_what_was_switched_off_is_on_again(scorer, samples):
    before = weights(scorer)
    scorer.switched_off(samples, samples, of_each(samples, every_row(scorer)[:50]))
    after = weights(scorer)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_document_is_not_among_the_others_that_are_watched(scorer, samples):
    (first, second, *_), every = samples, every_row(scorer)
    own, others = scorer.switched_off([first], [first, second], of_each([first], every[:90]))
    alone, of_second = scorer.switched_off([first], [second], of_each([first], every[:90]))
    assert (own, others) == pytest.approx((alone, of_second), abs=1e-6)


def test_each_way_names_different_rows_and_the_gradient_the_costliest(scorer, samples):
    named = [scorer.named(one, 12) for one in samples]
    assert all(len(set(rows)) == 12 for ways in named for rows in ways.values())
    taken = {
        how: scorer.switched_off(
            samples,
            samples,
            {one.document.document_id: ways[how] for one, ways in zip(samples, named, strict=True)},
        )[0]
        for how in named[0]
    }
    assert taken["gradient"] == max(taken.values())
    assert taken["gradient"] > taken["random"]


def test_documents_are_drawn_alike_whatever_their_order(store):
    found = store.registry.documents("law", split="train", kind="text")
    assert provenance.drawn(found, 5) == provenance.drawn(found[::-1], 5)
    assert provenance.drawn(found, 5) != provenance.drawn(found, 5, salt=1)
    assert len(provenance.drawn(found, MOST)) == len(found)


def test_bytes_are_those_of_the_learned_documents(store, folder):
    own, inverse = provenance._bytes(folder / "registry.sqlite")
    with closing(sqlite3.connect(folder / "registry.sqlite")) as connection:
        sizes = [n for (n,) in connection.execute("SELECT length(rows) FROM document_uses")]
    num = len(store.registry.documents("law", split="train"))
    assert own.value == round(sum(sizes) / num)
    assert inverse.value > 0


def test_a_search_names_rows_that_fire_more_often_than_chance(store, scorer, documents):
    told = {"model": scorer.model, "tokenizer": scorer.tokenizer, "domains": ["law"]}
    text = store.registry.document_text(documents[0])
    num_experts = next(iter(scorer.segments.values())).shape.num_experts
    assert 10 / num_experts < provenance._recall_of_rows(store, told, text) <= 1.0


def test_ten_are_the_heaviest_and_of_equals_the_first():
    assert provenance._ten(dict.fromkeys(range(12), 1.0)) == set(range(10))
    assert provenance._ten({3: 0.1, 5: 0.9}) == {3, 5}
