"""Which rows speak, and how loudly.

Shape suffixes: T tokens, D width, C rows chosen by all heads of a token.
"""

from __future__ import annotations

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
