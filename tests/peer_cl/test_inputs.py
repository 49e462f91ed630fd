"""What a call is given is checked before the base fails in words of its own."""

import copy
import re

import pytest
import torch
from bits import same_bits
from tiny import SHAPE
from transformers import GPT2Config, GPT2LMHeadModel

from peer_cl import PeerModel
from peer_cl.errors import InputError, ShapeError, StateError, UnsupportedError

VERBS = {
    "forward": lambda model, ids, mask=None: model(ids, mask, ask="all"),
    "score": lambda model, ids, mask=None: model.score(ids, mask),
    "generate": lambda model, ids, mask=None: model.generate(
        ids, attention_mask=mask, domains=["a"], max_new_tokens=2
    ),
    "generate bare": lambda model, ids, mask=None: model.generate(
        ids, attention_mask=mask, domains=[], max_new_tokens=2
    ),
}


@pytest.fixture(params=VERBS)
def read(request):
    return VERBS[request.param]


@pytest.mark.parametrize(
    ("ids", "mask", "kind", "message"),
    [
        ([[3, 4]], None, InputError, r"tensor of token ids of shape \(B, T\), not a list"),
        (torch.tensor([3, 4]), None, ShapeError, r"shape \(2,\), not \(B, T\).*input_ids\[None\]"),
        (torch.ones(1, 0).long(), None, ShapeError, r"shape \(1, 0\).* at least one row and one"),
        (torch.ones(0, 3).long(), None, ShapeError, r"shape \(0, 3\).* at least one row and one"),
        (torch.ones(1, 3), None, InputError, r"whole numbers, not torch\.float32"),
        (torch.ones(1, 3).byte(), None, InputError, r"64 or 32 bits, not torch\.uint8: .*long"),
        (
            torch.ones(2, 3).long(),
            torch.ones(2, 4),
            ShapeError,
            r"attention_mask has shape \(2, 4\), the ids \(2, 3\)",
        ),
        (
            torch.ones(2, 3).long(),
            [[1, 1, 1]] * 2,
            InputError,
            "attention_mask must be a tensor, not a list",
        ),
    ],
    ids=["list", "one row", "no token", "no row", "floats", "bytes", "mask's shape", "mask's type"],
)
def test_what_is_no_batch_of_ids_is_refused(read, make_model, ids, mask, kind, message):
    model = make_model("llama")
    with pytest.raises(kind, match=message) as refused:
        read(model, ids, mask)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", [-1, "one too many"])
def test_ids_that_no_token_has_are_refused(read, make_model, wrong):
    """On a CPU torch said 'index out of range in self'."""
    model = make_model("llama")
    known = model.base.get_input_embeddings().num_embeddings
    number = -1 if wrong == -1 else known
    with pytest.raises(
        InputError, match=f"holds {number}, and the base knows tokens 0 to {known - 1}"
    ):
        read(model, torch.tensor([[3, number, 4]]))


def test_positions_of_another_shape_are_refused(ids, make_model):
    model = make_model("llama")
    with pytest.raises(ShapeError, match=r"position_ids has shape \(2, 20\), the ids \(3, 20\)"):
        model(ids, position_ids=torch.arange(20).expand(2, 20))
    one = model(ids, position_ids=torch.arange(20)[None], domains=[])
    assert same_bits(one.logits, model(ids, domains=[]).logits)


@pytest.mark.parametrize(
    ("lengths", "kind", "message"),
    [
        ([3, 4, 5], InputError, r"must be a tensor of shape \(B,\), not a list"),
        (torch.tensor([3, 4]), ShapeError, r"context_lengths has shape \(2,\), not \(3,\)"),
        (torch.tensor(3), ShapeError, r"context_lengths has shape \(\), not \(3,\)"),
        (torch.tensor([3.5, 4, 5]), InputError, r"whole numbers, not torch\.float32"),
        (torch.tensor([3, 0, 5]), InputError, "holds 0: a row of 20 tokens has a context of 1 to"),
        (torch.tensor([3, 21, 5]), InputError, "holds 21: a row of 20 tokens has a context of 1"),
    ],
    ids=["list", "rows", "one number", "floats", "none", "too long"],
)
def test_lengths_that_no_context_has_are_refused(ids, make_model, lengths, kind, message):
    model = make_model("llama")
    for read in (model.score, model):
        with pytest.raises(kind, match=message):
            read(ids, ask="all", context_lengths=lengths)
        read(ids, ask="all", context_lengths=torch.tensor([1, 20, 7]))


def test_an_evidence_mask_is_a_tensor_of_the_ids_shape(ids, make_model):
    model = make_model("llama")
    reads = (model.score, model, lambda ids, **mask: model.generate(ids, domains=["a"], **mask))
    for read in reads:
        with pytest.raises(InputError, match="evidence_mask must be a tensor, not a list"):
            read(ids, evidence_mask=[1])
        with pytest.raises(ShapeError, match=r"evidence_mask has shape \(3, 19\), the ids"):
            read(ids, evidence_mask=torch.ones(3, 19))


def test_nothing_is_read_past_the_bases_context(read, ids):
    """Learned positions end there: torch said 'index out of range in self'."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=4, n_head=4, n_positions=21)
    base = GPT2LMHeadModel(config).eval()
    model = PeerModel(base, host_layers=(1, 3))
    model.add_pool("a", SHAPE)
    read(model, ids[:, :19])
    longer = torch.cat([ids, ids], 1)
    with pytest.raises(InputError, match=r"has (22|40) tokens .*context is 21: give a"):
        read(model, longer[:, :22] if read is VERBS["score"] else longer)
    with pytest.raises(InputError, match=r"has 20 tokens and up to 2 new ones .* context is 21"):
        model.generate(ids, max_new_tokens=2)


def test_a_base_that_was_put_into_training_mode_is_not_asked(read, ids, make_model):
    model = make_model("gpt2")
    model.base.train()
    with pytest.raises(StateError, match=r"in training mode.* model\.eval\(\)"):
        read(model, ids)
    read(model.eval(), ids)
    for part in (model.base.transformer, model.base.transformer.h[2].attn.attn_dropout):
        part.train()
        name = next(name for name, module in model.base.named_modules() if module is part)
        with pytest.raises(StateError, match=rf"mode \({re.escape(name)}\).* model\.eval\(\)"):
            read(model, ids)
        read(model.eval(), ids)


@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        ("labels", torch.ones(3, 20).long(), r"score\(\.\.\.\)"),
        ("use_cache", True, "PeerCache"),
        ("output_hidden_states", True, "run_base"),
        ("return_dict", False, r"\.logits"),
        ("lables", 1, "no option of a PeerModel"),
    ],
)
def test_options_of_other_models_are_refused_by_name(ids, make_model, option, value, instead):
    with pytest.raises(UnsupportedError, match=rf"forward\({option}=\.\.\.\) .*{instead}"):
        make_model("llama")(ids, **{option: value})


def test_options_that_ask_for_what_is_done_anyway_pass(ids, make_model):
    model = make_model("llama")
    told = {"labels": None, "use_cache": False, "output_hidden_states": False, "return_dict": True}
    assert same_bits(model(ids, ask="all", **told).logits, model(ids, ask="all").logits)


def test_a_model_says_where_and_what_its_base_is(ids, make_model):
    model = make_model("llama").bfloat16()
    assert (model.device, model.dtype) == (model.base.device, torch.bfloat16)
    assert model.config is model.base.config
    model(ids.to(model.device), ask="all")
    for name in ("device", "dtype", "config"):
        with pytest.raises(AttributeError):
            setattr(model, name, None)


# --- pools --------------------------------------------------------------------------------------


def test_a_pools_name_and_kind_are_checked(make_model):
    model = make_model("llama")
    with pytest.raises(InputError, match=r"name must be a str, not 5 \(int\)"):
        model.add_pool(5)
    with pytest.raises(InputError, match=r"pool 'c' must be an ExpertPool, or .* not a Segment"):
        model.add_pool("c", model.new_segment(SHAPE))
    assert model.active_pools == ("a", "b")


def test_one_pool_is_not_in_under_two_names(ids, make_model):
    model = make_model("llama")
    with pytest.raises(StateError, match=r"in as 'a' already and cannot be 'c' too.*deepcopy"):
        model.add_pool("c", model.pool("a"))
    model.add_pool("c", copy.deepcopy(model.pool("a")))
    scores = model.score(ids)
    assert same_bits(scores.log_probs_QBT[3], scores.log_probs_QBT[1])
    pool = model.pool("b")
    model.delete_pool("b")
    assert model.add_pool("d", pool) is pool


def test_a_model_that_gave_its_base_back_says_so(read, ids, make_model):
    model = make_model("llama")
    model.detach()
    with pytest.raises(StateError, match=r"was detached from its base .* make a new one"):
        read(model, ids, None)
