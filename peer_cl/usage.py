"""Which experts are used, how strongly, and how evenly.

Shape suffixes: T tokens, D width, C experts chosen by all heads of a token, N experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peer_cl.pool import Segment


@dataclass(frozen=True)
class Fired:
    """What one segment's experts do at one host layer."""

    segment: Segment
    host_layer: int
    ids_TC: Tensor
    """int64; one that two heads choose stands here twice."""
    weights_TC: Tensor
    """fp32, of retrieval; a head's add up to one."""
    strengths_TC: Tensor
    """fp32, L2 norm of what each expert adds to the layer's output."""


class UsageWatch:
    """Keeps which experts fire in a branch; given to `read` or `Hooks.branch` as `watch`."""

    def __init__(self) -> None:
        self.fired: list[Fired] = []

    @torch.no_grad()
    def __call__(
        self,
        segment: Segment,
        host_layer: int,
        inputs_TD: Tensor,
        weights_THK: Tensor,
        ids_THK: Tensor,
    ) -> None:
        """Keep what a segment does at a host layer; args as for `peer_cl.hooks.Watch`."""
        layer = segment.layer(host_layer)
        ids_TC, weights_TC, experts = ids_THK.flatten(1), weights_THK.flatten(1), layer.experts
        hidden_TC = torch.einsum("td,tcd->tc", inputs_TD, experts.down_ND[ids_TC])
        scale_TC = layer.shape.output_scale * weights_TC * experts.activation(hidden_TC)
        strengths_TC = scale_TC.abs() * experts.up_ND[ids_TC].norm(dim=-1)
        kept = (one.cpu() for one in (ids_TC, weights_TC, strengths_TC))
        self.fired.append(Fired(segment, host_layer, *kept))


def expert_usage(weights_N: Sequence[float]) -> float:
    """Return the share of experts that are used at all.

    Source: He 2024, arXiv 2407.04153: the share of z_i that are not 0, z_i the weight of retrieval
    summed over an evaluation set.

    Example:
        >>> expert_usage([3.0, 0.0, 1.0, 0.0])
        0.5
    """
    return sum(weight > 0 for weight in weights_N) / max(1, len(weights_N))


def unevenness(weights_N: Sequence[float]) -> float:
    """Return how far use is from even, in nats: 0 is even, log N is one expert alone.

    Source: He 2024, arXiv 2407.04153: log N + sum z log z, the Kullback-Leibler divergence of the
    normalised use z from the uniform distribution.

    Example:
        >>> unevenness([1.0, 1.0, 1.0, 1.0])
        0.0
        >>> round(unevenness([5.0, 0.0, 0.0, 0.0]), 4)
        1.3863
    """
    total = math.fsum(weights_N)
    if total <= 0:
        return 0.0
    shares_N = (weight / total for weight in weights_N)
    entropy = math.fsum(-z * math.log(z) for z in shares_N if z > 0)
    return max(0.0, math.log(len(weights_N)) - entropy)
