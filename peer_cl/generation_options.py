"""Options of transformers' `generate` as they take effect, and those that are not served.

An option is told to the call, in the config that the call was given, or in the base's own, for
which the call's `base_config` may stand in: the first of these that says something counts, as in
transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from peer_cl.cache import PeerCache
from peer_cl.errors import InputError, UnsupportedError
from peer_cl.inputs import check_room

if TYPE_CHECKING:
    from peer_cl.model import PeerModel

REFUSED = (
    "assistant_model",
    "assistant_early_exit",
    "prompt_lookup_num_tokens",
    "use_mtp",
    "prefill_chunk_size",
    "custom_generate",
    "inputs_embeds",
    "past_key_values",
    "penalty_alpha",
    "negative_prompt_ids",
    "output_hidden_states",
    "output_attentions",
    "token_healing",
    "is_assistant",
)
"""Options that need another kind of cache, a second model, or states of one model alone: a mixture
has those of every branch, and its base's are dropped where it no longer speaks."""
_COUNTS = ("num_beams", "num_return_sequences")
_NONE_IS_UNSAID = (*_COUNTS, "use_cache")
_UNSAID_NEW = 20
"""How many new tokens transformers writes where nothing says how many."""
_DYNAMIC = (None, "dynamic", "hybrid")
"""Kinds of cache that are a dynamic one: transformers takes "hybrid", of older folders, for it."""


def said(options: dict[str, Any]) -> dict[str, Any]:
    """Return a call's options without those that are None, with which transformers would count."""
    return {k: v for k, v in options.items() if v is not None or k not in _NONE_IS_UNSAID}


def told(model: PeerModel, options: dict[str, Any], name: str) -> Any:
    """Return an option as transformers finds it: told to the call, in its config, in the base's."""
    if options.get(name) is not None:
        return options[name]
    own = getattr(options.get("generation_config"), name, None)
    return own if own is not None else getattr(own_config(model, options), name, None)


def own_config(model: PeerModel, options: dict[str, Any]) -> GenerationConfig:
    """Return what is asked last: what the call has the base's own config replaced by, or that."""
    given = options.get("base_config")
    found: GenerationConfig = model.base.generation_config if given is None else given
    return found


def num_new_tokens(model: PeerModel, options: dict[str, Any], num_tokens: int) -> int:
    """Return how many tokens are written at most, as transformers counts them.

    Args:
        model: the model; its base's own config counts where neither call nor config say anything.
        options: the call's.
        num_tokens: of the prompt, which `max_length` counts too.
    """
    most = told(model, options, "max_new_tokens")
    if most is not None:
        return int(most)
    length = told(model, options, "max_length")
    if length is None:
        length = num_tokens + _UNSAID_NEW
        context = getattr(model.base.config, "max_position_embeddings", None)
        length = length if context is None else min(length, context)
    return max(0, int(length) - num_tokens)


def inferred_mask(model: PeerModel, options: dict[str, Any], input_ids: Tensor) -> Tensor | None:
    """Return the mask that transformers makes where none is given; None: all is text.

    A padding token is taken for padding only where it stands in the prompts and ends no text.

    Args:
        model: the model.
        options: the call's.
        input_ids: (B, L).
    """
    pad, ends = (  # told to the call, None counts
        options[name] if name in options else told(model, options, name)
        for name in ("pad_token_id", "eos_token_id")
    )
    if pad is None:
        return None
    pad_id = int(pad)
    ends_text = ends is not None and pad_id in torch.as_tensor(ends).flatten().tolist()
    mask_BL = input_ids.ne(pad_id).long()
    return None if ends_text or bool(mask_BL.all()) else mask_BL


def check_length(model: PeerModel, options: dict[str, Any], num_tokens: int) -> None:
    """Refuse to write past the base's context.

    Args:
        model: the model.
        options: the call's.
        num_tokens: of the prompt.

    Raises:
        InputError: with the numbers.
    """
    check_room(model.base, num_tokens, num_new_tokens(model, options, num_tokens))


def check_switch(
    model: PeerModel, options: dict[str, Any], num_tokens: int, cache: PeerCache | None
) -> None:
    """Refuse to write, with a cache, past the length at which a base turns all positions anew.

    Phi-3's rotary positions are others past `original_max_position_embeddings`. There its own
    `prepare_inputs_for_generation` drops the cache and reads the whole text again; the caches of
    the branches cannot be dropped by it, and keys of both kinds would stand in one cache.

    Args:
        model: the model.
        options: the call's.
        num_tokens: of the prompt.
        cache: of an earlier call, or None.

    Raises:
        UnsupportedError: with both numbers.
    """
    switch = switch_length(model.base)
    if switch is None or (cache is None and told(model, options, "use_cache") is False):
        return
    num_cached = cache.get_seq_length() if cache is not None else 0
    shortest = num_cached or num_tokens
    # The last new token is read by nobody.
    longest = num_tokens + num_new_tokens(model, options, num_tokens) - 1
    if shortest <= switch < longest:
        what, there = ("cache", num_cached) if num_cached else ("prompt", num_tokens)
        raise UnsupportedError(
            f"the {what} has {there} tokens and the text may come to {longest + 1}: past {switch} "
            f"(original_max_position_embeddings) {type(model.base).__name__} reads all of it "
            f"anew, and a cache cannot go on; stop at {switch + 1} tokens in all, or write with "
            "use_cache=False and no cache"
        )


def switch_length(base: Any) -> int | None:
    """Return past how many tokens a base's `generate` drops its cache; None: it never does.

    Args:
        base: a causal language model of transformers, or one in PEFT's wrapper.
    """
    inside = base.get_base_model() if hasattr(base, "get_base_model") else base
    own = type(inside).prepare_inputs_for_generation
    if own is GenerationMixin.prepare_inputs_for_generation:
        return None
    length = getattr(inside.config, "original_max_position_embeddings", None)
    return int(length) if length else None


def refuse(model: PeerModel, options: dict[str, Any], cache: Any) -> None:
    """Refuse what cannot be served, wherever it is told, and whether or not a pool is asked.

    Raises:
        InputError: when `generation_config` or `base_config` is none.
        UnsupportedError: naming the option and where it is told.
    """
    for name in ("generation_config", "base_config"):
        config = options.get(name)
        if config is not None and not isinstance(config, GenerationConfig):
            raise InputError(
                f"{name} must be a GenerationConfig, not a {type(config).__name__}; after the ids "
                "every other option is given by its name"
            )
    for name in REFUSED:
        value = told(model, options, name)
        if value is not None and value is not False and (name, value) != ("penalty_alpha", 0):
            raise UnsupportedError(
                f"generate({name}=...) is not served with pools; {_undo(options, name)}"
            )
    if told(model, options, "guidance_scale") not in (None, 1):
        raise UnsupportedError(
            "a generation_config's guidance_scale wants a second model: pass guidance_scale itself"
            f", and {_undo(options, 'guidance_scale')}"
        )
    _refuse_cache(model, options, cache)


def _refuse_cache(model: PeerModel, options: dict[str, Any], cache: Any) -> None:
    kind = told(model, options, "cache_implementation")
    if kind not in _DYNAMIC:
        raise UnsupportedError(
            f"cache_implementation={kind!r} is not served: only 'dynamic' is; "
            f"{_undo(options, 'cache_implementation')}"
        )
    check_cache(cache)
    many = max(int(told(model, options, name) or 1) for name in _COUNTS)
    if cache is not None and many > 1:
        raise UnsupportedError("a conversation's cache cannot be carried on with several beams")


def check_cache(cache: Any) -> None:
    """Refuse a cache that does not keep what pools read.

    Raises: UnsupportedError: naming its kind.
    """
    if cache is not None and not isinstance(cache, PeerCache):
        raise UnsupportedError(f"a {type(cache).__name__} is not served: pass a PeerCache")


def _undo(options: dict[str, Any], name: str) -> str:
    """Return what to do about an option, by where it is told."""
    if options.get(name) is not None:
        return "leave it out"
    own = getattr(options.get("generation_config"), name, None)
    last = "model.base.generation_config" if options.get("base_config") is None else "base_config"
    place = "the generation_config" if own is not None else last
    return f"set {place}.{name} to None"
