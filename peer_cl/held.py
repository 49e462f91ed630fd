"""Weights that are held while a model writes, and the next token's logits that they give.

Shape suffixes: Q branches with the base first, B rows, R rows of one branch, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Held:
    """The weights of one call, base first, and the pools in their order."""

    pools: tuple[str, ...]
    weights_QB: Tensor

    @property
    def needs_base(self) -> bool:
        """Whether the base still speaks in some row."""
        return bool((self.weights_QB[0] > 0).any())

    def rows(self, number: int) -> Tensor:
        """Return the rows in which a branch (1 + number of its pool) speaks."""
        return (self.weights_QB[number] > 0).nonzero().squeeze(-1)


def mix_last(
    held: Held, base_BV: Tensor | None, said: dict[int, Tensor], guidance_scale: float = 1.0
) -> Tensor:
    """Return the held mixture's logits for the next token, (B, V), fp32.

    They are its log probabilities, and in each row the speaking branches' logsumexp more, in the
    mean by their weights: a repetition penalty divides logits above 0 and multiplies those below,
    so it would hardly touch a likely token of log probabilities, which are near 0. Rows in which
    the base runs alone keep its logits as they are.

    Args:
        held: the weights.
        base_BV: the base's last logits, or None where it was dropped in every row.
        said: by branch number, its logits in the rows where it speaks.
        guidance_scale: what the mixture says beyond the base counts so often, no longer as
            probabilities that add up to 1: classifier-free guidance (Sanchez et al. 2023, arXiv
            2306.17806) with the base as the unconditional model. Other than 1 it needs the base.
    """
    like = base_BV if base_BV is not None else next(iter(said.values()))
    num_rows = held.weights_QB.shape[1]
    log_weights_QB = held.weights_QB.log().float()
    mixed_BV = torch.full((num_rows, like.shape[-1]), -torch.inf, device=like.device)
    level_B = torch.zeros(num_rows, device=like.device)
    if base_BV is not None:
        mixed_BV = log_weights_QB[0][:, None] + base_BV.float().log_softmax(-1)
        level_B = level_B + _level(held.weights_QB[0], base_BV)
    for number, logits_RV in said.items():
        rows = held.rows(number)
        level_B[rows] += _level(held.weights_QB[number][rows], logits_RV)
        weighted = log_weights_QB[number][rows, None] + logits_RV.float().log_softmax(-1)
        # What overflowed is left out where another branch speaks.
        weighted = torch.where(weighted.isnan(), -torch.inf, weighted)
        mixed_BV[rows] = torch.logaddexp(mixed_BV[rows], weighted)
    # Where none does it is seen, whatever the other rows are.
    is_silent_B1 = (mixed_BV == -torch.inf).all(-1, keepdim=True)
    mixed_BV = torch.where(is_silent_B1, torch.nan, mixed_BV)
    if base_BV is not None:
        mixed_BV = guide(mixed_BV, base_BV, guidance_scale)
    mixed_BV = mixed_BV + level_B[:, None]
    if base_BV is not None:
        alone_B1 = (held.weights_QB[0] == 1.0)[:, None]
        mixed_BV = torch.where(alone_B1, base_BV.float(), mixed_BV)
    return mixed_BV


def _level(weights_B: Tensor, logits_BV: Tensor) -> Tensor:
    """Return what a branch gives to where a mixture's logits lie, (B,): 0 where it overflowed."""
    level_B = weights_B.float() * logits_BV.float().logsumexp(-1)
    return torch.where(level_B.isfinite(), level_B, 0.0)


def guide(mixed_BV: Tensor, base_BV: Tensor, guidance_scale: float) -> Tensor:
    """Return a mixture's logs with what they say beyond the base counted so often; see `mix_last`.

    Args:
        mixed_BV: of a mixture in which pools speak.
        base_BV: the base's logits.
        guidance_scale: 1 leaves the mixture as it is, to the bit.
    """
    if guidance_scale == 1:
        return mixed_BV
    return mixed_BV + (guidance_scale - 1) * (mixed_BV - base_BV.float().log_softmax(-1))
