"""Scores of given text: what the base, each asked pool and their mixture make of every token.

Shape suffixes: Q branches with the base first, P pools, B rows, T tokens, U = T + 1 borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from peer_cl.errors import ShapeError
from peer_cl.mixture import log_masses, log_weights, mixture_log_probs


@dataclass(frozen=True)
class Scores:
    """Log probabilities, in nats, of the tokens of a batch of documents."""

    pools: tuple[str, ...]
    """The pools, in the order of the branches after the base."""
    log_probs_QBT: Tensor
    """fp64; token i given those before it. A row that a pool was not asked for holds zeros."""
    evidence_BT: Tensor
    """bool; which tokens are predicted and counted."""
    entries_PBU: Tensor
    """fp64; the share with which a pool enters before each token."""
    odds_PBU: Tensor | None = None
    """fp64; what enters before each token beside the share because the context names a domain."""

    @property
    def base_BT(self) -> Tensor:
        """The base's log probabilities, 0 where a token is not counted."""
        return torch.where(self.evidence_BT, self.log_probs_QBT[0], 0.0)

    @property
    def mixture_BT(self) -> Tensor:
        """The mixture's log probabilities, 0 where a token is not counted."""
        mixed_BT = mixture_log_probs(
            self.log_probs_QBT, self.evidence_BT, self.entries_PBU, self.odds_PBU
        )
        return torch.where(self.evidence_BT, mixed_BT, 0.0)

    @property
    def weights_QBU(self) -> Tensor:
        """The mixture's weights at each border, adding up to one."""
        masses = log_masses(self.log_probs_QBT, self.evidence_BT, self.entries_PBU, self.odds_PBU)
        return log_weights(masses).exp()

    @property
    def added_nats_B(self) -> Tensor:
        """What each document loses over the base, in nats; positive = worse than the base."""
        return self.base_BT.sum(-1) - self.mixture_BT.sum(-1)


def evidence_tokens(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    special_ids: Tensor,
    evidence_mask: Tensor | None = None,
) -> Tensor:
    """Return which tokens are evidence: bool (B, T).

    Neither padding, nor special tokens, nor what the caller masks; nor the first token of a row,
    which nothing predicts.

    Args:
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding, or None.
        special_ids: ids that are never evidence.
        evidence_mask: (B, T), False for text that is no evidence, or None.

    Raises:
        ShapeError: when a mask has another shape than the ids.

    Example:
        >>> ids = torch.tensor([[9, 9, 0, 5, 6]])
        >>> padding = torch.tensor([[0, 0, 1, 1, 1]])
        >>> evidence_tokens(ids, padding, torch.tensor([0])).tolist()
        [[False, False, False, True, True]]
    """
    evidence_BT = ~torch.isin(input_ids, special_ids.to(input_ids.device))
    for name, mask in (("attention_mask", attention_mask), ("evidence_mask", evidence_mask)):
        if mask is None:
            continue
        if mask.shape != input_ids.shape:
            raise ShapeError(
                f"{name} has shape {tuple(mask.shape)}, the ids {tuple(input_ids.shape)}"
            )
        evidence_BT = evidence_BT & mask.bool()
    present_BT = (
        attention_mask.bool() if attention_mask is not None else torch.ones_like(evidence_BT)
    )
    predicted_BT = torch.nn.functional.pad(present_BT[:, :-1], (1, 0), value=False)
    return evidence_BT & predicted_BT


def context_ends(
    context_lengths: Tensor | None, evidence_BT: Tensor, attention_mask: Tensor | None
) -> Tensor:
    """Return where each row's context ends, padding before it counted: int64 (B,).

    A context has so many tokens as are given, padding not counted: what a row says must not depend
    on how long the other rows are. Where no lengths are given, it is all of the row.

    Example:
        >>> padding = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
        >>> context_ends(None, padding.bool(), padding).tolist()
        [2, 4]
        >>> context_ends(torch.tensor([1, 2]), padding.bool(), padding).tolist()
        [1, 3]
    """
    num_rows, num_tokens = evidence_BT.shape
    if context_lengths is not None:
        if attention_mask is None:
            return context_lengths
        before_BT = attention_mask.bool().cumsum(1) < context_lengths[:, None]
        return (before_BT.sum(1) + 1).clamp_max(num_tokens)
    whole_B = torch.full((num_rows,), num_tokens, device=evidence_BT.device)
    if attention_mask is None:
        return whole_B
    return last_places(whole_B, evidence_BT, attention_mask) + 1


def last_places(lengths_B: Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return where each context's last token stands, padding left out: int64 (B,)."""
    numbers_T = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
    inside_BT = numbers_T <= lengths_B[:, None]
    if attention_mask is not None:
        inside_BT = inside_BT & attention_mask.bool()
    return (numbers_T * inside_BT).amax(1).sub(1).clamp_min(0)
