"""The PEER layer of one host layer and its single-neuron experts: query, retrieve, weigh, add.

Shape suffixes: T tokens, D model width, H heads, Q key width, K chosen, N experts, C chosen by all
heads of a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peer_cl.errors import InputError, ShapeError
from peer_cl.product_keys import ProductKeys
from peer_cl.sparse import chosen_products, chosen_sum, prefers_all_rows

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
}
"""The activations that a pool may use, by the name that its metadata stores."""


class Experts(nn.Module):
    """N experts of one neuron each: expert i maps z to act(down_i . z) * up_i.

    `up` starts at zero, so new experts add exactly nothing. Source: He 2024, arXiv 2407.04153.
    """

    def __init__(self, *, num_experts: int, width: int, activation: str = "gelu") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.down_ND = nn.Parameter(torch.randn(num_experts, width) / math.sqrt(width))
        self.up_ND = nn.Parameter(torch.zeros(num_experts, width))

    def forward(self, inputs_TD: Tensor, ids_THK: Tensor, weights_THK: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs.

        Args:
            inputs_TD: what the feed-forward reads.
            ids_THK: int64 in [0, N); an expert chosen by two heads counts twice.
            weights_THK: float, the weights of retrieval; fp32 also beside half-precision experts.

        Returns:
            (T, D), dtype of the inputs.

        Cost: O(H*K*D) a token; up to `sparse.DENSE_LIMIT` experts O(N*D) where rows would have to
        be gathered. Above, the experts' gradients are sparse: train them with
        `peer_cl.PoolOptimiser`, or another optimiser that takes such.
        """
        ids_TC, weights_TC = ids_THK.flatten(1), weights_THK.flatten(1)
        if prefers_all_rows(inputs_TD, self.down_ND, ids_TC):
            hidden_TN = inputs_TD @ self.down_ND.T
            hidden_TC = hidden_TN.gather(1, ids_TC)
            active_TC = self.activation(hidden_TC) * weights_TC.to(hidden_TC.dtype)
            mixed_TN = torch.zeros_like(hidden_TN).scatter_add(1, ids_TC, active_TC)
            return mixed_TN @ self.up_ND
        hidden_TC = chosen_products(inputs_TD, self.down_ND, ids_TC)
        active_TC = self.activation(hidden_TC) * weights_TC.to(hidden_TC.dtype)
        return chosen_sum(active_TC, self.up_ND, ids_TC)


LayerWatch = Callable[[Tensor, Tensor, Tensor], None]
"""Called with what a layer reads (T, D), and the weights and ids of retrieval (T, H, K)."""
AUGMENT, REPLACE = "augment", "replace"


@dataclass(frozen=True)
class PoolShape:
    """How large a pool's layers are; the same in each of its host layers.

    Raises: InputError, with the value, when a field is out of range.
    """

    num_experts: int = 196
    """N, single-neuron experts a host layer; a square."""
    num_heads: int = 4
    """H, query networks that share the experts."""
    top_k: int = 8
    """K, experts that each head retrieves."""
    key_width: int = 32
    """Q, width of a query; each half meets one set of sub-keys."""
    output_scale: float = 4.0
    """Factor on the summed output: softmax over K dilutes what one expert can add."""
    activation: str = "gelu"
    """The neuron's activation."""
    mode: str = AUGMENT
    """augment: beside the feed-forward. replace: instead of it."""

    def __post_init__(self) -> None:
        for field in ("num_experts", "num_heads", "top_k", "key_width", "output_scale"):
            if not 0 < getattr(self, field) < math.inf:
                raise InputError(f"{field} must be positive, not {getattr(self, field)}")
        root = math.isqrt(self.num_experts)
        if root**2 != self.num_experts:
            raise ShapeError(
                f"num_experts must be a square, not {self.num_experts}; "
                f"nearest: {root**2} or {(root + 1) ** 2}"
            )
        if self.key_width % 2:
            raise ShapeError(f"key_width must be even, not {self.key_width}")
        if self.top_k > root:
            raise InputError(
                f"top_k {self.top_k} is more than the {root} sub-keys of a half, the root of "
                f"num_experts {self.num_experts}"
            )
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise InputError(f"no activation {self.activation!r}; known: {known}")
        if self.mode not in (AUGMENT, REPLACE):
            raise InputError(f"mode must be {AUGMENT!r} or {REPLACE!r}, not {self.mode!r}")


class PeerLayer(nn.Module):
    """One PEER layer: product-key retrieval over N single-neuron experts.

    Source: He 2024 (arXiv 2407.04153), Alg. 1. Differs in a LayerNorm on each head's query in place
    of BatchNorm, whose statistics are state shared over time and break causality, and in an output
    scale. The softmax runs over the K chosen of one head, in fp32.
    """

    def __init__(self, *, width: int, shape: PoolShape) -> None:
        super().__init__()
        self.shape = shape
        self.query = nn.Linear(width, shape.num_heads * shape.key_width, bias=False)
        self.query_norm: nn.Module = nn.LayerNorm(shape.key_width)
        self.keys = ProductKeys(
            num_experts=shape.num_experts, num_heads=shape.num_heads, key_width=shape.key_width
        )
        self.experts = Experts(
            num_experts=shape.num_experts, width=width, activation=shape.activation
        )

    def forward(self, inputs_TD: Tensor, watch: LayerWatch | None = None) -> Tensor:
        """Return what the pool adds for each token: (T, D), dtype of the inputs.

        Args:
            inputs_TD: the feed-forward's normalised input.
            watch: called with the inputs in the experts' own type, and what retrieval chose.
        """
        # Retrieval in low precision chooses other experts: a pool computes in its own type,
        # whatever the base around it runs in.
        kind = inputs_TD.device.type
        with (
            torch.autocast(kind, enabled=False)
            if torch.is_autocast_enabled(kind)
            else nullcontext()
        ):
            own_TD = inputs_TD.to(self.query.weight.dtype)
            heads = (len(own_TD), self.shape.num_heads, self.shape.key_width)
            queries_THQ = self.query_norm(self.query(own_TD).view(heads))
            scores_THK, ids_THK = self.keys(queries_THQ, self.shape.top_k)
            weights_THK = scores_THK.softmax(dim=-1)
            if watch is not None:
                watch(own_TD, weights_THK, ids_THK)
            output_TD: Tensor = self.experts(own_TD, ids_THK, weights_THK)
            return (output_TD * self.shape.output_scale).to(inputs_TD.dtype)

    def expert_parameters(self) -> list[nn.Parameter]:
        """Return the experts' weights; they learn faster than the rest."""
        return [self.experts.down_ND, self.experts.up_ND]

    def key_parameters(self) -> list[nn.Parameter]:
        """Return the query network and the sub-keys."""
        experts = {id(parameter) for parameter in self.expert_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in experts]
