"""Pools that write into what the base's own neurons fire on."""

import copy
from dataclasses import replace

import pytest
import torch
from bits import same_bits
from tiny import SHAPE, SPECIAL, make_base, teach
from torch import nn

from peer_cl import ExpertPool, PeerModel, Segment
from peer_cl.attach import decoder_layers, feed_forward_of, pool_segments
from peer_cl.branches import default_position_ids, run_base, run_branch
from peer_cl.errors import DamageError, ShapeError, UnsupportedError
from peer_cl.inside import input_projections
from peer_cl.pool import load_segment

INSIDE = replace(SHAPE, mode="inside")
WIDTHS = {"llama": 128, "gpt2": 128, "gemma3": 128}


@pytest.fixture
def model(architecture):
    """A model with a pool that says something, at layers 1 and 3."""
    made = PeerModel(make_base(architecture), host_layers=(1, 3), special_ids=SPECIAL)
    made.add_pool("a", INSIDE)
    teach(made, "a", seed=5)
    return made


def logits(model, ids, name="a"):
    """A pool's branch alone."""
    positions = default_position_ids(ids.shape[1], 0, "cpu")
    inputs = {"input_ids": ids, "attention_mask": None, "position_ids": positions}
    with torch.no_grad():
        tap_BTD = run_base(model.attachment, **inputs, use_cache=False).tap_BTD
        return run_branch(model.attachment, pool_segments(model.pool(name)), tap_BTD, **inputs)


def test_rows_are_as_wide_as_what_the_neurons_fire_on(model, architecture):
    (segment,) = model.pool("a").chain()
    assert model.attachment.inner_width == segment.inner_width == WIDTHS[architecture]
    for layer in segment.peer_layers():
        assert layer.experts.down_ND.shape == (64, 32)
        assert layer.experts.up_ND.shape == (64, WIDTHS[architecture])


def test_an_untrained_pool_leaves_the_bases_bits(architecture, ids):
    model = PeerModel(make_base(architecture), host_layers=(1, 3), special_ids=SPECIAL)
    model.add_pool("new", INSIDE)
    with torch.no_grad():
        assert same_bits(logits(model, ids, "new"), make_base(architecture)(ids).logits)


def test_a_pool_says_what_adding_to_the_projections_by_hand_says(model, architecture, ids):
    """By hand: its rows' sum over the projections' outputs, in a base without this project."""
    by_hand = make_base(architecture)
    (segment,) = model.pool("a").chain()
    read = {}

    def remember(number):
        def hook(_, args):
            read[number] = args[0]

        return hook

    def write(number, start, size):
        def hook(_, __, output):
            inputs_TD = read[number].flatten(0, 1)
            written_BTF = segment.layer(number)(inputs_TD).unflatten(0, read[number].shape[:2])
            return output + written_BTF[..., start : start + size]

        return hook

    for number in (1, 3):
        feed_forward = feed_forward_of(decoder_layers(by_hand)[number])
        feed_forward.register_forward_pre_hook(remember(number))
        start = 0
        for projection, size in input_projections(feed_forward, 32):
            projection.register_forward_hook(write(number, start, size))
            start += size
    with torch.no_grad():
        expected = by_hand(ids).logits
        said = logits(model, ids)
        assert not torch.allclose(said, make_base(architecture)(ids).logits, atol=1e-3)
    torch.testing.assert_close(said, expected)


def test_what_a_row_turns_is_told_without_a_forward(model, architecture):
    """By hand: the feed-forward's own products, with the row added to the first of them."""
    feed_forward = feed_forward_of(model.attachment.layers[3])
    generator = torch.Generator().manual_seed(3)
    inputs_TD, written_TF = (torch.randn(2, n, generator=generator) for n in (32, 128))
    found = model.attachment.turned(3, inputs_TD, written_TF)
    with torch.no_grad():
        if architecture == "gpt2":
            first = feed_forward.c_fc(inputs_TD)
            said = [feed_forward.c_proj(feed_forward.act(x)) for x in (first + written_TF, first)]
        else:
            gate, up = feed_forward.gate_proj(inputs_TD), feed_forward.up_proj(inputs_TD)
            said = [
                feed_forward.down_proj(feed_forward.act_fn(gate + a) * (up + b))
                for a, b in (written_TF.split(64, dim=-1), (0, 0))
            ]
    torch.testing.assert_close(found, said[0] - said[1])


def test_nothing_is_left_of_it_where_no_pool_is_asked(model, architecture, ids):
    with torch.no_grad():
        logits(model, ids)
        bare = make_base(architecture)(ids).logits
        assert same_bits(model(ids, domains=[]).logits, bare)
        assert same_bits(model.base(ids).logits, bare)
        model.delete_pool("a")
        assert same_bits(model.base(ids).logits, bare)
    model.detach()
    assert not any(module._forward_hooks for module in model.base.modules())


def test_segments_beside_and_inside_make_one_pool(model, ids):
    """A domain that was learned beside feed-forwards goes on inside them."""
    beside = model.new_segment(SHAPE)
    (inside,) = model.pool("a").chain()
    model.add_pool("both", ExpertPool("both", [beside, copy.deepcopy(inside)]))
    assert same_bits(logits(model, ids, "both"), logits(model, ids))  # `beside` is untrained
    for layer in beside.peer_layers():
        nn.init.normal_(layer.experts.up_ND, std=0.3)
    assert not torch.allclose(logits(model, ids, "both"), logits(model, ids), atol=1e-3)


@pytest.mark.parametrize("order", [1, -1], ids=["inside first", "replaced first"])
def test_a_segment_that_would_drop_what_another_writes_is_refused(model, order):
    (inside,) = model.pool("a").chain()
    replacing = model.new_segment(replace(SHAPE, mode="replace"))
    with pytest.raises(UnsupportedError, match=r"pool 'both': segment . stands in place of layer"):
        ExpertPool("both", [inside, replacing][::order])
    beside = model.new_segment(SHAPE)
    ExpertPool("both", [beside, replacing][::order])


def test_writing_on_with_caches_says_what_reading_anew_says(model, ids):
    prompt = ids[:1, :6]
    written = model.generate(prompt, domains=["a"], max_new_tokens=5, do_sample=False)
    read = prompt
    for _ in range(written.shape[1] - 6):
        with torch.no_grad():
            last = model(read, domains=["a"]).logits[:, -1]
        read = torch.cat([read, last.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(written, read)


def test_it_is_saved_and_loaded(model, tmp_path, ids):
    said = logits(model, ids)
    model.save_pretrained(tmp_path / "saved")
    again = PeerModel.from_pretrained(tmp_path / "saved", base=model.base)
    assert again.pool("a").chain()[0].inner_width == 128
    assert same_bits(logits(again, ids), said)


def test_a_segments_bytes_say_how_wide_it_is(model):
    (segment,) = model.pool("a").chain()
    data = segment.to_bytes(model.identity)
    assert load_segment(data, model.identity).sha256() == segment.sha256()
    shorter = data.replace(b'\\"inner_width\\": 128', b'\\"inner_width\\": 126')
    assert shorter != data
    with pytest.raises(DamageError, match=r"up_ND has shape \(64, 128\), not \(64, 126\)"):
        load_segment(shorter, model.identity)


def test_only_the_pool_gets_gradients(model, ids):
    (segment,) = model.pool("a").chain()
    segment.requires_grad_(True)
    with model.attachment.frozen(), torch.enable_grad():
        model(ids, domains=["a"]).logits.square().mean().backward()
    for layer in segment.peer_layers():
        for parameter in layer.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.base.parameters())


def test_a_pool_of_another_bases_neurons_is_refused(model):
    other = Segment(width=32, host_layers=(1, 3), shape=INSIDE, inner_width=96)
    with pytest.raises(ShapeError, match=r"writes 96 numbers a token inside.*the base's take 128"):
        model.add_pool("b", ExpertPool("b", [other]))


def test_a_base_without_input_projections_is_refused():
    """A feed-forward that picks among many has none of its own."""
    base = make_base("llama")
    for layer in decoder_layers(base):
        layer.mlp = nn.Sequential(nn.Sequential(layer.mlp))
    model = PeerModel(base.eval(), host_layers=(1, 3), special_ids=SPECIAL)
    assert model.attachment.inner_width == 0
    with pytest.raises(
        UnsupportedError, match=r"no pool can write inside this base.*take mode 'augment'"
    ):
        model.add_pool("a", INSIDE)
    model.add_pool("beside", SHAPE)
