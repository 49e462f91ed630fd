"""A branch is the model's own forward with experts added, and hooks leave no trace."""

from pathlib import Path

import pytest
import torch
from families import REFUSED, SERVED, page
from tiny_models import (
    MAIN,
    SHAPE,
    make_base,
    make_ids,
    make_model,
    portrait,
    same_bits,
    teach,
)
from transformers import DynamicCache

from peer_cl import Hooks, PoolShape, Segment, register_decoder
from peer_cl.errors import InputError, ShapeError, StateError, UnsupportedError
from peer_cl.hooks import decoder_layers, feed_forward_of
from peer_cl.trial import try_base

REPLACING = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16, mode="replace")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def with_experts_built_in(architecture, pool, ids, mode):
    """Logits of a bare model into which a pool was built by hand."""
    base = make_base(architecture)
    for number in pool.chain()[0].host_layers:
        layer, peer = decoder_layers(base)[number], pool.chain()[0].layer(number)
        feed_forward, seen = feed_forward_of(layer, base), []

        def keep(_, args, kwargs, seen=seen):
            seen[:] = [args[0] if args else kwargs["hidden_states"]]

        def add(_, __, output, seen=seen, peer=peer):
            added = peer(seen[0].flatten(0, 1)).view_as(seen[0])
            if mode == "replace":
                return added
            return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

        feed_forward.register_forward_pre_hook(keep, with_kwargs=True)
        (feed_forward if mode == "replace" else layer).register_forward_hook(add)
    return base(input_ids=ids).logits


@pytest.mark.parametrize("mode", ["augment", "replace"])
@pytest.mark.parametrize("architecture", MAIN)
def test_a_branch_equals_a_model_with_the_pool_built_in(architecture, mode):
    ids = make_ids()
    model = make_model(architecture, domains="")
    pool = model.add_pool("p", REPLACING if mode == "replace" else SHAPE)
    teach(model, "p", seed=4)
    with model.branch("p"):
        found = model.base(ids).logits
    assert same_bits(found, with_experts_built_in(architecture, pool, ids, mode))
    assert not torch.allclose(found, model.base(ids).logits, atol=1e-3)


@pytest.mark.parametrize("architecture", SERVED)
def test_an_architecture_is_served(architecture):
    """A new pool changes no bit, a taught one does, however it is called, and no hook is left."""
    base, ids = make_base(architecture), make_ids()
    before, bare = portrait(base), base(ids).logits
    distances = try_base(Hooks(base))
    assert max(distances.values()) < 2e-3
    model = make_model(base=base, domains="")
    model.add_pool("p", SHAPE)
    teach(model, "p", seed=4)
    with model.branch("p"):
        assert not torch.allclose(base(ids).logits, bare, atol=1e-4)
    assert same_bits(base(ids).logits, bare)
    assert portrait(base) == before


@pytest.mark.parametrize("architecture", REFUSED)
def test_an_architecture_is_refused_in_one_line(architecture):
    with pytest.raises(UnsupportedError) as caught:
        try_base(Hooks(make_base(architecture)))
    assert "\n" not in str(caught.value)
    assert type(make_base(architecture)).__name__ in str(caught.value)


def test_the_page_lists_what_is_tested():
    path = Path(__file__).parents[2] / "docs" / "architectures.md"
    assert path.read_text(encoding="utf-8") == page(), "python tests/support/families.py " + str(
        path
    )


def test_a_base_on_which_a_cache_goes_wrong_is_refused():
    base = make_base()
    whole = base.forward

    def forward(*args, cache=None, **options):
        return whole(*args, cache=cache and DynamicCache(config=base.config), **options)

    base.forward = forward
    with pytest.raises(UnsupportedError, match="cached, its logits lie"):
        try_base(Hooks(base))


def test_a_decoder_may_be_registered(monkeypatch):
    base = make_base()
    monkeypatch.setattr("peer_cl.hooks.FEED_FORWARD_NAMES", ("another",))
    monkeypatch.setattr("peer_cl.hooks._REGISTERED", {})
    with pytest.raises(UnsupportedError, match=r"register_decoder\('llama'"):
        Hooks(base)
    for wrong, message in (
        ("model.layer", "'model.layer'"),
        ("model.layers", "but self_attn, mlp"),
    ):
        register_decoder("llama", layers=wrong, feed_forward="another")
        with pytest.raises(UnsupportedError, match=message):
            Hooks(base)
    register_decoder("llama", layers="model.layers", feed_forward="mlp")
    try_base(Hooks(base))


@pytest.mark.parametrize("architecture", ["bloom", "mpt"])
def test_feed_forwards_that_add_the_residual_are_not_replaced(architecture):
    """They would drop it silently, and with it all that lower layers computed."""
    model = make_model(architecture, domains="")
    with pytest.raises(UnsupportedError, match="would drop the residual"):
        model.add_pool("p", REPLACING)
    assert model.active_pools == ()


def test_a_vision_tower_of_equal_depth_is_left_alone():
    base = make_base("gemma3")
    assert len(base.model.vision_tower.encoder.layers) == 4
    assert Hooks(base).layers is base.model.language_model.layers


def test_what_replaces_a_feed_forward_leaves_its_second_output():
    """gpt-oss's feed-forwards return a pair, of which the layer takes the first."""
    model = make_model("gpt_oss", domains="")
    model.add_pool("p", REPLACING)
    silent = model.score(make_ids()).log_probs_QBT
    assert not torch.allclose(silent[0], silent[1], atol=1e-4), "without the feed-forwards"
    teach(model, "p", seed=4)
    assert not torch.allclose(model.score(make_ids()).log_probs_QBT[1], silent[1])


def test_a_chain_of_segments_adds_up_and_a_new_one_is_a_no_op():
    model, ids = make_model(domains="a"), make_ids()
    chain = [*model.pool("a").chain(), model.new_segment(SHAPE)]
    with model.branch("a"):
        first = model.base(ids).logits
    with model.hooks.branch(chain):
        assert same_bits(model.base(ids).logits, first)
    for parameter in chain[1].parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    with model.hooks.branch(chain):
        assert not torch.allclose(model.base(ids).logits, first)


def test_the_head_may_read_some_positions_alone():
    model, ids = make_model(domains="a"), make_ids()
    places = torch.zeros_like(ids, dtype=torch.bool)
    places[0, 3] = places[1, 7:12] = places[2, 19] = True
    with model.branch("a"):
        whole = model.base(ids).logits
        with model.hooks.head_at(places):
            some = model.base(ids).logits
    assert some.shape == (1, 7, whole.shape[-1])
    torch.testing.assert_close(some[0], whole[places], atol=1e-5, rtol=1e-4)
    numbers = torch.tensor([[3, 0], [7, 7], [19, 4]])
    with model.branch("a"), model.hooks.head_at(numbers):
        some = model.base(ids).logits
    rows = torch.arange(3)[:, None]
    torch.testing.assert_close(some, whole[rows, numbers], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", ["plain", "with a bias", "of another class"])
def test_the_head_may_foresee_some_tokens_alone(head):
    model, ids = make_model(), make_ids()[:2].repeat(2, 1)
    plain = model.base.get_output_embeddings()
    if head != "plain":
        plain.bias = torch.nn.Parameter(torch.randn(len(plain.weight)))
    if head == "of another class":
        plain.__class__ = type("Quantised", (torch.nn.Linear,), {})
    tokens = torch.tensor([[0, 4, 7], [2, 3, 9]])
    with model.hooks.bare():
        whole = model.base(ids).logits
        with model.hooks.head_of(tokens):
            some = model.base(ids).logits
        assert same_bits(model.base(ids).logits, whole)
    for rows, own in ((slice(0, 2), tokens[0]), (slice(2, 4), tokens[1])):
        torch.testing.assert_close(some[rows], whole[rows][..., own], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", SERVED)
def test_lower_layers_may_be_skipped(architecture):
    """Read from their states, bare and in a branch above them, a text has the bits of reading all.

    Nothing is left of it, not where it ends in an exception, nor on layers with a forward of their
    own, as accelerate gives them.
    """
    model, ids = make_model(architecture, domains="a", host_layers=(2, 3)), make_ids()
    base, hooks, own = model.base, model.hooks, model.hooks.layers[0].forward
    hooks.layers[0].__dict__["forward"] = lambda *args, **options: own(*args, **options)
    before = portrait(base)
    with hooks.bare(keep_states=range(3)) as seen:
        bare = base(ids).logits
    with model.branch("a"):
        expected = base(ids).logits
    for first in (1, 2, 3):
        with hooks.above(first, seen.states[first - 1]):
            assert same_bits(base(ids).logits, bare)
        with hooks.above(first, seen.states[first - 1].flip(1)):
            assert not torch.isclose(base(ids).logits, bare).all(-1).any()
    with model.branch("a"), hooks.above(2, seen.states[1]):
        assert same_bits(base(ids).logits, expected)
    with pytest.raises(ZeroDivisionError), hooks.above(2, seen.states[1]):
        _ = 1 / 0
    assert portrait(base) == before
    assert same_bits(base(ids).logits, bare)


def test_the_bare_model_shows_its_states():
    base, ids = make_base(), make_ids()
    expected = base(ids, output_hidden_states=True).hidden_states
    for layer in range(3):  # the last state is normalised
        with Hooks(base, layer).bare(keep_inputs=[0, 2], keep_states=[0, 1]) as seen:
            base(ids)
        assert same_bits(seen.state_BTD, expected[layer + 1])
        assert same_bits(seen.states[0], expected[1])
        assert same_bits(seen.states[1], expected[2])
        assert sorted(seen.feed_forward_inputs) == [0, 2]


def test_training_a_branch_moves_its_pool_alone():
    model, ids = make_model(), make_ids()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.base.parameters()]
    segment = model.pool("b").chain()[0].requires_grad_()
    optimiser = torch.optim.AdamW(model.trainable_parameters(), lr=0.01)
    with torch.enable_grad(), model.frozen_base(), model.branch("b"):
        model.base(ids).logits.square().mean().backward()
    optimiser.step()
    assert [parameter.requires_grad for parameter in model.base.parameters()] == flags
    after = model.state_dict()
    moved = {name for name in after if not same_bits(after[name], before[name])}
    own = {f"pools.pool_b.segments.0.{name}" for name, _ in segment.named_parameters()}
    assert {name for name in own if name.endswith("ND")} <= moved <= own
    assert all(parameter.grad is None for parameter in model.base.parameters())


def test_a_base_that_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="not a str"):
        Hooks("smollm2")
    with pytest.raises(StateError, match=r"call base\.eval\(\)"):
        Hooks(make_base().train())
    with pytest.raises(UnsupportedError, match="load it with AutoModelForCausalLM"):
        Hooks(make_base().model)
    ahead = make_base()
    ahead.lm_head.register_forward_hook(lambda _, __, logits: logits + logits.flip(1))
    with pytest.raises(UnsupportedError, match="looks ahead"):
        Hooks(ahead)
    narrow = Segment(width=16, host_layers=(1,), shape=SHAPE)
    with pytest.raises(ShapeError, match=r"width 16 .* width 32"):
        Hooks(make_base()).check_segments([narrow])
    with pytest.raises(UnsupportedError, match="no list of 4 decoder layers with a feed-forward"):
        Hooks(make_base("mamba"))
