"""Architectures, as tiny random models: those that carry experts, and those that are refused.

`python tests/support/families.py docs/architectures.md` writes the page that lists them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = {"vocab_size": 97, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2304,
}
_LAYER_TYPES = ["sliding_attention", "full_attention"] * 2
_HEADS = LLAMA | {"head_dim": 8}
_SLIDING = _HEADS | {"sliding_window": 8, "layer_types": _LAYER_TYPES}
_PER_LAYER = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 97}
_GPT = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 2304}
_MPT = {"d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": 512, "expansion_ratio": 2}
_FAIRSEQ = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
_MIXTURE = _HEADS | {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 16,
    "decoder_sparse_step": 1,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 2,
}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}

SERVED: dict[str, dict[str, Any]] = {
    "apertus": LLAMA,
    "arcee": LLAMA,
    "bamba": LLAMA | _MAMBA | {"attn_layer_indices": [1, 3]},
    "biogpt": LLAMA,
    "bloom": {"hidden_size": 32, "n_layer": 4, "n_head": 4},
    "codegen": _GPT | {"rotary_dim": 4, "n_ctx": 2304},
    "cohere": LLAMA,
    "cohere2": _SLIDING,
    "deepseek_v2": _MIXTURE | _LATENT,
    "deepseek_v3": _MIXTURE | _LATENT,
    "dots1": _MIXTURE,
    "ernie4_5": LLAMA,
    "exaone4": _SLIDING,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4},
    "falcon_h1": LLAMA | _MAMBA | {"mamba_d_ssm": 64},
    "gemma": _HEADS,
    "gemma2": _SLIDING,
    "gemma3": {
        "text_config": COMMON | _SLIDING,
        "vision_config": _VISION,
        "mm_tokens_per_image": 4,
    },
    "gemma3_text": _SLIDING,
    "gemma4_text": _SLIDING | _PER_LAYER,
    "glm": _HEADS,
    "glm4": _HEADS,
    "glm4_moe": _MIXTURE,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "intermediate_size": 64,
    },
    "gpt_neox": LLAMA,
    "gpt_oss": _MIXTURE | {"head_dim": 16},
    "gptj": _GPT | {"rotary_dim": 4},
    "granite": LLAMA,
    "granitemoe": _MIXTURE,
    "granitemoehybrid": _MIXTURE
    | {"layer_types": ["attention"] * 4, "shared_intermediate_size": 16}
    | {"mamba_n_heads": 8, "mamba_d_head": 8},
    "helium": _HEADS,
    "hunyuan_v1_dense": _HEADS,
    "jamba": LLAMA
    | {"mamba_d_state": 8, "use_mamba_kernels": False, "num_experts": 2, "expert_layer_period": 2}
    | {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": LLAMA | {"layer_types": ["conv", "full_attention"] * 2},
    "llama": LLAMA,
    "minimax": _MIXTURE | {"layer_types": ["full_attention"] * 4},
    "mistral": LLAMA | {"sliding_window": 8},
    "mixtral": LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mpt": _MPT,
    "nemotron": LLAMA,
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "olmo3": _SLIDING,
    "olmoe": _MIXTURE,
    "opt": _FAIRSEQ | {"word_embed_proj_dim": 32},
    "persimmon": LLAMA | {"num_key_value_heads": 4},
    "phi": LLAMA | {"num_key_value_heads": 4},
    "phi3": LLAMA,
    "phimoe": _MIXTURE,
    "qwen2": LLAMA,
    "qwen2_moe": _MIXTURE,
    "qwen3": _HEADS,
    "qwen3_5_moe_text": _MIXTURE | _LINEAR,
    "qwen3_5_text": _HEADS | _LINEAR,
    "qwen3_moe": _MIXTURE,
    "qwen3_next": _MIXTURE | _LINEAR,
    "seed_oss": _HEADS,
    "smollm3": LLAMA,
    "stablelm": LLAMA,
    "starcoder2": LLAMA,
    "vaultgemma": _SLIDING,
    "xglm": {"d_model": 32, "ffn_dim": 64, "num_layers": 4, "attention_heads": 4},
}
"""By architecture, as transformers names it; gemma3 has a vision tower as deep as its decoder."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gemma3n_text": (
        _SLIDING
        | _PER_LAYER
        | {"num_kv_shared_layers": 0, "laurel_rank": 4, "altup_num_inputs": 2}
        | {"activation_sparsity_pattern": [0.0] * 4, "intermediate_size": [64] * 4},
        "several states a token are passed on from layer to layer",
    ),
    "mamba": (
        {"hidden_size": 32, "num_hidden_layers": 4, "state_size": 8},
        "its layers have no feed-forward",
    ),
    "openai-gpt": (_GPT, "it takes no cache"),
    "recurrent_gemma": (
        LLAMA | {"attention_window_size": 8, "lru_width": 32},
        "its cache cannot be handed on",
    ),
}
"""By architecture: its settings, and why."""


def make_base(architecture: str = "llama") -> Any:
    """Return a random model of an architecture; the same weights every time."""
    settings = SERVED.get(architecture) or REFUSED[architecture][0]
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **COMMON | settings)
    return AutoModelForCausalLM.from_config(config).eval()


def page() -> str:
    """Return the page that lists them."""
    refused = "\n".join(f"| {name} | {why} |" for name, (_, why) in REFUSED.items())
    return f"""# Architectures

A base is found by its structure, and `peer-cl init` tries it on a few tokens: experts that add
nothing must change no bit, and random ones must give the same logits, within rounding, with a cache
and without, padded on the left and not. How far they were apart is kept in store.toml. Where the
structure is not found, `peer_cl.register_decoder` says where the layers are.

The tests try tiny random models of these {len(SERVED)}, by transformers' names:
{", ".join(SERVED)}.

| refused | why |
|---|---|
{refused}
"""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
