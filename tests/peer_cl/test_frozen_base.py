"""The base stays what it was: in evaluation, and its weights untouched by training pools."""

import pytest
import torch
from bits import portrait, same_bits
from tiny import SHAPE, make_base

from peer_cl import PeerModel
from peer_cl.errors import BaseMismatchError, StateError


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


def test_only_what_is_trained_is_printed_as_trainable(make_model, capsys):
    model = make_model("llama")
    status = model.get_model_status()
    model.print_trainable_parameters()
    total = status.num_base_parameters + status.num_pool_parameters
    assert f"trainable params: 0 || all params: {total:,} ||" in capsys.readouterr().out
    segment = model.pool("a").chain()[0].requires_grad_()
    trained = sum(p.numel() for p in segment.parameters())
    model.print_trainable_parameters()
    share = f"trainable%: {100 * trained / total:.4f}"
    told = f"trainable params: {trained:,} || all params: {total:,} || {share}\n"
    assert capsys.readouterr().out == told + (
        f"base params with requires_grad: {status.num_base_parameters:,} || not to be trained: "
        "give an optimiser model.trainable_parameters(), not model.parameters()\n"
    )
    with model.frozen_base():
        model.print_trainable_parameters()
    assert capsys.readouterr().out == told


def step(model, ids, parameters, **options):
    """Take one step towards the given text."""
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    logits = model(ids, **options).logits.float()
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimiser.step()


def test_the_documented_loop_trains_one_pool_alone(architecture, ids, make_model, tmp_path):
    model = make_model(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [p.requires_grad for p in model.base.parameters()]
    with pytest.raises(StateError, match=r"none of the pools \(a, b\) wants a gradient"):
        model.trainable_parameters()
    model.pool("b").requires_grad_()
    with model.frozen_base():
        step(model, ids, model.trainable_parameters(), domains="b")
    moved = {n for n, now in model.state_dict().items() if not same_bits(now, before[n])}
    assert moved
    own = next(key for key, pool in model.pools.items() if pool is model.pool("b"))
    assert all(name.startswith(f"pools.{own}.") for name in moved)
    assert all(parameter.grad is None for parameter in model.base.parameters())
    assert [p.requires_grad for p in model.base.parameters()] == flags
    model.save_pretrained(tmp_path)


def test_a_base_that_an_optimiser_changed_is_not_saved_as_the_old_one(ids, make_model, tmp_path):
    model = make_model("llama")
    model.save_pretrained(tmp_path)
    saved = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    model.pool("b").requires_grad_()
    step(model, ids, [p for p in model.parameters() if p.requires_grad], domains="b")
    with pytest.raises(BaseMismatchError, match=r"hash to .*trainable_parameters\(\)"):
        model.save_pretrained(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == saved
