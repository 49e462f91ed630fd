"""A trace is a view of what the model reads: weights, evidence, experts, and items."""

import pytest
import torch
from tiny_base import SUBJECTS
from tiny_store import FACTS

from peer_cl.errors import InputError, StateError, UnknownError
from peer_cl.read import read
from pipelines.batches import tokenise

TEXT = SUBJECTS["law"]


@pytest.fixture
def opened(store):
    return store, *store.load()


def test_weights_and_probabilities_are_those_of_reading_the_prompt(opened):
    store, model, tokenizer = opened
    reading = read(model, torch.tensor(tokenise(tokenizer, [TEXT])), routing="prompt")
    trace = store.trace(TEXT, model=model, tokenizer=tokenizer)
    assert trace.active == ["law"] == [*reading.domains]
    assert trace.weights["law"] == float(reading.posterior_QBU[1, 0, -1])
    assert trace.base_weight + trace.weights["law"] == pytest.approx(1.0)
    assert [t.log_prob for t in trace.tokens] == reading.mixture_BT[0, 1:].tolist()
    assert [t.base_log_prob for t in trace.tokens] == reading.base_BT[0, 1:].tolist()
    assert trace.evidence["law"] == pytest.approx(sum(t.evidence["law"] for t in trace.tokens))
    assert "".join(t.text for t in trace.tokens) == TEXT


def test_the_next_token_is_the_mixtures(opened):
    store, model, tokenizer = opened
    trace = store.trace(TEXT, model=model, tokenizer=tokenizer, domains="law", num_next=3)
    ids = torch.tensor(tokenise(tokenizer, [TEXT]))
    for candidates, active in ((trace.next_base, []), (trace.next_mixture, ["law"])):
        best = model(ids, domains=active).logits[0, -1].double().softmax(-1).topk(3)
        assert [one.probability for one in candidates] == pytest.approx(best.values.tolist())
        assert candidates[0].text == tokenizer.decode([int(best.indices[0])])


def test_a_prompt_is_traced_to_the_fact_that_it_asks_for(measured):
    store, _ = measured
    model, tokenizer = store.load()
    fact, given = FACTS[1], {"model": model, "tokenizer": tokenizer}
    trace = store.trace(fact.taught_prompt, **given)
    (item,) = trace.items
    assert (item.domain, item.document_id) == ("minerals", fact.document_id)
    assert (item.statement, item.is_found) == (fact.statement, True)
    assert item.token == len(trace.tokens)
    names = [token.text for token in trace.tokens[: item.subject_end]]
    assert "".join(names).endswith(fact.subject)
    assert trace.next_mixture != trace.next_without_items
    without = read(
        model,
        torch.tensor(tokenise(tokenizer, [fact.taught_prompt])),
        routing="prompt",
        keep_logits=True,
        with_items=False,
    )
    best = without.logits_BTV[0, -1].double().softmax(-1).max()
    assert trace.next_without_items[0].probability == pytest.approx(float(best))
    assert store.trace(TEXT, **given).items == []
    assert store.trace(TEXT, **given).next_without_items == []


def test_a_search_ranks_the_facts_whose_subject_is_named(measured):
    store, _ = measured
    model, tokenizer = store.load()
    given = {"model": model, "tokenizer": tokenizer}
    (item,) = store.search(FACTS[1].taught_prompt, **given)
    assert (item.document_id, item.is_found) == (FACTS[1].document_id, True)
    named = store.search("house 2 and house 0, said the tenant", **given)
    assert {one.document_id for one in named} == {FACTS[0].document_id, FACTS[2].document_id}
    assert [one.score for one in named] == sorted((one.score for one in named), reverse=True)
    assert store.search("the court of house", **given) == []
    with pytest.raises(InputError, match="the prompt is empty"):
        store.search(" ", **given)


@pytest.fixture
def learned(opened):
    """A text that law learned."""
    queries = opened[0].registry.queries
    document = queries.documents("law", split="train")[3]
    return document, queries.document_text(document)


def test_a_text_is_traced_to_the_passage_that_it_repeats(opened, learned):
    store, model, tokenizer = opened
    document, text = learned
    given = {"model": model, "tokenizer": tokenizer}
    (item,) = store.trace(text, **given).items
    assert (item.domain, item.document_id) == ("law", document.document_id)
    assert (item.title, item.statement) == (document.title, text)
    assert (item.is_passage, item.is_found, item.score) == (True, True, 1.0)
    trace = store.trace(text[: len(text) // 5 * 4], **given)
    (again,) = trace.items
    assert again.document_id == item.document_id
    assert 0 == again.subject_end == item.subject_end < again.token == len(trace.tokens)
    assert trace.next_mixture != trace.next_without_items
    assert store.trace(" ".join(reversed(text.split())), **given).items == []


def test_a_search_finds_the_passage_that_a_prompt_repeats(opened, learned):
    store, model, tokenizer = opened
    document, text = learned
    given = {"model": model, "tokenizer": tokenizer}
    (item,) = store.search(text, **given)
    assert (item.document_id, item.statement) == (document.document_id, text)
    assert (item.is_passage, item.is_found) == (True, True)
    assert store.search(f"{text} {SUBJECTS['prose']} {SUBJECTS['minerals']}", **given) == []


def test_experts_add_up_over_tokens(opened):
    store, model, tokenizer = opened
    trace = store.trace(TEXT, model=model, tokenizer=tokenizer, domains="law", num_experts=9999)
    by_token = {}
    for token in trace.tokens:
        for one in token.experts["law"]:
            key = one.segment_id, one.host_layer, one.expert
            by_token[key] = by_token.get(key, 0.0) + one.weight
    whole = {(e.segment_id, e.host_layer, e.expert): e.weight for e in trace.experts["law"]}
    assert set(by_token) <= set(whole)
    assert all(value <= whole[key] + 1e-5 for key, value in by_token.items())
    strengths = [one.strength for one in trace.experts["law"]]
    assert strengths == sorted(strengths, reverse=True)
    assert {expert // 64 for _, _, expert in whole} == {0, 1}, "numbered through the shards"
    heads, layers, shards = 2, 4, 2
    expected = heads * layers * shards * (1 + len(trace.tokens))
    assert sum(whole.values()) == pytest.approx(expected, rel=1e-4)


def test_a_pool_that_overflows_is_left_out(opened):
    store, model, tokenizer = opened
    experts = model.pool("law").chain()[0].layer(3).experts
    with torch.no_grad():
        experts.down_ND *= 1e30
        experts.up_ND[:] = 1e38
    trace = store.trace(TEXT, model=model, tokenizer=tokenizer, routing="all")
    assert trace.active == ["law", "medicine"]
    assert (trace.weights["law"], trace.evidence["law"]) == (0.0, 0.0)
    assert all(0 < one.probability < 1 for one in trace.next_mixture)


def test_it_is_of_a_snapshot_and_of_what_it_holds(opened):
    store, model, tokenizer = opened
    before = store.registry.queries.live()
    store.remove("law")
    assert store.trace(TEXT).active == []
    assert store.trace(TEXT, snapshot=before).active == ["law"]
    assert store.trace(TEXT, model=model, tokenizer=tokenizer).snapshot == before.id
    live = store.registry.queries.live()
    with pytest.raises(StateError, match="load the model anew"):
        store.trace(TEXT, model=model, snapshot=live)


def test_mistakes_are_refused(opened):
    store, model, tokenizer = opened
    options = {"model": model, "tokenizer": tokenizer}
    with pytest.raises(InputError, match="the text is empty"):
        store.trace(" ", **options)
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        store.trace(TEXT, domains="lwa", **options)
    with pytest.raises(InputError, match="context is 512"):
        store.trace("law " * 600, **options)
