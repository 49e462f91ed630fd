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
"""Up to so many, a whole sort is faster than what makes a partial one stable."""


def top_k_lowest_index(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest scores of the last dimension, descending, and their int64 places.

    Equal scores go to the lowest index. `torch.topk` leaves their order open, and ties are common
    in low precision: results would depend on the machine.

    Example:
        >>> values, ids = top_k_lowest_index(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2)
        >>> values.tolist(), ids.tolist()
        ([3.0, 3.0], [1, 2])
    """
    if scores.numel() <= _FEW_SCORES:
        values, ids = scores.sort(dim=-1, descending=True, stable=True)
        return values[..., :k], ids[..., :k]
    places = torch.arange(scores.shape[-1], device=scores.device)
    ids = _ranked_lowest_id(scores.detach().float(), places).topk(k, dim=-1).indices
    return scores.gather(-1, ids), ids


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
            return self._best_of_all(scores_TH2S, k)
        best_TH2K, places_TH2K = top_k_lowest_index(scores_TH2S, k)
        first_THK, second_THK = best_TH2K.unbind(2)
        rows_THK, columns_THK = places_TH2K.unbind(2)
        first_C, second_C = _pairs(k, best_TH2K.device)
        sums_THC = first_THK.detach()[..., first_C] + second_THK.detach()[..., second_C]
        ids_THC = (rows_THK * self.num_sub_keys)[..., first_C] + columns_THK[..., second_C]
        chosen_THK = _ranked_lowest_id(sums_THC, ids_THC).topk(k, dim=-1).indices
        # Taken from the halves, whose gradient is smaller than that of all sums.
        return (
            first_THK.gather(-1, first_C[chosen_THK]) + second_THK.gather(-1, second_C[chosen_THK]),
            ids_THC.gather(-1, chosen_THK),
        )

    def _best_of_all(self, scores_TH2S: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the same from all S*S sums: one search in place of three."""
        first_THS, second_THS = scores_TH2S.unbind(2)
        sums_THN = (first_THS[..., None] + second_THS[..., None, :]).flatten(2)
        return top_k_lowest_index(sums_THN, k)


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


def _ranked_lowest_id(scores: Tensor, ids: Tensor) -> Tensor:
    """Return int64 ranks in the order of fp32 scores, and among equal scores of falling ids.

    They are distinct, so a partial sort by them equals two whole ones, by id and then by score.

    Example:
        >>> _ranked_lowest_id(torch.tensor([1.0, 1.0, -2.0]), torch.tensor([7, 3, 0])).argsort()
        tensor([2, 0, 1])
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: a zero has one form only
    # A positive float's bits are in the order of its size; a negative one's in reverse.
    ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    return ordered.long().bitwise_left_shift_(32).sub_(ids)
