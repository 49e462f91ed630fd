"""The model as a whole: causal, its pools independent, and their removal exact."""

import itertools

import pytest
import torch
from bits import same_bits
from signed import sign, text_of
from tiny import SHAPE, SPECIAL, make_base, teach

from peer_cl import ExpertPool, PeerModel, PoolShape, Segment
from peer_cl.branches import run_base
from peer_cl.errors import InputError, ShapeError, StateError, UnknownError
from peer_cl.mixture import worst_added_nats


@pytest.fixture
def signed_model(make_model):
    """Return a maker of models whose pools have real signatures."""

    def make(architecture, pools=("a", "b", "c"), host_layers=(1, 3)):
        model = make_model(architecture, pools=pools, host_layers=host_layers)
        sign(model)
        return model

    return make


@pytest.fixture(scope="session")
def mixed_text():
    """Texts whose subject changes on the way, and one that is nobody's."""
    parts = [text_of(None, 4, 8, 7), text_of("a", 4, 22, 8), text_of("b", 4, 20, 9)]
    text = torch.cat(parts, 1)
    text[1, :8] = text_of("c", 1, 8, 5)
    text[3] = text_of(None, 1, 50, 11)
    return text


def left_padded(text):
    mask = torch.ones_like(text)
    mask[0, :5] = mask[2, :9] = 0
    return mask


# --- causality --------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["all", "signature"])
def test_tokens_after_i_change_no_bit_up_to_i(architecture, signed_model, mixed_text, ask):
    """Each text alone, so that all its calls have one shape."""
    model = signed_model(architecture)
    for row in mixed_text:
        text = row[None]
        logits, scores = model(text, ask=ask).logits, model.score(text, ask=ask)
        for i, replacement in [(0, "c"), (3, None), (10, "c"), (20, "b"), (33, None), (48, "c")]:
            changed = text.clone()
            changed[:, i + 1 :] = text_of(replacement, 1, text.shape[1] - i - 1, seed=i)
            assert same_bits(model(changed, ask=ask).logits[:, : i + 1], logits[:, : i + 1])
            again = model.score(changed, ask=ask)
            for name, known in [("mixture_BT", i + 1), ("entries_PBU", i + 2)]:
                now, before = getattr(again, name), getattr(scores, name)
                assert same_bits(now[..., :known], before[..., :known])
            assert same_bits(again.weights_QBU[..., : i + 2], scores.weights_QBU[..., : i + 2])


@pytest.mark.parametrize("ask", ["all", "signature"])
def test_a_padded_batch_is_causal_too(architecture, signed_model, mixed_text, ask):
    model = signed_model(architecture)
    mask = left_padded(mixed_text)
    logits = model(mixed_text, mask, ask=ask).logits
    for i in (12, 20, 30, 40):
        changed = mixed_text.clone()
        changed[:, i + 1 :] = text_of("c", 4, 49 - i, seed=i)
        found, expected = model(changed, mask, ask=ask).logits[:, : i + 1], logits[:, : i + 1]
        if ask == "all":
            assert same_bits(found, expected)
        else:  # other rows may ask a pool now, so that its branch runs on more rows at once
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_signatures_let_pools_enter_on_the_way(architecture, signed_model, mixed_text):
    """What the tests of causality rest on: entries at several tokens, and texts without any."""
    scores = signed_model(architecture).score(mixed_text, ask="signature")
    entered = scores.entries_PBU.sum(-1) > 0
    assert entered.any()
    assert not entered.all()
    assert scores.entries_PBU.argmax(-1)[entered].unique().numel() >= 3


# --- independence -----------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["all", "signature", "context"])
def test_a_pools_evidence_is_bit_equal_with_and_without_the_others(
    architecture, signed_model, mixed_text, ask
):
    model = signed_model(architecture)
    mask = left_padded(mixed_text)
    together = model.score(mixed_text, mask, ask=ask)
    for number, name in enumerate(("a", "b", "c")):
        model.set_pool(name)
        alone = model.score(mixed_text, mask, ask=ask)
        assert alone.pools == (name,)
        assert same_bits(alone.entries_PBU[0], together.entries_PBU[number])
        assert same_bits(alone.log_probs_QBT[0], together.log_probs_QBT[0])
        assert same_bits(alone.log_probs_QBT[1], together.log_probs_QBT[number + 1])


def test_removal_in_any_order_equals_never_ingested(architecture, signed_model, mixed_text):
    expected = signed_model(architecture, pools=("b",))
    for order in itertools.permutations(("a", "c", "d")):
        model = signed_model(architecture, pools=("a", "b", "c"))
        model.add_pool("d", SHAPE)
        teach(model, "d", seed=9)
        model.pool("d").signature = model.pool("c").signature
        for name in order:
            model.delete_pool(name)
        assert model.active_pools == ("b",)
        for ask in ("all", "signature"):
            one, other = model(mixed_text, ask=ask).logits, expected(mixed_text, ask=ask).logits
            assert same_bits(one, other)
            scores, fresh = (m.score(mixed_text, ask=ask) for m in (model, expected))
            assert same_bits(scores.mixture_BT, fresh.mixture_BT)
    model.delete_pool("b")
    assert same_bits(
        model(mixed_text, ask="all").logits, make_base(architecture)(mixed_text).logits
    )


def test_the_order_in_which_pools_came_does_not_matter(make_model, ids):
    expected = make_model("llama", pools=("a", "b", "c")).score(ids)
    for order in itertools.permutations(("a", "b", "c")):
        found = make_model("llama", pools=order).score(ids)
        assert found.pools == expected.pools
        assert same_bits(found.mixture_BT, expected.mixture_BT)


def test_rows_that_ask_no_pool_keep_the_bases_bits(architecture, signed_model, mixed_text):
    model = signed_model(architecture)
    text = torch.cat([mixed_text, text_of(None, 8, 50, seed=12)])
    mask = left_padded(text)
    positions = (mask.cumsum(1) - 1).clamp_min(0)  # as `score` counts
    told = {"attention_mask": mask, "position_ids": positions, "use_cache": False}
    bare = make_base(architecture)(text, **told).logits
    logits = model(text, mask, positions, ask="signature").logits
    entries = model.score(text, mask, ask="signature").entries_PBU
    speaks = entries.sum(0).cumsum(-1)[:, 1:] > 0
    assert speaks.any()
    assert not speaks.any(1).all()
    assert same_bits(logits[~speaks], bare[~speaks])
    assert not torch.isclose(logits[speaks], bare[speaks]).all(-1).any()


def test_a_model_without_pools_or_with_all_disabled_is_the_base(architecture, ids, make_model):
    bare = make_base(architecture)(ids, use_cache=False).logits
    model = make_model(architecture)
    with model.disable_pool():
        assert same_bits(model(ids, ask="all").logits, bare)
        assert same_bits(model(ids).logits, bare)
    for ask, domains in [("all", []), ("signature", None), ("context", None)]:
        assert same_bits(model(ids, ask=ask, domains=domains).logits, bare)
    assert not torch.equal(model(ids, ask="all").logits, bare)


# --- logits and scores ------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["all", "signature"])
def test_logits_are_normalised_and_say_what_the_scores_say(
    architecture, signed_model, mixed_text, ask
):
    model = signed_model(architecture)
    mask = left_padded(mixed_text)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    scores = model.score(mixed_text, mask, ask=ask)
    logits = model(mixed_text, mask, positions, ask=ask).logits
    chosen = logits.log_softmax(-1)[:, :-1].gather(-1, mixed_text[:, 1:, None])[..., 0]
    counted = scores.evidence_BT[:, 1:]
    expected = scores.mixture_BT[:, 1:][counted].float()
    torch.testing.assert_close(chosen[counted], expected, atol=1e-5, rtol=1e-5)
    speaks = (scores.entries_PBU.sum(0).cumsum(-1) > 0)[:, 1:]
    total = logits[speaks].logsumexp(-1)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-5, rtol=0)


def test_an_explicit_mask_gives_the_bases_logits_before_masked_tokens(
    architecture, ids, make_model
):
    model = make_model(architecture)
    mask = torch.ones_like(ids)
    mask[:, 6:9] = mask[1, 15:] = 0
    bare = make_base(architecture)(ids, use_cache=False).logits
    logits = model(ids, ask="all", evidence_mask=mask).logits
    before_masked = torch.nn.functional.pad(mask[:, 1:] == 0, (0, 1))
    assert same_bits(logits[before_masked], bare[before_masked])
    assert not torch.isclose(logits[~before_masked], bare[~before_masked]).all(-1).any()


def test_padding_with_explicit_positions_changes_no_more_than_rounding(
    architecture, ids, make_model
):
    model = make_model(architecture)
    expected = model(ids[:, 6:], ask="all").logits
    mask = torch.ones_like(ids)
    mask[:, :6] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    found = model(ids, mask, positions, ask="all").logits[:, 6:]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_bfloat16_keeps_every_promise(architecture, ids):
    base = make_base(architecture).bfloat16()
    bare = base(ids, use_cache=False).logits
    model = PeerModel(base, host_layers=(1, 3), budget=0.2, capacity=2)
    for name in ("new", "taught"):
        model.add_pool(name, SHAPE)
    teach(model, "taught", seed=3)
    scores = model.score(ids)
    assert same_bits(scores.log_probs_QBT[1], scores.log_probs_QBT[0])
    assert not torch.equal(scores.log_probs_QBT[2], scores.log_probs_QBT[0])
    assert scores.added_nats_B.max() <= worst_added_nats(0.2) + 1e-9
    assert same_bits(model(ids, domains=[]).logits, bare)
    mask = torch.ones_like(ids)
    mask[:, 10:] = 0
    logits = model(ids, ask="all", evidence_mask=mask).logits
    assert same_bits(logits[:, 9:-1].to(bare.dtype), bare[:, 9:-1])


def test_padding_on_either_side_changes_no_more_than_rounding(architecture, ids, make_model):
    model = make_model(architecture)
    expected = model.score(ids[:, 6:])
    mask = torch.ones_like(ids)
    mask[0, :6] = mask[2, :6] = 0
    mask[1, 14:] = 0
    padded = ids.clone()
    padded[1, :14] = ids[1, 6:]
    found = model.score(padded, mask)
    torch.testing.assert_close(
        found.mixture_BT[[0, 2], 6:], expected.mixture_BT[[0, 2]], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        found.mixture_BT[1, :14], expected.mixture_BT[1], atol=1e-4, rtol=1e-4
    )
    right = model.score(padded[1:2], mask[1:2])
    assert same_bits(found.log_probs_QBT[:, 1, :14], right.log_probs_QBT[:, 0, :14])
    alone = model.score(padded[:1], mask[:1])
    torch.testing.assert_close(alone.mixture_BT, found.mixture_BT[:1], atol=1e-4, rtol=1e-4)


def test_special_and_padding_tokens_are_no_evidence(ids, make_model):
    model = make_model("llama")
    text = ids.clone()
    text[0, 5], text[1, 9], text[2, 19] = SPECIAL[0], SPECIAL[1], SPECIAL[1]
    mask = left_padded(torch.cat([ids, ids[:1]]))[:3]
    scores = model.score(text, mask)
    special = torch.isin(text, torch.tensor(SPECIAL))
    first = mask.cumsum(1) == 1
    assert same_bits(scores.evidence_BT, mask.bool() & ~special & ~first)
    for hidden in (scores.mixture_BT, scores.base_BT):
        assert hidden[~scores.evidence_BT].eq(0).all()


def test_what_stands_in_padding_changes_nothing(architecture, ids, make_model):
    model = make_model(architecture)
    mask = torch.ones_like(ids)
    mask[0, 14:] = mask[1, 9:] = 0
    other = torch.where(mask.bool(), ids, 5)
    one, two = model.score(ids, mask), model.score(other, mask)
    assert same_bits(one.mixture_BT, two.mixture_BT)
    assert same_bits(one.added_nats_B, two.added_nats_B)


def test_a_context_has_as_many_tokens_however_it_is_padded(signed_model, mixed_text):
    model = signed_model("llama")
    lengths = torch.tensor([30, 8, 44, 20])
    alone = model.score(mixed_text, ask="context", context_lengths=lengths)
    padding = torch.full((4, 6), 5)
    mask = torch.cat([torch.zeros_like(padding), torch.ones_like(mixed_text)], 1)
    for ids, own, part in (
        (torch.cat([padding, mixed_text], 1), mask, slice(6, None)),
        (torch.cat([mixed_text, padding], 1), mask.flip(1), slice(0, -6)),
    ):
        padded = model.score(ids, own, ask="context", context_lengths=lengths)
        asked, there = (one.entries_PBU.sum(-1) > 0 for one in (alone, padded))
        assert torch.equal(asked, there)
        found, wanted = padded.mixture_BT[:, part][:, 1:], alone.mixture_BT[:, 1:]
        assert torch.allclose(found, wanted, atol=1e-4)
        logits = model(ids, own, ask="context", context_lengths=lengths).logits[:, part]
        bare = model(mixed_text, ask="context", context_lengths=lengths).logits
        assert torch.allclose(logits, bare, atol=1e-3)
    assert asked.any()
    assert not asked.all()


def test_a_context_asks_by_its_own_text_alone(signed_model, mixed_text):
    """What follows the context does not choose the shortlist."""
    model = signed_model("llama")
    lengths = torch.tensor([30, 8, 50, 20])
    scores = model.score(mixed_text, ask="context", context_lengths=lengths)
    changed = mixed_text.clone()
    for row, length in enumerate(lengths.tolist()):
        changed[row, length:] = text_of("b", 1, 50 - length, seed=row)[0]
    again = model.score(changed, ask="context", context_lengths=lengths)
    assert same_bits(again.entries_PBU, scores.entries_PBU)
    asked = scores.entries_PBU[..., 0] > 0
    assert same_bits(asked.double() * model.share, scores.entries_PBU.sum(-1))
    for row, length in enumerate(lengths.tolist()):
        alone = model.score(mixed_text[row : row + 1, :length], ask="context")
        assert torch.equal(alone.entries_PBU[:, 0, 0] > 0, asked[:, row])
    assert asked.any()
    assert not asked.all()


def test_named_domains_are_asked_whatever_their_signatures_say(signed_model, mixed_text):
    model = signed_model("llama")
    scores = model.score(mixed_text, ask="signature", domains=["c", "a"])
    assert scores.pools == ("a", "c")
    assert scores.entries_PBU[..., 0].eq(model.share).all()
    with model.disable_pool():
        assert model.score(mixed_text, domains=["a"]).pools == ()


def test_a_word_is_one_name(ids, make_model):
    model = make_model(pools=("law", "a"))
    for ask in (model.score, model):
        one, some = (ask(ids, domains=domains) for domains in ("law", ["law"]))
        for name in ("log_probs_QBT", "logits"):
            if hasattr(one, name):
                assert same_bits(getattr(one, name), getattr(some, name))
    options = {"max_new_tokens": 3, "force": True}
    one, some = (model.generate(ids, domains=name, **options) for name in ("law", ["law"]))
    assert torch.equal(one, some)
    with pytest.raises(UnknownError, match="no pool 'al'"):
        model.score(ids, domains="al")


def test_asking_wrongly_is_refused(ids, make_model, signed_model):
    model = make_model("llama")
    with pytest.raises(InputError, match="ask must be one of all, signature, context, not 'al'"):
        model.score(ids, ask="al")
    with pytest.raises(UnknownError, match=r"no pool 'aa'; known: a, b. Did you mean 'a'\?"):
        model.score(ids, domains=["aa"])
    with pytest.raises(ShapeError, match=r"evidence_mask has shape \(3, 19\), the ids \(3, 20\)"):
        model(ids, ask="all", evidence_mask=torch.ones(3, 19))
    signed = signed_model("llama")
    signed.background = None
    with pytest.raises(StateError, match="no background statistics"):
        signed(ids)


# --- PEFT's verbs, with pool for adapter --------------------------------------------------------


def test_a_new_pool_says_what_the_base_says(architecture, ids, make_model):
    model = make_model(architecture, pools=())
    model.add_pool("new", SHAPE)
    scores = model.score(ids)
    assert same_bits(scores.log_probs_QBT[1], scores.log_probs_QBT[0])
    pool = model.add_pool("by default")
    assert pool.chain()[0].shape == PoolShape()
    assert pool.host_layers == model.host_layers


def test_names_may_be_any_words_but_each_only_once(ids, make_model):
    model = make_model("llama", pools=())
    names = ("dots.and.more", "pool1", "segments", "ä b/c", "")
    for name in names:
        model.add_pool(name, SHAPE)
    assert model.active_pools == tuple(sorted(names))
    assert model.score(ids).pools == tuple(sorted(names))
    with pytest.raises(StateError, match=r"there is a pool 'dots\.and\.more' already"):
        model.add_pool("dots.and.more", SHAPE)


def test_more_pools_than_the_capacity_are_refused(ids, make_model):
    model = make_model("llama", capacity=2)
    with pytest.raises(StateError, match="2 pools are in, and the budget is shared among 2"):
        model.add_pool("c", SHAPE)
    assert model.score(ids).pools == ("a", "b")
    model.delete_pool("a")
    model.add_pool("c", SHAPE)
    assert model.active_pools == ("b", "c")


def test_deleting_and_unknown_names(make_model):
    model = make_model("llama", pools=("medicine", "law"))
    for act in (model.delete_pool, model.pool, model.set_pool, lambda n: model.set_pool([n])):
        with pytest.raises(UnknownError, match="Did you mean 'medicine'"):
            act("medcine")
    before = len(model.state_dict())
    model.set_pool(["law", "medicine"])
    model.delete_pool("law")
    assert model.active_pools == ("medicine",)
    assert len(model.state_dict()) < before
    model.delete_pool("medicine")
    assert model.active_pools == ()
    with pytest.raises(UnknownError, match="there is none yet"):
        model.pool("law")


def test_a_pool_named_twice_is_asked_once(ids, make_model):
    """Twice the share would break the bound."""
    model = make_model("llama", capacity=2)
    expected = model.score(ids, domains=["a"])
    model.set_pool(["a", "a", "a"])
    assert model.active_pools == ("a",)
    assert same_bits(model.score(ids).mixture_BT, expected.mixture_BT)
    model.set_pool(None)
    assert same_bits(model.score(ids, domains=["a", "a"]).mixture_BT, expected.mixture_BT)


def test_disable_may_be_nested_and_ends_with_an_exception(ids, make_model):
    model = make_model("llama")
    mixed, bare = model(ids, ask="all").logits, make_base("llama")(ids).logits
    with model.disable_pool():
        with model.disable_pool():
            assert model.active_pools == ()
        assert not model.get_model_status().is_enabled
        assert same_bits(model(ids, ask="all").logits, bare)
    assert same_bits(model(ids, ask="all").logits, mixed)
    with pytest.raises(RuntimeError, match="inside"):
        fail_while_disabled(model)
    assert model.get_model_status().is_enabled
    assert same_bits(model(ids, ask="all").logits, mixed)


def fail_while_disabled(model):
    with model.disable_pool(), model.disable_pool():
        raise RuntimeError("inside")


def test_the_status_counts_what_is_there(make_model):
    model = make_model("gpt2", pools=("b", "a"), budget=0.25, capacity=3)
    model.set_pool("b")
    status = model.get_model_status()
    assert status.base == "GPT2LMHeadModel"
    assert (status.host_layers, status.tap, status.signature_layer) == ((1, 3), 1, 2)
    assert (status.pools, status.active_pools) == (("a", "b"), ("b",))
    assert (status.budget, status.capacity, status.is_enabled) == (0.25, 3, True)
    assert status.num_base_parameters == make_base("gpt2").num_parameters()
    assert status.num_pool_parameters == sum(model.pool(n).num_parameters() for n in "ab")


def test_training_a_pool_moves_that_pool_alone(architecture, ids, make_model):
    model = make_model(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    segment = model.pool("b").chain()[0].requires_grad_()
    optimiser = torch.optim.AdamW(segment.parameters(), lr=0.01)
    with torch.no_grad():
        states = run_base(model.attachment, input_ids=ids, use_cache=False).tap_BTD
    positions = torch.arange(20)[None]
    with model.attachment.frozen():
        logits = model.branch_logits("b", states, torch.arange(3), ids, None, positions)
        logits.square().mean().backward()
    optimiser.step()
    after = model.state_dict()
    moved = {name for name in after if not same_bits(after[name], before[name])}
    own = {f"pools.pool_b.segments.0.{name}" for name, _ in segment.named_parameters()}
    assert moved
    assert moved <= own
    assert {name for name in own if name.endswith("ND")} <= moved
    assert all(p.grad is None for p in model.base.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host_layers": ()}, "must be ascending, not"),
        ({"host_layers": (3, 1)}, r"must be ascending, not \[3, 1\]"),
        ({"host_layers": (1, 1)}, "must be ascending"),
        ({"host_layers": (4,)}, "host layer 4 does not exist"),
        ({"host_layers": (1, 7)}, r"host layer 7 does not exist: the base has layers 0\.\.3"),
        ({"budget": 1.0}, "between 0 and 1, not 1.0"),
        ({"host_layers": (-1, 2)}, "host layer -1 does not exist"),
        ({"capacity": 0}, "at least 1, not 0"),
        ({"signature_layer": 9}, "signature layer 9 does not exist"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_and_leaves_no_hook(options, message):
    base = make_base("llama")
    with pytest.raises(InputError, match=message):
        PeerModel(base, **{"host_layers": (1, 3), **options})
    assert not any(module._forward_hooks for module in base.modules())


def test_a_pool_without_segments_or_of_two_widths_is_refused(make_model):
    with pytest.raises(InputError, match="'p' has no segment"):
        ExpertPool("p", [])
    model = make_model("llama", pools=())
    segments = [model.new_segment(SHAPE), Segment(width=16, host_layers=(1,), shape=SHAPE)]
    with pytest.raises(InputError, match=r"widths \[16, 32\]"):
        ExpertPool("p", segments)
