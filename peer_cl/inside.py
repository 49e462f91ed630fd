"""The neurons of a base's feed-forwards: where a pool writes that turns them, not beside them.

A feed-forward's input projections read the layer's width and give what its neurons fire on: one
projection, or a gate's and a value's. They are found by their shape, whatever they are called.

Shape suffixes: D model width, F all that the input projections of a feed-forward give.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def input_projections(feed_forward: nn.Module, width: int) -> list[tuple[nn.Module, int]]:
    """Return the layers that read a feed-forward's input, in the order of their definition.

    Args:
        feed_forward: of one decoder layer.
        width: D of the base.

    Returns:
        Each with how many numbers it gives; none where the feed-forward has none of its own, as
        one that picks among many does.

    Example:
        >>> block = nn.ModuleDict({"up": nn.Linear(4, 6), "down": nn.Linear(6, 4)})
        >>> [size for _, size in input_projections(block, 4)]
        [6]
    """
    sizes = ((layer, _sizes(layer)) for layer in feed_forward.children())
    return [(layer, out) for layer, (reads, out) in sizes if reads == width and out > width]


def _sizes(layer: Any) -> tuple[int, int]:
    """Return how many numbers a linear layer reads and gives; zeros for any other layer."""
    if hasattr(layer, "in_features"):  # torch's, PEFT's and quantised ones
        return int(layer.in_features), int(layer.out_features)
    if hasattr(layer, "nx"):  # GPT-2's Conv1D
        return int(layer.nx), int(layer.nf)
    return 0, 0


def inner_width(projections: list[list[tuple[nn.Module, int]]]) -> int:
    """Return F where it is the same in all of these feed-forwards; else 0.

    Args:
        projections: of each, as `input_projections` gives them.
    """
    widths = {sum(size for _, size in own) for own in projections}
    return widths.pop() if len(widths) == 1 else 0
