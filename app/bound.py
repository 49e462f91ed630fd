"""Whether an evaluation's documents kept to the bound that the store promises: all of them must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ROUNDING_NATS = 1e-9
"""Of sums over thousands of tokens in double precision."""


def worst_added(report: Mapping[str, Any]) -> float | None:
    """Return the most that any document of an evaluation lost, nats; None: none was scored.

    Example:
        >>> worst_added({"background": [{"max_added_nats": 0.01}], "mixture": []})
        0.01
    """
    return max((added for _, added in _rows(report)), default=None)


def broken_rows(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the domains, sources and sets of texts of which a document lost more than the bound,
    and how much."""
    most = report["bound_nats"] + _ROUNDING_NATS
    names = ("source", "domain", "task")
    return [
        (next(str(row[name]) for name in names if row.get(name)), added)
        for row, added in _rows(report)
        if not added <= most  # a loss that is no number keeps to nothing
    ]


def _rows(report: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], float]]:
    """Return the report's rows about documents, each with what its worst one lost."""
    # Of general ability whole texts alone have a worst one: choices are parts of a text.
    rows = [*report["background"], *report["mixture"], *report.get("general", ())]
    return [(row, row["max_added_nats"]) for row in rows if row.get("max_added_nats") is not None]
