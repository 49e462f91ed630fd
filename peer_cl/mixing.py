"""The mixture's logits of a given text, from the base's pass and the branches that are asked.

Shape suffixes: Q branches with the base first, P pools, B rows, T tokens, V vocabulary,
U = T + 1 borders between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peer_cl.asking import read_text
from peer_cl.branches import BasePass, logits_at, row_log_probs, token_log_probs
from peer_cl.choice import Choice, settle
from peer_cl.mixture import enter_at, log_masses, log_weights, mix_logits
from peer_cl.scoring import context_ends, last_places

if TYPE_CHECKING:
    from peer_cl.model import PeerModel


def read_logits(
    model: PeerModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    *,
    evidence_mask: Tensor | None,
    ask: str,
    context_lengths: Tensor | None,
    domains: str | Sequence[str] | None,
) -> Tensor:
    """Return a given text's logits (B, T, V), as `mixed_logits` does.

    Args: as for `PeerModel.forward`, all of them checked.
    """
    read = read_text(
        model,
        input_ids,
        attention_mask,
        position_ids,
        evidence_mask=evidence_mask,
        ask=ask,
        context_lengths=context_lengths,
        domains=domains,
    )
    return mixed_logits(
        model,
        read.base,
        read.choice,
        read.evidence_BT,
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=read.positions,
        evidence_mask=evidence_mask,
        context_lengths=context_lengths,
    )


def mixed_logits(
    model: PeerModel,
    base: BasePass,
    choice: Choice,
    evidence_BT: Tensor,
    *,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    evidence_mask: Tensor | None,
    context_lengths: Tensor | None,
) -> Tensor:
    """Return logits (B, T, V): the base's own where no pool has entered, else the mixture's log.

    Args:
        model: the model with its pools.
        base: the bare base's pass over the text.
        choice: who may be asked, from which token on.
        evidence_BT: bool; which tokens are evidence.
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding, or None.
        position_ids: (B or 1, T).
        evidence_mask: (B, T), False for text that the base alone predicts, or None.
        context_lengths: (B,), how many tokens are given, padding not counted; None: all.

    Returns: in the base's type and bits where no pool is asked in any row; else fp32.
    """
    if not bool((choice.at_PB >= 0).any()):
        return base.logits_BTV
    branches: dict[str, tuple[Tensor, Tensor]] = {}
    for name, asked_at_B in zip(choice.pools, choice.at_PB, strict=True):
        rows = (asked_at_B >= 0).nonzero().squeeze(-1)
        if len(rows):
            branches[name] = (
                rows,
                model.branch_logits(
                    name, base.tap_BTD, rows, input_ids, attention_mask, position_ids
                ),
            )
    choice = choice.of(list(branches))
    log_probs = [token_log_probs(base.logits_BTV, input_ids)]
    log_probs += [row_log_probs(own, rows, input_ids) for rows, own in branches.values()]
    log_probs_QBT = torch.stack(log_probs)
    lengths_B = context_ends(context_lengths, evidence_BT, attention_mask)
    last_B = last_places(lengths_B, input_ids, attention_mask)
    lasts = [(rows, logits_at(own, last_B[rows])) for rows, own in branches.values()]
    base_BV = logits_at(base.logits_BTV, last_B)
    choice = settle(choice, log_probs_QBT, evidence_BT, lengths_B, base_BV, lasts)
    if not bool((choice.at_PB >= 0).any()):
        return base.logits_BTV
    entries_PBU = enter_at(model.share, choice.at_PB, input_ids.shape[1])
    speaks_BT = (entries_PBU.cumsum(-1).sum(0) > 0)[:, 1:]
    if evidence_mask is not None:
        next_BT = torch.nn.functional.pad(evidence_mask[:, 1:].bool(), (0, 1), value=True)
        speaks_BT = speaks_BT & next_BT
    odds_PBU = choice.odds(input_ids.shape[1])
    masses_QBU = log_masses(log_probs_QBT, evidence_BT, entries_PBU, odds_PBU)
    logits = mix_logits(base.logits_BTV, branches, log_weights(masses_QBU))
    return torch.where(speaks_BT[..., None], logits, base.logits_BTV.float())
