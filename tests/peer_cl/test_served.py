"""Which bases are served: the others are refused in one line and keep no trace."""

import dataclasses

import pytest
import torch
from bits import portrait, same_bits
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny import SHAPE, make_base, teach
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from peer_cl import PeerModel
from peer_cl.attach import Attachment
from peer_cl.branches import (
    accepted_arguments,
    branch_cache,
    default_position_ids,
    run_base,
    run_branch,
)
from peer_cl.errors import InputError, UnsupportedError

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
ATTENTION, CONV = "full_attention", "conv"
MIXED = {
    "num_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
SELECTIVE = {
    "num_experts": 2,
    "mamba_d_state": 4,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
}
FOUR_STATES = {
    "vocab_size_per_layer_input": 97,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", ATTENTION] * 2,
    "activation_sparsity_pattern": [0.0] * 4,
    "laurel_rank": 4,
}
OTHER_NAMES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 4}


def tiny(kind, **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **options)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("qwen3_next", TINY | MIXED, r"layers 1, 2 of Qwen3Next\w+ keep a LinearAttentionLayer"),
        ("jamba", TINY | SELECTIVE, "layers 2 of JambaForCausalLM keep"),
        ("lfm2", TINY | {"layer_types": [CONV, ATTENTION] * 2}, r"layers 2 of Lfm2.* \(layer 1\)"),
        ("gemma3n_text", TINY | FOUR_STATES, r"states of shape \(4, 1, 1, 32\) for one token"),
        ("mamba", OTHER_NAMES | {"state_size": 4}, "MambaForCausalLM has no list of 4 decoder"),
        (
            "opt",
            OTHER_NAMES | {"num_attention_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 32},
            "OPTForCausalLM has no list of 4 decoder layers",
        ),
        (
            "openai-gpt",
            {"vocab_size": 97, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64},
            "the layers of OpenAIGPTLMHeadModel return a list, no tensor",
        ),
    ],
    ids=["qwen3-next", "jamba", "lfm2", "gemma-3n", "mamba", "opt", "openai-gpt"],
)
def test_another_architecture_is_refused_at_attachment(kind, options, message):
    base = tiny(kind, **options)
    before = portrait(base)
    with pytest.raises(UnsupportedError, match=message) as refused:
        Attachment(base, tap=1, signature_layer=2)
    assert "\n" not in str(refused.value)
    assert portrait(base) == before


def test_a_base_whose_forward_takes_no_cache_is_refused(monkeypatch):
    base = make_base("llama")
    own = base.forward

    def without_cache(input_ids, attention_mask=None, use_cache=False):
        return own(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    monkeypatch.setattr(base, "forward", without_cache)
    with pytest.raises(UnsupportedError, match="forward of LlamaForCausalLM takes no cache of"):
        PeerModel(base, host_layers=(1, 3))
    assert not any(module._forward_hooks for module in base.modules())


def test_convolutions_below_the_tap_are_served(ids):
    base = tiny("lfm2", **TINY, layer_types=[CONV, ATTENTION, ATTENTION, ATTENTION])
    bare = base(ids, use_cache=False).logits
    model = PeerModel(base, host_layers=(1, 3), budget=0.2, capacity=2)
    model.add_pool("a", SHAPE)
    teach(model, "a", seed=1)
    assert same_bits(model(ids, domains=[]).logits, bare)
    told = {"domains": ["a"], "force": True, "max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(ids, **told), model.generate(ids, use_cache=False, **told))


# --- wrapped, compiled and quantised bases ------------------------------------------------------


@pytest.fixture
def wrapped():
    """A GPT-2 in PEFT's wrapper, with a LoRA that says nothing, and the same one bare."""
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    return get_peft_model(make_base("gpt2"), config).eval(), make_base("gpt2")


def with_a_pool(base, mode="augment"):
    model = PeerModel(base, host_layers=(1, 3), budget=0.2, capacity=2)
    model.add_pool("a", dataclasses.replace(SHAPE, mode=mode))
    teach(model, "a", seed=1)
    return model


def test_a_base_in_pefts_wrapper_is_told_positions_and_caches(ids, wrapped):
    """PEFT's forward names neither; left out, a padded batch was scored at wrong positions."""
    ours, bare = (with_a_pool(base) for base in wrapped)
    mask = torch.ones_like(ids)
    mask[0, :5] = mask[2, :9] = 0
    found, expected = ours.score(ids, mask), bare.score(ids, mask)
    torch.testing.assert_close(found.log_probs_QBT, expected.log_probs_QBT, atol=1e-5, rtol=1e-5)
    alone = ours.score(ids[:1, 5:]).log_probs_QBT[:, 0]
    torch.testing.assert_close(found.log_probs_QBT[:, 0, 6:], alone[:, 1:], atol=1e-4, rtol=1e-4)
    cache = branch_cache(ours.base.config, 1)
    states = run_base(ours.attachment, input_ids=ids, use_cache=False).tap_BTD
    positions = default_position_ids(20, 0, "cpu")
    told = {"input_ids": ids, "attention_mask": None, "position_ids": positions}
    last = run_branch(ours.attachment, [], states, **told, cache=cache, logits_to_keep=1)
    assert cache.get_seq_length() == 20
    assert last.shape[1] == 1
    asked = {"domains": ["a"], "force": True, "max_new_tokens": 6, "do_sample": False}
    written = [model.generate(ids, attention_mask=mask, **asked) for model in (ours, bare)]
    assert torch.equal(*written)


@pytest.mark.parametrize("kind", ["bloom", "mpt"])
def test_a_plain_model_without_places_for_positions_is_told_none(kind):
    base = tiny(kind, vocab_size=97, hidden_size=32, n_layers=2, n_heads=4)
    wanted = ["position_ids", "cache", "logits_to_keep"]
    assert accepted_arguments(base, wanted) == {"cache", "logits_to_keep"}


TINY_BERT = {key: TINY[key] for key in TINY if key not in ("num_key_value_heads", "head_dim")}
TINY_BERT |= {"cls_token_id": 0, "sep_token_id": 1}
LOOKS_AHEAD = r"ModernBertForMaskedLM looks at the tokens to come: .* moved by [\d.]+% with the one"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_base_that_looks_ahead_is_refused(dtype):
    """It was taken, and every promise about a text's beginning was silently broken."""
    torch.manual_seed(0)
    base = ModernBertForMaskedLM(ModernBertConfig(**TINY_BERT)).eval()
    with torch.no_grad():
        for layer in base.model.layers:
            layer.attn.Wo.weight *= 5
    base = base.to(dtype)
    before = portrait(base)
    for make in (
        lambda: PeerModel(base, host_layers=(1, 3)),
        lambda: Attachment(base, tap=1, signature_layer=2),
    ):
        with pytest.raises(UnsupportedError, match=LOOKS_AHEAD) as refused:
            make()
        assert "\n" not in str(refused.value)
    assert portrait(base) == before


@pytest.mark.parametrize(
    "kind", [LlamaModel, LlamaForSequenceClassification, LlamaForTokenClassification]
)
def test_a_base_without_a_head_of_tokens_is_refused(kind):
    base = kind(make_base("llama").config).eval()
    before = portrait(base)
    with pytest.raises(
        UnsupportedError, match=rf"a {kind.__name__} gives no logits of tokens .*AutoModelFor"
    ) as refused:
        PeerModel(base, host_layers=(1, 3))
    assert "\n" not in str(refused.value)
    assert portrait(base) == before


def test_a_base_that_gives_its_last_logits_alone_is_refused(monkeypatch):
    base = make_base("llama")
    own = base.forward
    monkeypatch.setattr(base, "forward", lambda **told: own(**told, logits_to_keep=1))
    with pytest.raises(UnsupportedError, match=r"logits of shape \(2, 1, 97\) .* not \(2, 2, V\)"):
        PeerModel(base, host_layers=(1, 3))
    assert not any(module._forward_hooks for module in base.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3", "qwen2_moe"])
def test_causal_bases_in_half_precision_are_taken(kind, dtype):
    base = tiny(kind, **TINY, **MIXED) if kind == "qwen2_moe" else make_base(kind)
    PeerModel(base.to(dtype), host_layers=(1, 3)).detach()


def compiled_in_place():
    base = make_base("llama")
    base.compile()
    return base


def compiled_layers():
    base = make_base("llama")
    for layer in base.model.layers:
        layer.compile(backend="eager")
    return base


def compiled_feed_forward():
    base = make_base("llama")
    base.model.layers[2].mlp = torch.compile(base.model.layers[2].mlp, backend="eager")
    return base


def with_virtual_tokens():
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    return get_peft_model(make_base("llama"), config).eval()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.compile(make_base("llama")), r"compiled base \(OptimizedModule\)"),
        (compiled_in_place, r"compiled base \(LlamaForCausalLM\)"),
        (compiled_layers, r"compiled base \(model\.layers\.0\)"),
        (compiled_feed_forward, r"compiled base \(model\.layers\.2\.mlp\)"),
        (
            lambda: torch.ao.quantization.quantize_dynamic(make_base("llama"), {torch.nn.Linear}),
            r"q_proj\.\w*scale|_packed_params.* of the base is a \w+ and no tensor",
        ),
        (with_virtual_tokens, "virtual tokens before the text"),
    ],
    ids=["compiled", "in place", "its layers", "a feed-forward", "int8", "prompt tuning"],
)
def test_a_base_that_cannot_be_listened_to_is_refused(make, message):
    base = make()
    with pytest.raises(UnsupportedError, match=message) as refused:
        PeerModel(base, host_layers=(1, 3))
    assert "\n" not in str(refused.value)
    assert not any(module._forward_hooks for module in base.modules())


def compile_layers(model):
    for layer in model.base.model.layers:
        layer.compile(backend="eager")


def compile_feed_forwards(model):
    for layer in model.base.model.layers:
        layer.mlp.compile(backend="eager")


@pytest.mark.parametrize("mode", ["augment", "inside"])
@pytest.mark.parametrize("compile_some", [compile_layers, compile_feed_forwards])
def test_layers_that_are_compiled_later_are_told_of(ids, mode, compile_some):
    """A bare KeyError, or, inside feed-forwards, pools that said nothing."""
    torch.compiler.reset()
    model = with_a_pool(make_base("llama"), mode)
    expected = model(ids, ask="all").logits
    compile_some(model)
    if (mode, compile_some) == ("augment", compile_feed_forwards):  # it is heard from outside
        assert torch.equal(model(ids, ask="all").logits, expected)
        return
    with pytest.raises(UnsupportedError, match="layer 1 of LlamaForCausalLM ran past the pools"):
        model(ids, ask="all")
    if compile_some is compile_layers:
        with pytest.raises(UnsupportedError, match="layer 3 of LlamaForCausalLM ran past"):
            run_base(model.attachment, reads=[3], input_ids=ids, use_cache=False)


@pytest.mark.parametrize("mode", ["augment", "inside"])
def test_a_whole_model_and_a_whole_base_may_be_compiled_later(ids, mode):
    torch.compiler.reset()
    model = with_a_pool(make_base("llama"), mode)
    with torch.no_grad():
        expected = model(ids, ask="all").logits
        whole = torch.compile(model, backend="eager")
        assert torch.equal(whole(ids, ask="all").logits, expected)
        model.base.compile(backend="eager")
        assert torch.equal(model(ids, ask="all").logits, expected)


@pytest.mark.parametrize("base", ["org/name", None])
def test_what_is_no_model_is_refused(base, tmp_path):
    for make in (lambda: PeerModel(base, host_layers=(1,)), lambda: load(tmp_path, base)):
        with pytest.raises(InputError, match=f"must be a loaded .*, not {base!r} .*load_base"):
            make()


def load(folder, base):
    with_a_pool(make_base("llama")).save_pretrained(folder)
    return PeerModel.from_pretrained(folder, base)
