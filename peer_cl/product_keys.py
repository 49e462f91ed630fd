"""Exact top-k retrieval among S*S experts by two sets of S sub-keys.

Shape suffixes: T tokens, H heads, Q key width, S sub-keys a half, K chosen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FEW_SUMS = 4096
"""Up to so many sums a head, of all tokens, computing them all is faster than leaving most out: a
token that is written among 196 experts."""


def top_k_lowest_index(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest scores of the last dimension, descending, and their int64 places.

    Equal scores go to the lowest index. `torch.topk` leaves their order open, and ties are common
    in low precision: results would depend on the machine.

    Example:
        >>> values, ids = top_k_lowest_index(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2)
        >>> values.tolist(), ids.tolist()
        ([3.0, 3.0], [1, 2])
    """
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

        The best k of all S*S sums lie among the best k of each half, so K*K sums are enough.

        Returns:
            scores_THK, fp32, descending; ids_THK, int64, in [0, N). Ties go to the lowest id.
        Cost: O(H * (S*Q + S log S + K*K log K)) a token.
        """
        halves_TH2Q = queries_THQ.float().unflatten(-1, (2, self.key_width // 2))
        scores_TH2S = torch.einsum("thpq,hpsq->thps", halves_TH2Q, self.sub_keys_H2SQ.float())
        if len(queries_THQ) * self.num_sub_keys**2 <= _FEW_SUMS:
            return self._best_of_all(scores_TH2S, k)
        best_TH2K, places_TH2K = top_k_lowest_index(scores_TH2S, k)
        sums_THKK = best_TH2K[:, :, 0, :, None] + best_TH2K[:, :, 1, None, :]
        ids_THKK = places_TH2K[:, :, 0, :, None] * self.num_sub_keys + places_TH2K[:, :, 1, None, :]
        sums_THC, ids_THC = sums_THKK.flatten(2), ids_THKK.flatten(2)
        chosen_THK = _ranked_lowest_id(sums_THC.detach(), ids_THC).topk(k, dim=-1).indices
        # Taken from the halves, whose gradient is a K-th of that of all sums.
        first_THK, second_THK = (
            best_TH2K[:, :, half].gather(-1, places_THK)
            for half, places_THK in enumerate((chosen_THK // k, chosen_THK % k))
        )
        return first_THK + second_THK, ids_THC.gather(-1, chosen_THK)

    def _best_of_all(self, scores_TH2S: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the same from all S*S sums: one search in place of three."""
        first_THS, second_THS = scores_TH2S.unbind(2)
        sums_THN = (first_THS[..., None] + second_THS[..., None, :]).flatten(2)
        return top_k_lowest_index(sums_THN, k)


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
