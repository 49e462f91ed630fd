"""Which rows speak, how loudly, and how evenly a pool is used.

Shape suffixes: T tokens, D width, C rows chosen by all heads of a token, N experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from peer_cl.pool import Segment


@dataclass(frozen=True)
class Fired:
    """What one segment's rows do at one host layer."""

    segment: Segment
    host_layer: int
    ids_TC: Tensor
    """int64; a row that two heads choose stands here twice."""
    weights_TC: Tensor
    """fp32, the router's; a head's add up to one."""
    strengths_TC: Tensor
    """fp32, L2 norm of what each row adds to the layer's output."""


class UsageWatch:
    """Keeps which rows fire in a branch; given to `run_branch` as its `watch`."""

    def __init__(self) -> None:
        self.fired: list[Fired] = []

    @torch.no_grad()
    def __call__(
        self,
        segment: Segment,
        number: int,
        inputs_TD: Tensor,
        weights_THK: Tensor,
        ids_THK: Tensor,
    ) -> None:
        """Keep what a segment does at a host layer."""
        layer = segment.layer(number)
        ids_TC, weights_TC, rows = ids_THK.flatten(1), weights_THK.flatten(1), layer.experts
        hidden_TC = torch.einsum("td,tcd->tc", inputs_TD, rows.down_ND[ids_TC])
        spoken_TC = layer.shape.output_scale * weights_TC * rows.activation(hidden_TC)
        strengths_TC = spoken_TC.abs() * rows.up_ND[ids_TC].norm(dim=-1)
        self.fired.append(Fired(segment, number, ids_TC, weights_TC, strengths_TC))


def expert_usage(weights_N: Tensor) -> float:
    """Return the share of rows that are used at all.

    Source: He 2024, arXiv 2407.04153: the share of z_i that are not 0, z_i the router's weight
    summed over an evaluation set.

    Example:
        >>> expert_usage(torch.tensor([3.0, 0.0, 1.0, 0.0]))
        0.5
    """
    return float((weights_N > 0).float().mean())


def unevenness(weights_N: Tensor) -> float:
    """Return how far use is from even, in nats: 0 is even, log N is one row alone.

    Source: He 2024, arXiv 2407.04153: log N + sum z log z, the Kullback-Leibler divergence of the
    normalised use z from the uniform distribution.

    Example:
        >>> unevenness(torch.tensor([1.0, 1.0, 1.0, 1.0]))
        0.0
        >>> round(unevenness(torch.tensor([5.0, 0.0, 0.0, 0.0])), 4)
        1.3863
    """
    total = weights_N.double().sum()
    if total <= 0:
        return 0.0
    shares_N = weights_N.double() / total
    used_N = shares_N[shares_N > 0]
    return float(max(0.0, math.log(len(weights_N)) + float((used_N * used_N.log()).sum())))
