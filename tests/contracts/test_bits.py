"""The promises about bits and about the bound, on tiny models of several architectures."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    MAIN,
    VOCABULARY,
    give_keys,
    make_base,
    make_ids,
    make_loud,
    make_model,
    portrait,
    same_bits,
    teach,
    text_of,
)

from peer_cl.mixture import enter_at, worst_added_nats

ROUNDING = 1e-9
"""What fp64 sums over a document may be off by, in nats."""
GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}

architectures = pytest.mark.parametrize("architecture", MAIN)


# --- where nothing is active, nothing changes ---------------------------------------------------


@architectures
@pytest.mark.parametrize("why", ["no pools", "disabled", "no domain named", "none found"])
def test_where_nothing_is_active_logits_and_texts_are_the_bare_models(architecture, why):
    model = make_model(architecture, "" if why == "no pools" else "ab")
    give_keys(model)
    text = text_of(None, 3, 40, seed=4)
    mask = torch.ones_like(text)
    mask[1, :7] = 0
    options = {"domains": []} if why == "no domain named" else {}
    bare = make_base(architecture)
    if why == "disabled":
        context = model.disable_pool()
        options = {"domains": "a"}
    else:
        context = torch.no_grad()
    with context, torch.no_grad():
        for given_mask in (None, mask):
            expected = bare(text, attention_mask=given_mask).logits
            assert same_bits(model(text, given_mask, **options).logits, expected)
        for routing in ("causal", "prompt"):
            assert same_bits(model(text, routing=routing, **options).logits, bare(text).logits)
        written = model.generate(text, attention_mask=mask, **options, **GREEDY)
        assert torch.equal(written, bare.generate(text, attention_mask=mask, **GREEDY))
        torch.manual_seed(5)
        drawn = model.generate(text, do_sample=True, max_new_tokens=6, **options)
        torch.manual_seed(5)
        assert torch.equal(drawn, bare.generate(text, do_sample=True, max_new_tokens=6))


@architectures
def test_a_model_leaves_its_base_as_it_was(architecture):
    base = make_base(architecture)
    next(base.parameters()).requires_grad_(False)
    before, logits = portrait(base), base(make_ids()).logits
    model = make_model(base=base)
    give_keys(model)
    text = text_of("a", 3, 20, seed=8)
    model.score(text)
    model(text)
    model.generate(text, **GREEDY)
    model.generate(text, domains="a", oracle=True, max_new_tokens=3, num_beams=2)
    with model.frozen_base():
        model(text, routing="all")
    with pytest.raises(RuntimeError, match="broken"), model.branch("a"):
        raise RuntimeError("broken")
    assert portrait(base) == before
    assert model.detach() is base
    assert same_bits(base(make_ids()).logits, logits)


# --- pools are independent, and removal is exact ------------------------------------------------


def seen(model, text):
    """All that a model computes of a text, in every routing, and what it writes."""
    found = {}
    for routing in ("all", "causal", "prompt"):
        reading = model.score(text, routing=routing, keep_logits=True)
        for number, name in enumerate(reading.domains):
            found[routing, name] = torch.cat(
                [reading.log_probs_QBT[number + 1], reading.entries_PBU[number]], 1
            )
        found[routing, "mixture"] = reading.mixture_log_probs_BT
        found[routing, "logits"] = reading.logits_BTV
    found["generate"] = model.generate(text, **GREEDY)
    return found


def mixed_text():
    return torch.cat(
        [text_of("a", 2, 24, seed=8), text_of("b", 2, 24, seed=9), text_of(None, 1, 24, seed=4)]
    )


@architectures
def test_pools_removed_in_any_order_leave_the_bits_of_a_model_that_never_had_them(architecture):
    text = mixed_text()
    for kept in ("a", "b"):
        model = make_model(architecture, kept, budget=0.9)
        give_keys(model)
        never, key = seen(model, text), model.pool(kept).key
        gone = [name for name in "abc" if name != kept]
        for order in itertools.permutations(gone):
            model = make_model(architecture, "abc", budget=0.9)
            give_keys(model)
            assert model.pool(kept).key.to_bytes() == key.to_bytes()
            for name in order:
                model.delete_pool(name)
            found = seen(model, text)
            assert found.keys() == never.keys()
            assert all(same_bits(found[name], never[name]) for name in never)


@architectures
def test_what_a_domain_computes_and_when_it_is_found_depends_on_no_other(architecture):
    text = mixed_text()
    model = make_model(architecture, "abc")
    give_keys(model)
    together = seen(model, text)
    assert ("causal", "a") in together
    assert ("causal", "b") in together
    for name in "abc":
        model.set_pool(name)
        alone = seen(model, text)
        for key in alone.keys() & {(routing, name) for routing in ("all", "causal", "prompt")}:
            assert same_bits(alone[key], together[key])
    model.set_pool("a")
    before = seen(model, text)
    teach(model, "b", seed=99, scale=3.0)
    after = seen(model, text)
    assert all(same_bits(after[name], before[name]) for name in before)


# --- the bound ----------------------------------------------------------------------------------


def random_tokens(num_rows, num_tokens, seed=3):
    """Token strings of everything, special tokens included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (num_rows, num_tokens), generator=generator)


def written_by(model, starts, name, num_tokens):
    """Let a pool alone continue some texts."""
    options = {"do_sample": True, "top_k": 0, "suppress_tokens": [0, 1]}
    return model.generate(starts, domains=name, oracle=True, max_new_tokens=num_tokens, **options)


def check(model, reading):
    """Check the bound; return how much of it is used."""
    worst = worst_added_nats(model.budget)
    assert torch.isfinite(reading.mixture_BT).all()
    assert reading.added_nats_B.max() <= worst + ROUNDING
    return reading.added_nats_B.max().item() / worst


@pytest.fixture(scope="module")
def loud():
    """Models of sharp distributions, and three pools that contradict them."""
    models = {name: make_loud(name, "abc", capacity=3) for name in MAIN}
    for model in models.values():
        give_keys(model)
    return models


def texts_of(low, high):
    return st.lists(st.integers(low, high), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    architecture=st.sampled_from(MAIN),
    rows=st.lists(
        st.one_of(texts_of(0, VOCABULARY - 1), texts_of(2, 9), texts_of(40, 47)),
        min_size=1,
        max_size=4,
    ),
    routing=st.sampled_from(["all", "causal"]),
    data=st.data(),
)
def test_no_text_whatever_loses_more_than_the_bound(loud, architecture, rows, routing, data):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    evidence = data.draw(st.lists(st.booleans(), min_size=longest, max_size=longest))
    evidence_mask = torch.tensor([evidence] * len(rows))
    model = loud[architecture]
    reading = model.score(ids, mask, routing=routing, evidence_mask=evidence_mask)
    check(model, reading)
    logits = model(ids, mask, routing=routing, evidence_mask=evidence_mask).logits
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].double()
    shown = torch.where(reading.evidence_BT[:, 1:], chosen, 0.0).sum(-1)
    added = reading.base_BT.sum(-1) - shown
    assert added.max() <= worst_added_nats(model.budget) + 1e-3, "fp32 logits show the same"


@architectures
@pytest.mark.parametrize("domains", ["a", "abcdefgh"])
def test_text_that_the_base_wrote_meets_the_bound_to_the_digit(architecture, domains):
    """All that the pools were given is lost there: a smaller bound would be broken."""
    torch.manual_seed(0)
    model = make_loud(architecture, domains, capacity=len(domains))
    start = random_tokens(8, 2).clamp_min(2)
    text = model.base.generate(start, do_sample=True, top_k=0, max_new_tokens=40)
    assert check(model, model.score(text)) > 0.999


@architectures
def test_text_that_one_pool_wrote_and_then_another(architecture):
    torch.manual_seed(0)
    model = make_loud(architecture, "abc")
    first = written_by(model, random_tokens(8, 2).clamp_min(2), "a", 24)
    text = written_by(model, first, "b", 24)
    reading = model.score(text)
    check(model, reading)
    heavy = reading.posterior_QBU[1, :, first.shape[1]] > 0.999
    assert heavy.sum() >= 4, "the first pool takes nearly everything"
    assert reading.added_nats_B.min() < -10, "its own text is where a pool earns its prior"
    # A second pool that enters where the first has taken nearly everything.
    at = torch.tensor([[0] * 8, [first.shape[1]] * 8, [-1] * 8])
    check(model, replace(reading, entries_PBU=enter_at(model.prior, at, text.shape[1])))


@architectures
def test_2048_tokens_lose_at_most_the_bound(architecture):
    model = make_loud(architecture, "ab", capacity=2)
    reading = model.score(random_tokens(1, 2048))
    assert reading.evidence_BT.sum() > 1900
    check(model, reading)
    # The same where every pool is wrong about all of it, and where one is right at last.
    steps = reading.log_probs_QBT.clone()
    steps[1:] = steps[0] - 0.5
    assert check(model, replace(reading, log_probs_QBT=steps)) > 0.9
    steps[1, :, 1024:] = -0.01
    reading = replace(reading, log_probs_QBT=steps)
    check(model, reading)
    assert reading.added_nats_B.item() < -1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_pool_that_overflows_costs_no_more_than_the_bound(dtype):
    model = make_model(domains="ab", budget=0.02)
    teach(model, "a", seed=1, scale=1e30)
    model.to(dtype)
    reading = model.score(random_tokens(4, 40))
    assert not torch.isfinite(reading.log_probs_QBT[1]).all()
    check(model, reading)
    assert not model(random_tokens(4, 40), routing="all").logits.isnan().any()


def test_pools_that_predict_what_the_base_predicts_cost_nothing():
    model = make_model(budget=0.5, capacity=2)
    for name in "ab":
        teach(model, name, seed=1, scale=0.0)
    assert model.score(make_ids()).added_nats_B.abs().max() < 1e-12
