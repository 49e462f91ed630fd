"""Which pools a text asks: every live one, those whose signatures match, or those that are named.

Shape suffixes: P pools, B rows, T tokens, D width.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from peer_cl.branches import BasePass, default_position_ids, run_base
from peer_cl.choice import Choice, choose_by_context
from peer_cl.errors import InputError, StateError
from peer_cl.pool import pool_names
from peer_cl.scoring import context_ends, evidence_tokens
from peer_cl.shortlist import asked_at_token, token_evidence
from peer_cl.signature import Signature, check_background, check_signature

if TYPE_CHECKING:
    from peer_cl.model import PeerModel

ASK = ("all", "signature", "context")
"""How a text's pools are chosen: every live one; each when its signature matches what was read so
far; or those whose signature matches the whole given context, from its first token on."""

_INNER = ("peer_cl", "torch", "transformers")
"""Whose frames lie between a user's call and the choice of pools."""


class ReadText(NamedTuple):
    """A text as the base reads it, and who may be asked."""

    base: BasePass
    positions: Tensor
    """(B or 1, T)."""
    evidence_BT: Tensor
    """bool; which tokens are evidence."""
    choice: Choice


def read_text(
    model: PeerModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    *,
    evidence_mask: Tensor | None,
    ask: str,
    context_lengths: Tensor | None,
    domains: str | Sequence[str] | None,
) -> ReadText:
    """Read a text with the bare base, and say who may be asked.

    Args: as for `PeerModel.forward`, all of them checked.
    """
    # Where none are given the base makes its own: given, they might take another way through it.
    own = {} if position_ids is None else {"position_ids": position_ids}
    default = default_position_ids(input_ids.shape[1], 0, input_ids.device)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, **own}
    base = run_base(model.attachment, use_cache=False, **inputs)
    evidence_BT = evidence_tokens(input_ids, attention_mask, model.special_ids, evidence_mask)
    choice = model.asked(
        base, input_ids, evidence_BT, ask, context_lengths, domains, attention_mask
    )
    return ReadText(base, own.get("position_ids", default), evidence_BT, choice)


def ask_pools(
    model: PeerModel,
    base: BasePass,
    input_ids: Tensor,
    evidence_BT: Tensor,
    ask: str,
    *,
    context_lengths: Tensor | None = None,
    domains: str | Sequence[str] | None = None,
    attention_mask: Tensor | None = None,
) -> Choice:
    """Return the pools that may be asked and before which token each enters each row.

    Args:
        model: the model with its pools.
        base: the bare base's pass over the text.
        input_ids: (B, T).
        evidence_BT: bool; which tokens are evidence.
        ask: one of ASK.
        context_lengths: (B,), with ask="context": how many tokens are given, padding not counted;
            default: all.
        domains: ask only these (or this one), whatever their signatures say.
        attention_mask: (B, T), 0 for padding.

    Raises:
        InputError: for an unknown way of asking.
        UnknownError: for an unknown pool.
        StateError: for a pool that is not active, or signatures without background statistics.
        ShapeError: for a signature, or background statistics, of another width than the base.

    Warns: once a model, where pools are active and none has a signature by which it could be asked.
    """
    if ask not in ASK:
        raise InputError(f"ask must be one of {', '.join(ASK)}, not {ask!r}")
    num_rows = len(evidence_BT)
    names = list(model.active_pools)
    if domains is not None:
        domains = pool_names(domains)
        model.check_askable(domains)
        names = [name for name in names if name in domains]
    elif ask != "all":
        active, names = names, [n for n in names if model.pool(n).signature is not None]
        if active and not names:
            _warn_unsigned(model, active)
    if not names or domains is not None or ask == "all":
        every_PB = evidence_BT.new_zeros((len(names), num_rows), dtype=torch.long)
        return Choice(tuple(names), every_PB)
    if model.background is None:
        raise StateError(
            "no background statistics: pools can be asked by name (domains=...) or, but for "
            "generate, by ask='all' only; give PeerModel(background=...) for signatures"
        )
    signatures = signatures_of(model, names)
    evidence = token_evidence(
        base.signature_BTD,
        input_ids,
        evidence_BT,
        background=model.background,
        signatures=signatures,
        search=model.search,
    )
    if ask == "signature":
        return Choice(tuple(names), asked_at_token(evidence, signatures))
    lengths_B = context_ends(context_lengths, evidence_BT, attention_mask)
    return choose_by_context(
        names, input_ids, evidence, signatures, lengths_B, model.name_odds, attention_mask
    )


def signatures_of(model: PeerModel, names: Sequence[str]) -> list[Signature]:
    """Return the signatures of pools that have one, fit to be held against the base's states.

    Args:
        model: the model with its pools; its background statistics are looked at too.
        names: of the pools.

    Raises:
        ShapeError: when a signature or the background is of another width than the base.
    """
    width = model.attachment.width
    check_background(model.background, width)
    found = [(name, s) for name in names if (s := model.pool(name).signature) is not None]
    for name, signature in found:
        check_signature(name, signature, width)
    return [signature for _, signature in found]


def _warn_unsigned(model: PeerModel, active: Sequence[str]) -> None:
    """Say, once a model, that its pools are there and the bare base answers."""
    if model.has_warned_unsigned:
        return
    model.has_warned_unsigned = True
    warnings.warn(
        f"no active pool ({_shown(active)}) has a signature to be asked by, so the bare base "
        "answers: name pools by domains=..., or set pool.signature, as a store's pools have it",
        stacklevel=_num_inner_frames() + 1,
    )


def warn_of_reset(deleted: str, left: Sequence[str]) -> None:
    """Say that pools that were left out may be asked again, since the only active one is gone.

    Args:
        deleted: the pool that was the last of those that `set_pool` named.
        left: the pools that there are.
    """
    warnings.warn(
        f"pool {deleted!r} is deleted, the last one that set_pool let be asked: every pool "
        f"({_shown(left)}) may be asked now; set_pool([]) lets none",
        stacklevel=_num_inner_frames() + 1,
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _num_inner_frames() -> int:
    """Return how many frames, from who calls this, are libraries': a warning names the user's."""
    number, frame = -1, inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"].split(".")[0] in _INNER:
        number, frame = number + 1, frame.f_back
    return number
