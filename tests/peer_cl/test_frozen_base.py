"""The base stays what it was: in evaluation, and its weights untouched by training pools."""

import pytest
from bits import portrait, same_bits
from tiny import SHAPE, make_base

from peer_cl import PeerModel
from peer_cl.errors import StateError


@pytest.mark.parametrize("architecture", ["gpt2"])  # the one that has dropout by default
def test_training_mode_leaves_the_base_in_evaluation(architecture, ids, make_model):
    model = make_model(architecture)
    assert not any(module.training for module in model.modules())
    bare = make_base(architecture)(ids, use_cache=False).logits
    assert model.train() is model
    assert model.training
    assert all(module.training for module in model.pools.modules())
    assert not any(module.training for module in model.base.modules())
    assert same_bits(model(ids, domains=[]).logits, bare)
    assert same_bits(model(ids, ask="all").logits, model(ids, ask="all").logits)
    assert model.add_pool("late", SHAPE).training
    assert not any(module.training for module in model.eval().modules())


def test_a_base_in_training_mode_is_refused_and_left_as_it_is():
    base = make_base("gpt2").train()
    before = portrait(base)
    with pytest.raises(StateError, match=r"in training mode \(GPT2LM\w+\).* call base\.eval\(\)"):
        PeerModel(base, host_layers=(1, 3))
    assert portrait(base) == before
    base.eval().transformer.h[1].train()
    with pytest.raises(StateError, match=r"training mode \(transformer\.h\.1\)"):
        PeerModel(base, host_layers=(1, 3))
