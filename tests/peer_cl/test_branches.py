"""A branch is the model's own forward from the tap up, and attaching leaves no trace."""

import pytest
import torch
from bits import portrait, same_bits
from tiny import SHAPE, make_base, teach
from transformers import DynamicCache, GptOssConfig, GptOssForCausalLM

from peer_cl import PeerModel, PoolShape
from peer_cl.attach import Attachment, decoder_layers, pool_segments
from peer_cl.branches import (
    branch_cache,
    default_position_ids,
    read_states,
    run_base,
    run_branch,
    run_trunk,
    select_rows,
)
from peer_cl.errors import InputError, ShapeError, UnsupportedError

pytestmark = pytest.mark.usefixtures("_no_grad")


@pytest.fixture
def _no_grad():
    with torch.no_grad():
        yield


def noop_model(architecture, host_layers):
    """A model with a pool as it is before training."""
    model = PeerModel(make_base(architecture), host_layers=host_layers)
    model.add_pool("new", SHAPE)
    return model


def left_padded(ids):
    mask = torch.ones_like(ids)
    mask[0, :4] = mask[1, :11] = 0
    return mask, (mask.cumsum(1) - 1).clamp_min(0)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("pools", ["untrained", "none"])
def test_an_untrained_pools_branch_is_the_bases_bits(architecture, host_layers, ids, padded, pools):
    model = noop_model(architecture, host_layers)
    segments = pool_segments(model.pool("new")) if pools == "untrained" else []
    mask, positions = left_padded(ids) if padded else (None, default_position_ids(20, 0, "cpu"))
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    base = run_base(model.attachment, **inputs, use_cache=False)
    assert same_bits(base.logits_BTV, make_base(architecture)(**inputs, use_cache=False).logits)
    assert same_bits(
        run_branch(model.attachment, segments, base.tap_BTD, **inputs), base.logits_BTV
    )
    last = run_branch(model.attachment, segments, base.tap_BTD, **inputs, logits_to_keep=1)
    bare = make_base(architecture)(**inputs, use_cache=False, logits_to_keep=1).logits
    assert same_bits(last, bare)


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [13, 1, 1, 5], [3, 9, 8]], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_an_untrained_pools_cached_branch_is_the_bases_bits_at_every_step(
    architecture, host_layers, ids, chunks, padded
):
    """Chunks cross Gemma's window of eight; each branch fills its own cache."""
    model, bare = noop_model(architecture, host_layers), make_base(architecture)
    mask, positions = left_padded(ids) if padded else (None, default_position_ids(20, 0, "cpu"))
    base_cache, bare_cache = (DynamicCache(config=bare.config) for _ in range(2))
    cache = branch_cache(bare.config, host_layers[0])
    start = 0
    for length in chunks:
        end = start + length
        inputs = {
            "input_ids": ids[:, start:end],
            "attention_mask": mask[:, :end] if padded else None,
            "position_ids": positions[:, start:end],
        }
        base = run_base(model.attachment, **inputs, cache=base_cache, use_cache=True)
        expected = bare(**inputs, cache=bare_cache, use_cache=True).logits
        found = run_branch(
            model.attachment,
            pool_segments(model.pool("new")),
            base.tap_BTD,
            **inputs,
            cache=cache,
        )
        assert same_bits(base.logits_BTV, expected)
        assert same_bits(found, expected)
        assert cache.get_seq_length() == end
        start = end


def test_a_taught_pools_cached_steps_agree_with_one_call(architecture, host_layers, ids):
    model = noop_model(architecture, host_layers)
    teach(model, "new", seed=1)
    segments = pool_segments(model.pool("new"))
    positions = default_position_ids(20, 0, "cpu")
    base = run_base(model.attachment, input_ids=ids, use_cache=False)
    whole = run_branch(
        model.attachment,
        segments,
        base.tap_BTD,
        input_ids=ids,
        attention_mask=None,
        position_ids=positions,
    )
    assert not torch.allclose(whole, base.logits_BTV, atol=1e-3)
    cache = branch_cache(model.base.config, host_layers[0])
    steps = [
        run_branch(
            model.attachment,
            segments,
            base.tap_BTD[:, start:end],
            input_ids=ids[:, start:end],
            attention_mask=None,
            position_ids=positions[:, start:end],
            cache=cache,
        )
        for start, end in [(0, 11), (11, 12), (12, 13), (13, 20)]
    ]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=2e-5, rtol=1e-4)


def test_a_branchs_cache_follows_its_rows(architecture, ids):
    """After rows are chosen and reordered, a step is what those rows alone would give."""
    model = noop_model(architecture, (1, 3))
    teach(model, "new", seed=1)
    segments = pool_segments(model.pool("new"))
    rows = torch.tensor([2, 0])
    states = run_base(model.attachment, input_ids=ids, use_cache=False).tap_BTD
    positions = default_position_ids(20, 0, "cpu")

    def step(cache, chosen, start, end):
        return run_branch(
            model.attachment,
            segments,
            states[chosen, start:end],
            input_ids=ids[chosen, start:end],
            attention_mask=None,
            position_ids=positions[:, start:end],
            cache=cache,
        )

    moved, fresh = (branch_cache(model.base.config, 1) for _ in range(2))
    step(moved, torch.arange(3), 0, 15)
    select_rows(moved, rows)
    step(fresh, rows, 0, 15)
    torch.testing.assert_close(step(moved, rows, 15, 16), step(fresh, rows, 15, 16))


def hand_made(architecture, pool, ids, mode):
    """Logits of a bare model into which a pool was built by hand, all layers run."""
    base = make_base(architecture)
    for number in pool.host_layers:
        layer, peer = decoder_layers(base)[number], pool.chain()[0].layer(number)
        seen = []

        def read(_, args, kwargs, seen=seen):
            seen[:] = [args[0] if args else kwargs["hidden_states"]]

        def say(_, __, output, seen=seen, peer=peer):
            said = peer(seen[0].flatten(0, 1)).view_as(seen[0])
            if mode == "replace":
                return said
            return (output[0] + said, *output[1:]) if isinstance(output, tuple) else output + said

        layer.mlp.register_forward_pre_hook(read, with_kwargs=True)
        (layer.mlp if mode == "replace" else layer).register_forward_hook(say)
    return base(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("mode", ["augment", "replace"])
def test_a_branch_equals_a_model_with_the_pool_built_in(architecture, host_layers, ids, mode):
    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16, mode=mode)
    model = PeerModel(make_base(architecture), host_layers=host_layers)
    pool = model.add_pool("p", shape)
    teach(model, "p", seed=4)
    base = run_base(model.attachment, input_ids=ids, use_cache=False)
    found = model.branch_logits(
        "p", base.tap_BTD, torch.arange(3), ids, None, default_position_ids(20, 0, "cpu")
    )
    assert same_bits(found, hand_made(architecture, pool, ids, mode))
    assert not torch.allclose(found, base.logits_BTV, atol=1e-3)


def test_what_stands_in_place_of_a_feed_forward_leaves_what_its_router_tells(ids):
    """gpt-oss hands on a pair, of which its layer takes the first."""
    config = GptOssConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = GptOssForCausalLM(config).eval()
    model = PeerModel(base, host_layers=(1, 2))
    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16, mode="replace")
    model.add_pool("p", shape)
    bare = model(ids, domains=[]).logits
    silent = model.score(ids, domains=["p"]).log_probs_QBT
    assert not torch.allclose(silent[0], silent[1], atol=1e-4), "without the feed-forwards"
    teach(model, "p", seed=4)
    assert not torch.allclose(model.score(ids, domains=["p"]).log_probs_QBT[1], silent[1])
    assert same_bits(model(ids, domains=[]).logits, bare)


def test_a_head_that_reads_some_positions_says_of_them_what_it_always_says(
    architecture, host_layers, ids, make_model
):
    model = make_model(architecture, pools=("a",), host_layers=host_layers)
    segments = pool_segments(model.pool("a"))
    tap = run_trunk(model.attachment, input_ids=ids, use_cache=False)
    reads = torch.zeros_like(ids, dtype=torch.bool)
    reads[0, 3] = reads[1, 7:12] = reads[2, 19] = True
    inputs = {"input_ids": ids, "attention_mask": None}
    inputs["position_ids"] = default_position_ids(20, 0, "cpu")
    whole = run_branch(model.attachment, segments, tap, **inputs)
    some = run_branch(model.attachment, segments, tap, **inputs, head_reads_BT=reads)
    assert some.shape == (1, 7, whole.shape[-1])
    torch.testing.assert_close(some[0], whole[reads], atol=1e-5, rtol=1e-4)
    assert same_bits(run_branch(model.attachment, segments, tap, **inputs), whole)


def test_replacing_takes_the_feed_forward_out(architecture, ids):
    """An untrained replacing pool says nothing, and the feed-forward is gone."""
    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16, mode="replace")
    model = PeerModel(make_base(architecture), host_layers=(1, 2))
    model.add_pool("p", shape)
    silent = make_base(architecture)
    for number in (1, 2):
        for parameter in decoder_layers(silent)[number].mlp.parameters():
            parameter.data.zero_()
    base = run_base(model.attachment, input_ids=ids, use_cache=False)
    found = model.branch_logits(
        "p", base.tap_BTD, torch.arange(3), ids, None, default_position_ids(20, 0, "cpu")
    )
    torch.testing.assert_close(found, silent(ids).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, base.logits_BTV, atol=1e-5)


def test_rows_come_in_the_order_in_which_they_are_asked_for(architecture, ids, make_model):
    """All of them in another order came with the first order's states."""
    model = make_model(architecture)
    states = run_base(model.attachment, input_ids=ids).tap_BTD
    positions = default_position_ids(20, 0, "cpu")

    def logits(*rows):
        return model.branch_logits("a", states, torch.tensor(rows), ids, None, positions)

    whole = logits(0, 1, 2)
    for rows in ((2, 1, 0), (1, 2, 0), (1, 1, 1), (2, 0), (1,)):
        torch.testing.assert_close(logits(*rows), whole[list(rows)], atol=1e-5, rtol=1e-4)


def test_a_chain_of_segments_adds_up_and_a_new_one_is_a_no_op(architecture, ids, make_model):
    from peer_cl import ExpertPool

    model = make_model(architecture, pools=("a",))
    first = model.score(ids, ask="all").log_probs_QBT[1]
    older = model.pool("a").chain()
    model.delete_pool("a")
    model.add_pool("a", ExpertPool("a", [*older, model.new_segment(SHAPE)]))
    assert same_bits(model.score(ids, ask="all").log_probs_QBT[1], first)
    for parameter in model.pool("a").chain()[1].parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    assert not torch.allclose(model.score(ids, ask="all").log_probs_QBT[1], first)


def test_reading_states_gives_the_base_passes_states(architecture, host_layers, ids):
    model = noop_model(architecture, host_layers)
    for layer in range(4):
        attachment = Attachment(model.base, tap=host_layers[0], signature_layer=layer)
        base = run_base(attachment, input_ids=ids, use_cache=False)
        tap, signature = read_states(attachment, ids, torch.ones_like(ids))
        torch.testing.assert_close(tap, base.tap_BTD)
        torch.testing.assert_close(signature, base.signature_BTD)
        assert same_bits(run_trunk(attachment, input_ids=ids, use_cache=False), base.tap_BTD)
        attachment.detach()


# --- attaching and detaching --------------------------------------------------------------------


def use_everything(model, ids):
    """Run every kind of pass, and one that ends with an exception."""
    model.score(ids)
    model(ids, ask="all")
    model.generate(ids, domains=["a", "b"], max_new_tokens=3, do_sample=False)
    model.generate(ids, domains=["a"], force=True, max_new_tokens=3, num_beams=2)
    read_states(model.attachment, ids, torch.ones_like(ids))
    with model.attachment.frozen():
        model(ids, ask="all")
    with pytest.raises(RuntimeError, match="broken"):
        break_inside_a_branch(model, ids)


def break_inside_a_branch(model, ids):
    states = run_base(model.attachment, input_ids=ids, use_cache=False).tap_BTD
    with model.attachment.branching(pool_segments(model.pool("a")), states):
        raise RuntimeError("broken")


def test_attach_then_detach_leaves_the_model_as_it_was(architecture, host_layers, ids):
    base = make_base(architecture)
    next(base.parameters()).requires_grad_(False)
    before, logits = portrait(base), base(ids).logits
    model = PeerModel(base, host_layers=host_layers, budget=0.3, capacity=2, special_ids=(0, 1))
    for name in ("a", "b"):
        model.add_pool(name, SHAPE)
        teach(model, name, seed=2)
    assert portrait(base) != before
    use_everything(model, ids)
    assert model.detach() is base
    assert portrait(base) == before
    assert same_bits(base(ids).logits, logits)
    assert same_bits(logits, make_base(architecture)(ids).logits)


def test_hooks_and_forwards_of_others_survive(ids):
    """accelerate, for one, sets `forward` on a layer itself."""
    base = make_base("llama")
    heard = []
    layer = base.model.layers[0]
    original = layer.forward

    def forward(*args, **kwargs):
        heard.append("forward")
        return original(*args, **kwargs)

    layer.forward = forward
    base.model.layers[2].mlp.register_forward_hook(lambda *_: heard.append("hook"))
    before = portrait(base)
    model = PeerModel(base, host_layers=(1, 3), budget=0.3, capacity=2)
    for name in ("a", "b"):
        model.add_pool(name, SHAPE)
        teach(model, name, seed=2)
    use_everything(model, ids)
    model.detach()
    assert portrait(base) == before
    heard.clear()
    base(ids)
    assert heard == ["forward", "hook"]


def test_two_models_on_one_base_do_not_hear_each_other(architecture, ids, make_model):
    alone = make_model(architecture).score(ids, ask="all")
    one = make_model(architecture)
    two = PeerModel(one.base, host_layers=(2,), budget=0.5, capacity=1)
    two.add_pool("z", SHAPE)
    teach(two, "z", seed=8)
    together = one.score(ids, ask="all")
    assert same_bits(together.log_probs_QBT, alone.log_probs_QBT)
    two.detach()
    assert same_bits(one.score(ids, ask="all").log_probs_QBT, alone.log_probs_QBT)


def test_while_pools_are_attached_the_base_itself_is_bare(architecture, ids, make_model):
    model, bare = make_model(architecture), make_base(architecture)
    model.score(ids)
    assert same_bits(model.base(ids).logits, bare(ids).logits)
    options = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.base.generate(ids, **options), bare.generate(ids, **options))


def test_frozen_sets_the_flags_and_gives_them_back_after_an_exception(make_model):
    model = make_model("llama")
    first = next(model.base.parameters())
    first.requires_grad_(False)
    flags = [p.requires_grad for p in model.base.parameters()]
    inside = []
    with pytest.raises(RuntimeError, match="broken"):
        break_while_frozen(model, inside)
    assert inside
    assert not any(inside)
    assert [p.requires_grad for p in model.base.parameters()] == flags


def break_while_frozen(model, inside):
    with model.attachment.frozen():
        inside += [p.requires_grad for p in model.base.parameters()]
        raise RuntimeError("broken")


@pytest.mark.parametrize(("tap", "signature_layer"), [(4, 0), (-1, 0), (0, 4)])
def test_layers_that_do_not_exist_are_refused(tap, signature_layer):
    base = make_base("llama")
    before = portrait(base)
    with pytest.raises(InputError, match=r"the base has layers 0\.\.3"):
        Attachment(base, tap=tap, signature_layer=signature_layer)
    assert portrait(base) == before


def test_a_model_without_a_list_of_decoder_layers_is_refused():
    base = make_base("llama")
    del base.model.layers
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM has no list of 4 decoder layers"):
        Attachment(base, tap=0, signature_layer=0)


@pytest.mark.parametrize(
    ("width", "layers", "message"),
    [(16, (1,), "width 16"), (32, (0, 1), r"\(0, 1\).*tap at layer 1"), (32, (1, 9), "layer 9")],
)
def test_segments_that_do_not_fit_are_refused(width, layers, message, make_model):
    from peer_cl import ExpertPool, Segment

    model = make_model("llama", pools=())
    segment = Segment(width=width, host_layers=layers, shape=SHAPE)
    with pytest.raises(ShapeError, match=message):
        model.add_pool("p", ExpertPool("p", [segment]))
    assert model.get_model_status().pools == ()
    with pytest.raises(InputError, match="ascending"):
        Segment(width=32, host_layers=layers[::-1] + layers, shape=SHAPE)
