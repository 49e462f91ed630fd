"""Exact top-k retrieval among S*S experts by two sets of S sub-keys.

Shape suffixes: T tokens, H heads, Q key width, S sub-keys a half, K chosen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from peer_cl.errors import ShapeError


def top_k_lowest_index(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest scores of the last dimension; equal scores go to the lowest index.

    `torch.topk` leaves the order of equal scores open. Ties are common in low precision, and
    whoever breaks them otherwise gets results that depend on the machine.

    Args:
        scores: float, (..., S).
        k: how many, 1 <= k <= S.

    Returns:
        values (..., k), descending, and ids (..., k), int64.

    Example:
        >>> values, ids = top_k_lowest_index(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2)
        >>> values.tolist(), ids.tolist()
        ([3.0, 3.0], [1, 2])
    """
    values, ids = torch.sort(scores, dim=-1, descending=True, stable=True)
    return values[..., :k], ids[..., :k]


def check_sizes(num_experts: int, key_width: int) -> None:
    """Refuse sizes that cannot be halved: N must be a square, Q even.

    Raises:
        ShapeError: with the value, and for N the squares beside it.
    """
    num_sub_keys = math.isqrt(max(0, num_experts))
    if num_experts < 1 or num_sub_keys**2 != num_experts:
        raise ShapeError(
            f"num_experts must be a square, not {num_experts}; "
            f"nearest: {num_sub_keys**2} or {(num_sub_keys + 1) ** 2}"
        )
    if key_width % 2 or key_width < 2:
        raise ShapeError(f"key_width must be even and positive, not {key_width}")


class ProductKeys(nn.Module):
    """Two sets of sub-keys a head; key (i, j) is their concatenation and expert i * S + j.

    Source: product-key memory (Lample et al. 2019) as PEER uses it (He 2024, arXiv 2407.04153,
    Alg. 1). Differs in scoring in fp32 and breaking ties by the lowest index.

    Args:
        num_experts: N, a square.
        num_heads: H. Each head has its own sub-keys.
        key_width: Q, even; each half of a query meets one set of sub-keys.

    Raises:
        ShapeError: when N is no square or Q is odd.
    """

    def __init__(self, *, num_experts: int, num_heads: int, key_width: int) -> None:
        super().__init__()
        check_sizes(num_experts, key_width)
        self.num_sub_keys = num_sub_keys = math.isqrt(num_experts)
        self.key_width = key_width
        self.sub_keys_H2SQ = nn.Parameter(
            torch.randn(num_heads, 2, num_sub_keys, key_width // 2) / math.sqrt(key_width / 2)
        )

    def forward(self, queries_THQ: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best experts of each token and head, exactly.

        The best k of all S*S sums lie among the best k of each half, so K*K sums are enough.

        Args:
            queries_THQ: float, (T, H, Q).
            k: K, at most S.

        Returns:
            scores_THK, fp32, descending; ids_THK, int64, in [0, N). Ties go to the lowest id.

        Raises:
            ShapeError: when the query's width differs from Q, or K is above S.
        Cost: O(H * (S*Q + S log S + K*K log K)) a token.
        """
        if queries_THQ.shape[-1] != self.key_width:
            raise ShapeError(
                f"queries have width {queries_THQ.shape[-1]}, the sub-keys {self.key_width}"
            )
        if not 1 <= k <= self.num_sub_keys:
            raise ShapeError(f"top_k must lie in 1..{self.num_sub_keys} (sub-keys), not {k}")
        halves_TH2Q = queries_THQ.float().unflatten(-1, (2, self.key_width // 2))
        scores_TH2S = torch.einsum("thpq,hpsq->thps", halves_TH2Q, self.sub_keys_H2SQ.float())
        best_TH2K, rows_TH2K = top_k_lowest_index(scores_TH2S, k)
        sums_THKK = best_TH2K[:, :, 0, :, None] + best_TH2K[:, :, 1, None, :]
        ids_THKK = rows_TH2K[:, :, 0, :, None] * self.num_sub_keys + rows_TH2K[:, :, 1, None, :]
        sums_THC, ids_THC = sums_THKK.flatten(2), ids_THKK.flatten(2)
        chosen_THK = ranked_lowest_id(sums_THC.detach(), ids_THC).topk(k, dim=-1).indices
        return sums_THC.gather(-1, chosen_THK), ids_THC.gather(-1, chosen_THK)


def ranked_lowest_id(scores: Tensor, ids: Tensor) -> Tensor:
    """Return whole numbers in the order of the scores, and among equal scores of falling ids.

    By them a partial sort is enough; two whole ones, by id and then by score, would do the same.

    Args:
        scores: fp32, finite.
        ids: int64, of the same shape, in [0, 2^31).

    Returns:
        int64, of the same shape; no two alike where no two ids are.

    Example:
        >>> ranked_lowest_id(torch.tensor([1.0, 1.0, -2.0]), torch.tensor([7, 3, 0])).argsort()
        tensor([2, 0, 1])
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: a zero has one form only
    # A float's bits are in the order of its size; a negative one's, but for the sign, in reverse.
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) - ids
