"""Signatures and background statistics of another base's width are refused where they come in."""

import dataclasses
import re

import pytest
import torch
from bits import same_bits
from signed import sign
from tiny import make_base

from peer_cl import ExpertPool, PeerModel
from peer_cl.errors import ShapeError


@pytest.fixture
def model(make_model):
    made = make_model("llama")
    sign(made)
    return made


def narrower(signature):
    return dataclasses.replace(signature, centroids_CD=signature.centroids_CD[:, :30].clone())


def test_a_pool_with_a_narrower_signature_is_not_added(model, ids):
    expected = model(ids).logits
    other = narrower(model.pool("a").signature)
    pool = ExpertPool("c", [model.new_segment()], other)
    told = f"pool 'c' has a signature .* {re.escape(str(tuple(other.centroids_CD.shape)))}, .* 32:"
    with pytest.raises(ShapeError, match=told) as refused:
        model.add_pool("c", pool)
    assert "\n" not in str(refused.value)
    assert model.active_pools == ("a", "b")
    assert same_bits(model(ids).logits, expected)


@pytest.mark.parametrize("call", ["forward", "score", "generate"])
def test_a_signature_that_was_put_there_later_is_told_by_the_pools_name(model, ids, call):
    model.pool("b").signature = narrower(model.pool("b").signature)
    calls = {
        "forward": lambda: model(ids),
        "score": lambda: model.score(ids, ask="context"),
        "generate": lambda: model.generate(ids, max_new_tokens=2),
    }
    with pytest.raises(ShapeError, match=r"pool 'b' has a signature .*, 30\), .* width 32"):
        calls[call]()
    model(ids, domains="b")


@pytest.mark.parametrize("field", ["mean_D", "whitening_DD", "centroids_CD"])
def test_background_statistics_of_another_width_are_refused(model, ids, field):
    whole = getattr(model.background, field)
    other = dataclasses.replace(model.background, **{field: whole[..., :30].clone()})
    base = make_base("llama")
    with pytest.raises(ShapeError, match=r"background statistics of shapes .*30.* width 32"):
        PeerModel(base, host_layers=(1, 3), background=other)
    assert not any(module._forward_hooks for module in base.modules())
    model.background = other
    with pytest.raises(ShapeError, match="background statistics of shapes"):
        model(ids)
    model(ids, ask="all")


def test_what_fits_is_taken(model, ids):
    again = PeerModel(make_base("llama"), host_layers=(1, 3), background=model.background)
    again.add_pool("a", ExpertPool("a", [again.new_segment()], model.pool("a").signature))
    again(ids)
    assert torch.isfinite(again.score(ids, ask="context").base_BT).all()
