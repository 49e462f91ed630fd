"""Tiny random models of three architectures, and pools that say something."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, LlamaConfig

from peer_cl import PeerModel, PoolShape

VOCABULARY = 97
SPECIAL = (0, 1)
SHAPE = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)

CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2304,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=2304,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    ),
    "gemma3": Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        layer_types=[
            "sliding_attention",
            "full_attention",
            "sliding_attention",
            "full_attention",
        ],
        max_position_embeddings=2304,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    ),
}


def make_base(architecture: str) -> Any:
    """Return a random model of an architecture; the same weights every time."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[architecture]).eval()


def teach(model: PeerModel, name: str, seed: int, scale: float = 0.3) -> None:
    """Give a pool random rows, so that it says something else than the base."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.pool(name).parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)


def make_trainer(model, segment, settings):
    """Return what trains a domain's first segment for a step, with no state kept on disk."""
    from pipelines.features import Features
    from pipelines.training import SegmentTrainer

    return SegmentTrainer(
        attachment=model.attachment,
        segment=segment,
        older=[],
        features=Features((), (), None, ()),
        settings=settings,
        total_steps=1,
    )
