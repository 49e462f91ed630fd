"""What a pool does in one host layer: query, retrieve, weigh, add.

Shape suffixes: T tokens, D model width, H heads, Q key width, K chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peer_cl.errors import InputError
from peer_cl.experts import ACTIVATIONS, ExpertRows
from peer_cl.product_keys import ProductKeys, check_sizes
from peer_cl.whole import real, whole

LayerWatch = Callable[[Tensor, Tensor, Tensor], None]
"""Told what a layer reads (T, D), and the router's weights and ids (T, H, K)."""
REPLACE, INSIDE = "replace", "inside"
MODES = ("augment", REPLACE, INSIDE)
"""Where a pool speaks in a host layer."""


@dataclass(frozen=True)
class PoolShape:
    """How large a pool's layers are; the same in each of its host layers."""

    num_experts: int = 196
    """N, single-neuron experts a host layer; a square."""
    num_heads: int = 4
    """H, query networks that share the experts."""
    top_k: int = 8
    """K, experts that each head retrieves."""
    key_width: int = 32
    """Q, width of a query; each half meets one set of sub-keys."""
    output_scale: float = 4.0
    """Factor on the summed output: softmax over K dilutes what one row can say."""
    activation: str = "gelu"
    """The neuron's activation."""
    query_norm: bool = True
    """LayerNorm on each head's query. Off only to reproduce the paper's form without BatchNorm."""
    mode: str = "augment"
    """augment: beside the feed-forward. replace: instead of it. inside: into what its own neurons
    fire on, the outputs of its input projections."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built, with both values.

        Raises:
            InputError: when a number is not positive, or not whole where it counts something, or a
                word is unknown.
            ShapeError: when there is no square of experts, or no even width of keys.
        """
        for field in ("num_experts", "num_heads", "top_k", "key_width"):
            object.__setattr__(self, field, whole(field, getattr(self, field)))
        if not isinstance(self.output_scale, int | float):
            object.__setattr__(self, "output_scale", real("output_scale", self.output_scale))
        object.__setattr__(self, "query_norm", bool(self.query_norm))
        for field in ("num_experts", "num_heads", "top_k", "key_width", "output_scale"):
            if not 0 < getattr(self, field) < math.inf:
                raise InputError(f"{field} must be positive, not {getattr(self, field)}")
        check_sizes(self.num_experts, self.key_width)
        if self.top_k > math.isqrt(self.num_experts):
            raise InputError(
                f"top_k {self.top_k} is more than the {math.isqrt(self.num_experts)} sub-keys of a "
                f"half, the root of num_experts {self.num_experts}"
            )
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise InputError(f"no activation {self.activation!r}; known: {known}")
        if self.mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for metadata."""
        return asdict(self)


class PeerLayer(nn.Module):
    """One PEER layer: product-key retrieval over N single-neuron experts.

    Source: He 2024 (arXiv 2407.04153), Alg. 1. Differs in a LayerNorm on each head's query in place
    of BatchNorm, whose statistics are state shared over time and break causality, and in an output
    scale. The softmax runs over the K chosen of one head, in fp32.

    Args:
        width: D of the host model.
        shape: the pool's shape.
        out_width: what is written a token; default: D.
    """

    def __init__(self, *, width: int, shape: PoolShape, out_width: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.query = nn.Linear(width, shape.num_heads * shape.key_width, bias=False)
        self.query_norm: nn.Module = (
            nn.LayerNorm(shape.key_width) if shape.query_norm else nn.Identity()
        )
        self.keys = ProductKeys(
            num_experts=shape.num_experts, num_heads=shape.num_heads, key_width=shape.key_width
        )
        self.experts = ExpertRows(
            num_experts=shape.num_experts,
            width=width,
            activation=shape.activation,
            out_width=out_width,
        )

    def retrieve(self, inputs_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Return which experts each token asks, and how much.

        Args:
            inputs_TD: float, (T, D), the feed-forward's normalised input.

        Returns:
            weights_THK, fp32, adding up to 1 over K; ids_THK, int64.
        """
        queries_TX = self.query(inputs_TD)
        queries_THQ = self.query_norm(
            queries_TX.unflatten(-1, (self.shape.num_heads, self.shape.key_width))
        )
        scores_THK, ids_THK = self.keys(queries_THQ, self.shape.top_k)
        return scores_THK.softmax(dim=-1), ids_THK

    def forward(self, inputs_TD: Tensor, watch: LayerWatch | None = None) -> Tensor:
        """Return what the pool adds for each token.

        Args:
            inputs_TD: float, (T, D), the feed-forward's normalised input.
            watch: told the inputs in the rows' own type, and what `retrieve` made of them.

        Returns:
            (T, what is written), dtype of the inputs.
        """
        # Routing in low precision chooses other experts: a pool computes in its rows' own type,
        # whatever the base around it runs in.
        with torch.autocast(inputs_TD.device.type, enabled=False):
            own_TD = inputs_TD.to(self.query.weight.dtype)
            weights_THK, ids_THK = self.retrieve(own_TD)
            if watch is not None:
                watch(own_TD, weights_THK, ids_THK)
            output_TD: Tensor = self.experts(own_TD, ids_THK, weights_THK)
            return (output_TD * self.shape.output_scale).to(inputs_TD.dtype)

    def row_parameters(self) -> list[nn.Parameter]:
        """Return the experts' rows; they learn faster than the rest."""
        return [self.experts.down_ND, self.experts.up_ND]

    def key_parameters(self) -> list[nn.Parameter]:
        """Return the query network and the sub-keys."""
        rows = {id(parameter) for parameter in self.row_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in rows]
