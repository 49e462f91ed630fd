"""How the rows of one host layer are used by what their segment learned; needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer_cl.evenness import expert_usage, unevenness
from stores import ExpertUse, Segment


@dataclass(frozen=True)
class LayerUse:
    """How the rows of one segment and host layer are used by what the segment learned."""

    label: str
    segment_id: str
    host_layer: int
    num_rows: int
    usage: float
    """Share of rows that fired at all."""
    unevenness: float
    """Nats: 0 is even, log N is one row alone."""
    num_dead: int
    num_documents: int
    """Documents that the segment learned."""
    effective_documents: float
    """Mean over rows, weighted by their use: specific rows have few."""


def rows_a_layer(segment: Segment) -> int:
    """Return how many rows a segment has in each of its host layers."""
    return segment.num_experts // max(1, len(segment.host_layers))


def own_uses(uses: Sequence[ExpertUse], segment: Segment, host_layer: int) -> list[ExpertUse]:
    """Return those of some uses that are of one host layer of a segment."""
    return [u for u in uses if (u.segment_id, u.host_layer) == (segment.id, host_layer)]


def layer_use(
    segment: Segment, host_layer: int, own: Sequence[ExpertUse], num_learned: int
) -> LayerUse:
    """Return how a layer's rows are used.

    Args:
        segment: whose rows they are.
        host_layer: one of the segment's.
        own: the use of its rows that fired.
        num_learned: of how many documents the use was recorded.
    """
    num_rows = rows_a_layer(segment)
    weights_N = [use.weight for use in own] + [0.0] * (num_rows - len(own))
    total = sum(weights_N) or 1.0
    return LayerUse(
        label=segment.label,
        segment_id=segment.id,
        host_layer=host_layer,
        num_rows=num_rows,
        usage=expert_usage(weights_N),
        unevenness=unevenness(weights_N),
        num_dead=num_rows - len(own),
        num_documents=num_learned,
        effective_documents=sum(use.weight * use.effective_documents for use in own) / total,
    )
