"""Which pretrained model stands underneath, and how it is known again.

A base is anything that `AutoModelForCausalLM` loads: a folder, or an id on a hub.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from peer_cl.errors import InputError
from peer_cl.pool import BaseIdentity, tensors_sha256


@dataclass(frozen=True)
class Base:
    """A loaded base model with its tokenizer and identity."""

    name: str
    """The folder or hub id that it came from."""
    model: Any
    """The causal language model, in eval mode."""
    tokenizer: Any
    """Its tokenizer."""
    identity: BaseIdentity
    """The hashes of both."""


def load_base(source: str, *, dtype: torch.dtype = torch.float32) -> Base:
    """Return the pretrained model and tokenizer in a folder or under a hub id.

    Args:
        source: a folder, or an id such as "HuggingFaceTB/SmolLM2-135M".
        dtype: of the weights; every promise about bits holds for one dtype at a time.

    Raises:
        InputError: when nothing can be loaded from there; the loader's own words follow.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"no base model can be loaded from {source!r}: {reason}; give a folder with "
            "safetensors weights and a tokenizer, or a hub id that this machine can reach"
        ) from error
    model.eval()
    return Base(source, model, tokenizer, identify(model, tokenizer))


def identify(model: Any, tokenizer: Any | None) -> BaseIdentity:
    """Return the hashes that a pool or a store remembers its base by.

    Args:
        model: a loaded model; every parameter and persistent buffer is hashed by name.
        tokenizer: its tokenizer, or None where there is none (tests on random models).
    """
    return BaseIdentity(tensors_sha256(model.state_dict()), tokenizer_sha256(tokenizer))


def context_length(model: Any) -> int | None:
    """Return how many tokens a base reads at most; None where its config names no end.

    Args:
        model: a causal language model of transformers.
    """
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "max_seq_len"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return None


def within_context(model: Any, num_tokens: int) -> int:
    """Return a number of tokens, or the base's context where that is shorter.

    Past its context a base with learned positions fails, and others say what they never learned.

    Args:
        model: a causal language model of transformers.
        num_tokens: how many are wanted.
    """
    return min(num_tokens, context_length(model) or num_tokens)


def tokenizer_sha256(tokenizer: Any | None) -> str:
    """Return a hash over what a tokenizer does: its model, vocabulary and special tokens.

    Padding and truncation are left out: they are settings of a call, not of the tokenizer.
    """
    if tokenizer is None:
        return hashlib.sha256(b"").hexdigest()
    special = {str(key): str(value) for key, value in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        about = json.loads(backend.to_str())
        about.pop("padding", None)
        about.pop("truncation", None)
    else:
        about = tokenizer.get_vocab()
    return hashlib.sha256(
        json.dumps([about, special], sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()


def start_token_id(tokenizer: Any) -> int:
    """Return the token that stands before a document's first one.

    A tokenizer that adds one itself decides; otherwise it is the separator of pretraining, which
    models without a begin token call end-of-text.

    Raises:
        InputError: when the tokenizer has no special token at all.
    """
    ids = tokenizer("a").input_ids
    if ids and ids[0] in tokenizer.all_special_ids:
        return int(ids[0])
    separator = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    if isinstance(separator, int) and separator in tokenizer.all_special_ids:
        return separator
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token_id is not None:
            return int(token_id)
    raise InputError("the tokenizer has no begin, end or separator token to start a document with")
