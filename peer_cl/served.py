"""Which base models are served: others are refused in one line, before anything is asked of them.

Shape suffixes: B rows, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from peer_cl.errors import BaseMismatchError, InputError, StateError, UnsupportedError
from peer_cl.pool import BaseIdentity, dtype_name, tensors_sha256

_LOOKS_AHEAD = 1e-3
"""Relative change of a token's logits with the token after it, from which on a model is not causal;
a kernel's rounding is far below in fp32."""


def check_base(base: Any) -> None:
    """Refuse what no pool can stand on, before its weights are hashed.

    Args:
        base: what the user gave as the base.

    Raises:
        InputError: when it is no loaded model.
        StateError: when it is in training mode: dropout would make each call another.
        UnsupportedError: when it or a part of it is compiled, it is quantised into packed weights,
            has virtual tokens, or gives no logits of tokens.
    """
    kind = type(base).__name__
    if not isinstance(base, nn.Module) or not hasattr(base, "config"):
        raise InputError(
            f"the base must be a loaded causal language model, not {base!r:.80} ({kind}): load it "
            "with peer_cl.load_base(...).model or AutoModelForCausalLM.from_pretrained(...)"
        )
    for name, module in base.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise UnsupportedError(
                f"a compiled base ({name or kind}) is not served: pools listen inside its forward; "
                "give the model as it was before torch.compile"
            )
    if bool(getattr(getattr(base, "active_peft_config", None), "is_prompt_learning", False)):
        raise UnsupportedError(
            f"a base with virtual tokens before the text ({kind}) is not served; give one with "
            "LoRA, or none"
        )
    for name, value in base.state_dict().items():
        if not isinstance(value, Tensor):
            raise UnsupportedError(
                f"{name} of the base is a {type(value).__name__} and no tensor, as in a quantised "
                "model: this is not served; load the base in float32 or bfloat16"
            )
    head = getattr(base, "get_output_embeddings", lambda: None)()
    if head is None:
        raise UnsupportedError(
            f"a {kind} gives no logits of tokens (it has no output embeddings): load it with "
            "AutoModelForCausalLM, which puts a language model's head on it"
        )
    check_evaluation(base, "base.eval()")


def check_evaluation(base: Any, remedy: str) -> None:
    """Refuse a base of which any part is in training mode.

    Args:
        base: a loaded model.
        remedy: what the message says to call.

    Raises:
        StateError: naming the first such part.
    """
    if not any(module.training for module in base.modules()):
        return
    parts = (name or type(base).__name__ for name, m in base.named_modules() if m.training)
    raise StateError(
        f"the base is in training mode ({next(parts)}): dropout would change every call; call "
        f"{remedy} first"
    )


def check_unchanged(base: Any, made_on: BaseIdentity) -> None:
    """Refuse a base whose weights are no longer those that a model was made on.

    Args:
        base: the model's base.
        made_on: the identity that it had then.

    Raises:
        BaseMismatchError: naming both hashes, or both dtypes.

    Cost: one pass over the weights' bytes.
    """
    dtype = dtype_name(base)
    if made_on.dtype and dtype != made_on.dtype:
        raise BaseMismatchError(
            f"the base is {dtype} now, and was {made_on.dtype} when the model was made, by whose "
            f"weights it is known again: save before half() or to(), or make the model on a base "
            f"that is loaded with dtype=torch.{dtype}"
        )
    found = tensors_sha256(base.state_dict())
    if found != made_on.weights_sha256:
        raise BaseMismatchError(
            f"the base's weights hash to {found[:16]}..., and to {made_on.weights_sha256[:16]}... "
            "when the model was made: something changed them (an optimiser over "
            "model.parameters()?); load the base again and train pools alone, "
            "with model.trainable_parameters()"
        )


def width_of(model: Any) -> int:
    """Return D, the width of a base's hidden states.

    Args:
        model: a causal language model of transformers.
    """
    return int(model.config.get_text_config(decoder=True).hidden_size)


def accepted_arguments(model: Any, wanted: Iterable[str]) -> frozenset[str]:
    """Return which of these arguments a model's forward takes.

    A wrapper (PEFT's) hands on what it does not name to the model inside, whose own signature then
    says what is taken. A model of transformers takes what it names and no more: what else it is
    given goes to its attention, where one without places for positions (ALiBi) overlooks them.

    Args:
        model: the base.
        wanted: names of arguments.

    Example:
        >>> from types import SimpleNamespace
        >>> alone = SimpleNamespace(forward=lambda input_ids, cache=None: None)
        >>> wrapped = SimpleNamespace(forward=lambda input_ids, **rest: None)
        >>> sorted(accepted_arguments(alone, ["cache", "position_ids"]))
        ['cache']
        >>> sorted(accepted_arguments(wrapped, ["cache", "position_ids"]))
        ['cache', 'position_ids']
    """
    inside = model.get_base_model() if hasattr(model, "get_base_model") else model
    named = inspect.signature(inside.forward).parameters
    hands_on = any(own.kind is own.VAR_KEYWORD for own in named.values())
    if hands_on and not isinstance(inside, PreTrainedModel):
        return frozenset(wanted)
    return frozenset(name for name in wanted if name in named)


def check_caches(model: Any, tap: int) -> None:
    """Refuse a model of which a layer from the tap up keeps no keys and values of every token.

    A branch catches up with a text by its states at the tap, over a cache of its own; a recurrent
    or convolutional state tells neither how far it has come nor can it be told which rows to keep.

    Args:
        model: a causal language model of transformers.
        tap: the first layer that runs in a branch.

    Raises:
        UnsupportedError: naming the layers and what their cache is.
    """
    others = {
        number: type(layer).__name__
        for number, layer in enumerate(DynamicCache(config=model.config).layers)
        if number >= tap and not isinstance(layer, DynamicLayer)
    }
    if others:
        raise UnsupportedError(
            f"layers {', '.join(map(str, others))} of {type(model).__name__} keep a "
            f"{', '.join(sorted(set(others.values())))} and not the attention's keys and values; "
            f"from the tap (layer {tap}) up every layer must be attention: take a higher first "
            "host layer, or another base"
        )


def check_takes_cache(model: Any) -> None:
    """Refuse a model whose forward takes no cache: a branch catches up with a text by one.

    Args:
        model: a causal language model of transformers.

    Raises:
        UnsupportedError: naming its kind.
    """
    if not accepted_arguments(model, ["cache"]):
        raise UnsupportedError(
            f"the forward of {type(model).__name__} takes no cache of keys and values, by which "
            "pools catch up with a text: this architecture is not served; take another base"
        )


def check_causal(model: Any) -> None:
    """Refuse a model that gives no logits of every token, or that looks at the tokens to come.

    Two texts that differ in their last token alone are read at once: of a causal model the logits
    before it are the same, but for what a kernel may round otherwise.

    Args:
        model: a loaded model.

    Raises:
        UnsupportedError: naming the shape of the logits, or how far they are from each other.
    """
    embeddings = model.get_input_embeddings().weight
    padding = getattr(model.config, "pad_token_id", None)
    tokens = [token for token in range(min(len(embeddings), 8)) if token != padding]
    if len(tokens) < 3:
        return
    ids_BT = torch.tensor([[tokens[0], tokens[1]], [tokens[0], tokens[2]]]).to(embeddings.device)
    kind = type(model).__name__
    logits_BTV = getattr(model(input_ids=ids_BT, use_cache=False), "logits", None)
    if not isinstance(logits_BTV, Tensor) or logits_BTV.shape[:-1] != (2, 2):
        shape = tuple(logits_BTV.shape) if isinstance(logits_BTV, Tensor) else None
        raise UnsupportedError(
            f"{kind} gives logits of shape {shape} for two texts of two tokens, not (2, 2, V): "
            "load a causal language model (AutoModelForCausalLM)"
        )
    rounding = max(torch.finfo(one.dtype).eps for one in (logits_BTV, embeddings))
    first_V, other_V = logits_BTV[:, 0].float()
    change = float((other_V - first_V).norm() / (first_V - first_V.mean()).norm())
    if change > max(_LOOKS_AHEAD, 8 * rounding):
        raise UnsupportedError(
            f"{kind} looks at the tokens to come: the logits of a token moved by {change:.1%} with "
            "the one after it; it is no causal language model, and the promises would not hold: "
            "take one that is"
        )


def unheard(model: Any, number: int) -> UnsupportedError:
    """Return the error for a layer whose feed-forward ran past the hooks.

    Args:
        model: the base.
        number: of the layer.
    """
    return UnsupportedError(
        f"layer {number} of {type(model).__name__} ran past the pools, which listen at its "
        "feed-forward: was it compiled or replaced after the model was made? Give the base as it "
        "was before; the whole PeerModel may be compiled"
    )


def check_states(model: Any, states: Tensor | None, handed_on: Any) -> None:
    """Refuse a model whose layers hand on something else than one vector a token.

    Args:
        model: a causal language model of transformers.
        states: what its tap layer read of one token; (1, 1, D) where it is served.
        handed_on: what a layer returned, or the first of a tuple.

    Raises:
        UnsupportedError: naming the shape, or what was returned.
    """
    width = width_of(model)
    if not isinstance(handed_on, Tensor):
        raise UnsupportedError(
            f"the layers of {type(model).__name__} return a {type(handed_on).__name__}, no tensor "
            "nor a tuple that begins with one: this architecture is not served; take another base"
        )
    shape = None if states is None else tuple(states.shape)
    if shape != (1, 1, width):
        raise UnsupportedError(
            f"the layers of {type(model).__name__} hand on states of shape {shape} for one token, "
            f"not (1, 1, {width}): this architecture is not served; take another base"
        )
