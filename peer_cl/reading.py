"""A text as the base and every asked pool read it: what `PeerModel.score` returns.

Shape suffixes: Q branches with the base first, P pools, B rows, T tokens, V vocabulary,
U = T + 1 borders between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peer_cl.asking import read_text
from peer_cl.branches import (
    BasePass,
    left_padded_positions,
    logits_at,
    row_log_probs,
    token_log_probs,
)
from peer_cl.choice import Choice, settle
from peer_cl.mixture import enter_at
from peer_cl.scoring import Scores, context_ends, last_places

if TYPE_CHECKING:
    from peer_cl.model import PeerModel


def read_scores(
    model: PeerModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    *,
    evidence_mask: Tensor | None,
    ask: str,
    context_lengths: Tensor | None,
    domains: str | Sequence[str] | None,
) -> Scores:
    """Return what the base, and every pool in the rows that ask it, make of a text.

    Args: as for `PeerModel.score`, all of them checked.
    """
    read = read_text(
        model,
        input_ids,
        attention_mask,
        left_padded_positions(model.base, attention_mask).get("position_ids"),
        evidence_mask=evidence_mask,
        ask=ask,
        context_lengths=context_lengths,
        domains=domains,
    )
    return score_branches(
        model,
        read.base,
        read.choice,
        input_ids,
        read.evidence_BT,
        positions=read.positions,
        attention_mask=attention_mask,
        context_lengths=context_lengths,
    )


def score_branches(
    model: PeerModel,
    base: BasePass,
    choice: Choice,
    input_ids: Tensor,
    evidence_BT: Tensor,
    *,
    positions: Tensor,
    attention_mask: Tensor | None = None,
    context_lengths: Tensor | None = None,
) -> Scores:
    """Return the log probabilities of the base, and of every pool in the rows that ask it.

    Args:
        model: the model with its pools.
        base: the bare base's pass over the text.
        choice: which pools are asked, and from which token on.
        input_ids: (B, T).
        evidence_BT: bool; which tokens are evidence.
        positions: (B or 1, T).
        attention_mask: (B, T), 0 for padding.
        context_lengths: (B,); how many tokens are given, padding not counted; default: all.
    """
    num_tokens = input_ids.shape[1]
    lengths_B = context_ends(context_lengths, evidence_BT, attention_mask)
    last_B = last_places(lengths_B, input_ids, attention_mask)
    log_probs, lasts = [token_log_probs(base.logits_BTV, input_ids)], []
    for name, asked_at_B in zip(choice.pools, choice.at_PB, strict=True):
        rows = (asked_at_B >= 0).nonzero().squeeze(-1)
        if not len(rows):
            log_probs.append(torch.zeros_like(log_probs[0]))
            lasts.append((rows, base.logits_BTV[rows, -1]))
            continue
        logits = model.branch_logits(name, base.tap_BTD, rows, input_ids, attention_mask, positions)
        log_probs.append(row_log_probs(logits, rows, input_ids))
        lasts.append((rows, logits_at(logits, last_B[rows])))
    stacked_QBT = torch.stack(log_probs)
    base_BV = logits_at(base.logits_BTV, last_B)
    choice = settle(choice, stacked_QBT, evidence_BT, lengths_B, base_BV, lasts)
    entries_PBU = enter_at(model.share, choice.at_PB, num_tokens)
    return Scores(choice.pools, stacked_QBT, evidence_BT, entries_PBU, choice.odds(num_tokens))
