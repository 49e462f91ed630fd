"""Pools that cannot be asked are not silently the base."""

import warnings

import pytest
import torch
from bits import same_bits
from signed import sign
from tiny import make_base

from peer_cl.errors import StateError

GREEDY = {"max_new_tokens": 3, "do_sample": False}


@pytest.mark.parametrize("first", ["forward", "score", "generate"])
def test_pools_without_signatures_are_told_of_once(ids, make_model, first):
    model = make_model()
    calls = {
        "forward": lambda: model(ids).logits,
        "score": lambda: model.score(ids, ask="context").log_probs_QBT[1:],
        "generate": lambda: model.generate(ids, **GREEDY),
    }
    with pytest.warns(
        UserWarning, match=r"no active pool \(a, b\) has a signature.*domains="
    ) as told:
        calls.pop(first)()
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls.values():
            call()
        assert same_bits(model(ids).logits, make_base("llama")(ids).logits)
        assert torch.equal(model.generate(ids, **GREEDY), model.generate(ids, domains=[], **GREEDY))


def test_nothing_is_told_where_a_pool_can_be_asked_or_none_is_to_be(ids, make_model):
    model, empty = make_model(), make_model(pools=())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty(ids)
        empty.generate(ids, **GREEDY)
        model(ids, ask="all")
        model(ids, domains="a")
        model.score(ids)
        model.generate(ids, domains="a", **GREEDY)
        with model.disable_pool():
            model(ids)
        sign(model)
        model.pool("b").signature = None
        model(ids)


def test_writing_without_background_statistics_is_refused_as_reading_is(ids, make_model):
    model = make_model()
    sign(model)
    model.background = None
    for call in (model, lambda ids: model.generate(ids, **GREEDY)):
        with pytest.raises(StateError, match=r"no background statistics: .*domains=.*background="):
            call(ids)
    model.generate(ids, domains="a", **GREEDY)
    model.generate(ids, domains=[], **GREEDY)
