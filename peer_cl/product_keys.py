"""Exact top-k retrieval among S*S experts by two sets of S sub-keys.

Shape suffixes: T tokens, H heads, G halves of heads, Q key width (of a half, where it is one), S
sub-keys a half, K chosen, C sums compared.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

_FEW_SUMS = 4096
"""Up to so many sums a head, of all tokens, computing them all is faster than leaving most out: a
token that is written among 196 experts."""
_FEW_SCORES = 1024
"""Up to so many, torch's stable sort is faster than integers made for another."""
_WHOLE_ROW = 512
"""Up to so many scores in a row, sorting it whole is as fast as in part."""


class ProductKeys(nn.Module):
    """Two sets of sub-keys a head; key (i, j) is their concatenation and expert i * S + j.

    Source: product-key memory (Lample et al. 2019) as PEER uses it (He 2024, arXiv 2407.04153,
    Alg. 1). Differs in scoring in fp32 and breaking ties by the lowest index.
    """

    def __init__(self, *, num_experts: int, num_heads: int, key_width: int) -> None:
        super().__init__()
        self.num_sub_keys = num_sub_keys = math.isqrt(num_experts)
        self.key_width = key_width
        self.sub_keys_H2SQ = nn.Parameter(
            torch.randn(num_heads, 2, num_sub_keys, key_width // 2) / math.sqrt(key_width / 2)
        )

    def forward(self, queries_THQ: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best experts of each token and head, exactly.

        The best k of all S*S sums lie among the best k of each half; of these, the sum of the i-th
        and the j-th best has i * j - 1 others that are no smaller, so pairs of i * j <= k are
        enough: 20 for 8, 50 for 16.

        Returns:
            scores_THK, fp32, descending; ids_THK, int64, in [0, N). Ties go to the lowest id.
        Cost: O(H * (S*Q + S log S + K log K)) a token.
        """
        num_heads = queries_THQ.shape[1]
        halves_GTQ = (
            queries_THQ.float().reshape(len(queries_THQ), 2 * num_heads, -1).transpose(0, 1)
        )
        keys_GQS = self.sub_keys_H2SQ.float().flatten(0, 1).transpose(1, 2)
        scores_TGS = torch.bmm(halves_GTQ, keys_GQS).transpose(0, 1)
        scores_TH2S = scores_TGS.reshape(len(queries_THQ), num_heads, 2, self.num_sub_keys)
        if len(queries_THQ) * self.num_sub_keys**2 <= _FEW_SUMS:
            first_THS, second_THS = scores_TH2S.unbind(2)
            return _best((first_THS[..., None] + second_THS[..., None, :]).flatten(2), k)
        known_TH2S = scores_TH2S.detach()
        places_S = torch.arange(self.num_sub_keys, device=known_TH2S.device)
        places_TH2K = _best_ids(known_TH2S, places_S, k)
        first_THK, second_THK = known_TH2S.gather(-1, places_TH2K).unbind(2)
        rows_THK, columns_THK = places_TH2K.unbind(2)
        first_C, second_C = _pairs(k, known_TH2S.device)
        sums_THC = first_THK.index_select(-1, first_C) + second_THK.index_select(-1, second_C)
        ids_THC = (rows_THK * self.num_sub_keys).index_select(-1, first_C)
        ids_THC += columns_THK.index_select(-1, second_C)
        ids_THK = _best_ids(sums_THC, ids_THC, k)
        # Taken from the halves, whose gradient is smaller than that of all sums.
        halves_TH2K = torch.stack((ids_THK // self.num_sub_keys, ids_THK % self.num_sub_keys), 2)
        return scores_TH2S.gather(-1, halves_TH2K).sum(2), ids_THK


@cache
def _pairs(k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return places in both ranked halves whose sums can be among the k best: two of (C,).

    Example:
        >>> [one.tolist() for one in _pairs(2, torch.device("cpu"))]
        [[0, 0, 1], [0, 1, 0]]
    """
    pairs = [(i, j) for i in range(k) for j in range(k) if (i + 1) * (j + 1) <= k]
    first_C, second_C = torch.tensor(pairs, device=device).T.contiguous()
    return first_C, second_C


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest scores of the last dimension, descending, and their int64 places.

    Equal scores go to the lowest place.

    Example:
        >>> values, places = _best(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2)
        >>> values.tolist(), places.tolist()
        ([3.0, 3.0], [1, 2])
    """
    if scores.numel() <= _FEW_SCORES:
        values, places = scores.sort(dim=-1, descending=True, stable=True)
        return values[..., :k], places[..., :k]
    every = torch.arange(scores.shape[-1], device=scores.device)
    places = _best_ids(scores.detach(), every, k)
    return scores.gather(-1, places), places


def _best_ids(scores: Tensor, ids: Tensor, k: int) -> Tensor:
    """Return the ids of the k largest fp32 scores of the last dimension, descending.

    Equal scores go to the lowest id. `torch.topk` leaves their order open, and ties are common in
    low precision: results would depend on the machine. So what is sorted are distinct integers,
    each of a score and its id. On the CPU numpy sorts them, several times as fast as torch.

    Args:
        ids: int64, in [0, 2**32), distinct.

    Example:
        >>> _best_ids(torch.tensor([1.0, 3.0, 3.0, -2.0]), torch.arange(4), 3).tolist()
        [1, 2, 0]
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: a zero has one form only
    # A positive float's bits are in the order of its size; a negative one's in reverse.
    falling = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits).bitwise_not_()
    keys = falling.long().bitwise_left_shift_(32).bitwise_or_(ids)
    if keys.is_cpu:
        rows = keys.numpy()
        if rows.shape[-1] > _WHOLE_ROW:
            rows.partition(k - 1)
            rows = rows[..., :k]
        rows.sort()
        best = keys[..., :k]
    else:
        best = keys.topk(k, dim=-1, largest=False).values
    return best.bitwise_and(0xFFFFFFFF)
