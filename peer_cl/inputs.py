"""What a call is given: refused in one line, before the base fails in words of its own.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from peer_cl.bases import context_length
from peer_cl.errors import InputError, ShapeError, StateError, UnsupportedError
from peer_cl.layer import PoolShape
from peer_cl.pool import ExpertPool
from peer_cl.served import check_evaluation
from peer_cl.whole import ascending, whole

_SERVED = {
    "labels": (None, "score(...) tells each token's log probability"),
    "use_cache": (False, "generate(..., cache=PeerCache(...)) keeps one"),
    "cache": (None, "generate(..., cache=PeerCache(...)) keeps one"),
    "past_key_values": (None, "generate(..., cache=PeerCache(...)) keeps one"),
    "output_hidden_states": (False, "peer_cl.branches.run_base gives the base's states"),
    "output_attentions": (False, "the base itself gives them: model.base(...)"),
    "return_dict": (True, "an output with .logits comes back"),
    "inputs_embeds": (None, "token ids are read: input_ids"),
    "logits_to_keep": (0, "all positions get logits; generate(...) keeps the last"),
}
"""By option of transformers' models: what is done anyway, and what serves instead."""


def check_options(options: dict[str, Any]) -> None:
    """Refuse options of transformers' `forward` that ask for something else than what is served.

    Args:
        options: by name; None, and what is done anyway, pass.

    Raises:
        UnsupportedError: naming the option, and what serves instead.

    Example:
        >>> check_options({"use_cache": False, "labels": None})
        >>> check_options({"use_cache": True})
        Traceback (most recent call last):
        ...
        peer_cl.errors.UnsupportedError: forward(use_cache=...) is not served; leave it out: \
generate(..., cache=PeerCache(...)) keeps one
    """
    for name, value in options.items():
        if name not in _SERVED:
            raise UnsupportedError(
                f"forward({name}=...) is no option of a PeerModel; leave it out: see its docstring"
            )
        done, instead = _SERVED[name]
        # An option that is a tensor is compared by identity: `==` would compare its elements.
        if value is not None and value is not done:
            raise UnsupportedError(f"forward({name}=...) is not served; leave it out: {instead}")


def check_text(
    base: Any,
    input_ids: Any,
    attention_mask: Any = None,
    position_ids: Any = None,
    evidence_mask: Any = None,
    context_lengths: Any = None,
) -> None:
    """Refuse what the base cannot read.

    Args:
        base: a causal language model of transformers.
        input_ids: must be (B, T), whole numbers, both at least 1.
        attention_mask: None, or must be (B, T).
        position_ids: None, or must be (B, T) or (1, T).
        evidence_mask: None, or must be (B, T).
        context_lengths: None, or must be (B,), whole numbers from 1 to T.

    Raises:
        InputError: when the ids are no tensor of whole numbers, or the base knows no such tokens;
            when the text is longer than the base's context; when a context has no such length.
        ShapeError: when a shape is another; both are named.
        StateError: when the base was put into training mode.
    """
    if not isinstance(input_ids, Tensor):
        raise InputError(
            f"input_ids must be a tensor of token ids of shape (B, T), not a "
            f"{type(input_ids).__name__}: give torch.tensor([ids])"
        )
    shape = tuple(input_ids.shape)
    if len(shape) != 2 or not input_ids.numel():
        raise ShapeError(
            f"input_ids has shape {shape}, not (B, T) with at least one row and one token; one "
            "text alone is input_ids[None]"
        )
    if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise InputError(f"input_ids must be whole numbers, not {input_ids.dtype}")
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise InputError(
            f"input_ids must be of 64 or 32 bits, not {input_ids.dtype}: give input_ids.long()"
        )
    _check_known(base, input_ids)
    _check_shape("attention_mask", attention_mask, [shape])
    _check_shape("position_ids", position_ids, [shape, (1, shape[1])])
    _check_shape("evidence_mask", evidence_mask, [shape])
    _check_lengths(context_lengths, *shape)
    check_room(base, shape[1])
    check_evaluation(base, "model.eval()")


def _check_known(base: Any, input_ids: Tensor) -> None:
    """Refuse ids that no token has: on a CPU a bare IndexError, on a GPU a failed kernel."""
    known = base.get_input_embeddings().weight.shape[0]
    for wrong in (int(input_ids.min()), int(input_ids.max())):
        if not 0 <= wrong < known:
            raise InputError(
                f"input_ids holds {wrong}, and the base knows tokens 0 to {known - 1}: take its "
                "own tokenizer's ids"
            )


def _check_shape(name: str, given: Any, allowed: list[tuple[int, ...]]) -> None:
    if given is None:
        return
    if not isinstance(given, Tensor):
        raise InputError(f"{name} must be a tensor, not a {type(given).__name__}")
    if tuple(given.shape) not in allowed:
        raise ShapeError(f"{name} has shape {tuple(given.shape)}, the ids {allowed[0]}")


def _check_lengths(given: Any, num_rows: int, num_tokens: int) -> None:
    """Refuse lengths of contexts that no row has: each is some of its tokens, or all."""
    if given is None:
        return
    if not isinstance(given, Tensor):
        raise InputError(
            f"context_lengths must be a tensor of shape (B,), not a {type(given).__name__}"
        )
    if tuple(given.shape) != (num_rows,):
        raise ShapeError(f"context_lengths has shape {tuple(given.shape)}, not ({num_rows},)")
    if given.is_floating_point() or given.dtype == torch.bool:
        raise InputError(f"context_lengths must be whole numbers, not {given.dtype}")
    for wrong in (int(given.min()), int(given.max())):
        if not 1 <= wrong <= num_tokens:
            raise InputError(
                f"context_lengths holds {wrong}: a row of {num_tokens} tokens has a context of 1 "
                f"to {num_tokens}"
            )


def check_room(base: Any, num_tokens: int, num_new: int = 0) -> None:
    """Refuse to read, or to write on, past a base's context.

    Past it a base with learned positions fails, and others say what they never learned.

    Args:
        base: a causal language model of transformers.
        num_tokens: of the text.
        num_new: how many are to be written after it.

    Raises:
        InputError: with the numbers.
    """
    most = context_length(base)
    if most is None or num_tokens + num_new <= most:
        return
    if num_new:
        raise InputError(
            f"the prompt has {num_tokens} tokens and up to {num_new} new ones are wanted, but the "
            f"base's context is {most}: give a shorter prompt or want fewer new tokens"
        )
    raise InputError(
        f"the text has {num_tokens} tokens and the base's context is {most}: give a part of it"
    )


def check_host_layers(
    base: Any, host_layers: Sequence[int], signature_layer: int | None = None
) -> tuple[tuple[int, ...], int]:
    """Refuse host layers that the base does not have; return them and the signature layer.

    Args:
        base: a causal language model of transformers.
        host_layers: must be ascending, each once.
        signature_layer: whose output signatures read; None: two thirds of the depth.

    Raises:
        InputError: naming the layer, or all of them where the order is wrong.
    """
    layers = ascending(host_layers)
    depth = int(base.config.get_text_config(decoder=True).num_hidden_layers)
    for layer in layers:
        if not 0 <= layer < depth:
            raise InputError(
                f"host layer {layer} does not exist: the base has layers 0..{depth - 1}"
            )
    if signature_layer is None:
        return layers, (2 * depth) // 3
    return layers, whole("signature_layer", signature_layer)


def check_pool(name: Any, pool: Any, known: Mapping[str, ExpertPool]) -> None:
    """Refuse a name that is no str, what is no pool, and a pool that is in under another name.

    Args:
        name: of the new pool.
        pool: None, a shape, or the pool itself.
        known: the pools that are in, by name.

    Raises:
        InputError: naming what was given.
        StateError: naming both names: deleted or trained under one, it would be gone or changed
            under the other.
    """
    if not isinstance(name, str):
        raise InputError(f"a pool's name must be a str, not {name!r:.80} ({type(name).__name__})")
    if not isinstance(pool, ExpertPool | PoolShape | None):
        raise InputError(
            f"pool {name!r} must be an ExpertPool, or a PoolShape for a new one, not a "
            f"{type(pool).__name__}"
        )
    for other, own in known.items():
        if own is pool and other != name:
            raise StateError(
                f"this pool is in as {other!r} already and cannot be {name!r} too: delete it "
                "first, or add a copy (copy.deepcopy)"
            )
