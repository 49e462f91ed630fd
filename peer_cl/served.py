"""Which base models are served: others are refused in one line, before anything is asked of them.

Shape suffixes: B rows, T tokens, D model width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from peer_cl.errors import BaseMismatchError, InputError, StateError, UnsupportedError
from peer_cl.pool import BaseIdentity, dtype_name, tensors_sha256


def check_base(base: Any) -> None:
    """Refuse what no pool can stand on, before its weights are hashed.

    Args:
        base: what the user gave as the base.

    Raises:
        InputError: when it is no loaded model.
        StateError: when it is in training mode: dropout would make each call another.
        UnsupportedError: when it is compiled, quantised into packed weights, or has virtual tokens.
    """
    kind = type(base).__name__
    if not isinstance(base, nn.Module) or not hasattr(base, "config"):
        raise InputError(
            f"the base must be a loaded causal language model, not {base!r:.80} ({kind}): load it "
            "with peer_cl.load_base(...).model or AutoModelForCausalLM.from_pretrained(...)"
        )
    if hasattr(base, "_orig_mod") or getattr(base, "_compiled_call_impl", None) is not None:
        raise UnsupportedError(
            f"a compiled base ({kind}) is not served: pools listen inside its forward; give the "
            "model as it was before torch.compile"
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
    training = next((name or kind for name, m in base.named_modules() if m.training), None)
    if training is not None:
        raise StateError(
            f"the base is in training mode ({training}): dropout would change every call; call "
            "base.eval() first"
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


def check_states(model: Any, states: Tensor | None) -> None:
    """Refuse a model whose layers hand on something else than one vector a token.

    Args:
        model: a causal language model of transformers.
        states: what its tap layer read of one token; (1, 1, D) where it is served.

    Raises:
        UnsupportedError: naming the shape.
    """
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    shape = None if states is None else tuple(states.shape)
    if shape != (1, 1, width):
        raise UnsupportedError(
            f"the layers of {type(model).__name__} hand on states of shape {shape} for one token, "
            f"not (1, 1, {width}): this architecture is not served; take another base"
        )
