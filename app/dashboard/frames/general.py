"""General ability before and after as tables: an evaluation's rows, one a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

TEXT = "text"
"""The kind of a set that has losses; every other kind has accuracies."""
BASE, STORE = "base alone", "with pools"
"""What the two marks of a set are called."""
_COUNTS = ("items", "changed_items", "gained", "lost", "asked_items")


def read_general(told: Any) -> list[dict[str, Any]]:
    """Return a report's rows on general ability, checked; none where the report has none.

    Raises:
        KeyError, TypeError, ValueError: when a row is not what an evaluation writes.
    """
    return [_checked(row) for row in told or ()]


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    is_text = row["kind"] == TEXT
    figure = "loss_nats" if is_text else "accuracy"
    low, high = map(float, row["difference_interval"])
    values = [float(row[f"base_{figure}"]), float(row[figure]), low, high]
    if is_text:
        values.append(float(row["max_added_nats"]))
    if not all(map(math.isfinite, values)):
        raise ValueError(f"general ability of {row['task']} is no number")
    return {
        "task": str(row["task"]),
        "kind": str(row["kind"]),
        **{name: int(row[name]) for name in _COUNTS},
        "before": values[0],
        "after": values[1],
        "low": low,
        "high": high,
        "max_added_nats": values[4] if is_text else math.nan,
    }


def general_frame(rows: Sequence[dict[str, Any]], *, is_text: bool) -> pd.DataFrame:
    """Return one row a set: before, after, what changed, and the interval in words.

    Args:
        rows: of `read_general`.
        is_text: the sets of texts, or the others.
    """
    unit, scale, digits = ("nats", 1, 4) if is_text else ("points", 100, 1)
    table = [
        {
            "task": row["task"],
            "kind": row["kind"],
            "items": row["items"],
            "before": row["before"],
            "after": row["after"],
            **{name: row[name] for name in _COUNTS[1:4]},
            "interval": f"{scale * row['low']:+.{digits}f} to {scale * row['high']:+.{digits}f} "
            f"{unit}",
            "asked_items": row["asked_items"],
            "max_added_nats": row["max_added_nats"],
        }
        for row in rows
        if (row["kind"] == TEXT) == is_text
    ]
    frame = pd.DataFrame(table)
    if is_text or frame.empty:
        return frame.drop(columns="kind", errors="ignore")
    return frame.drop(columns="max_added_nats")


def paired_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return two rows a set, for a chart: who, and its value.

    Args:
        frame: of `general_frame`.
    """
    parts = [
        frame[["task", "items", "changed_items"]].assign(who=who, value=frame[column])
        for who, column in ((BASE, "before"), (STORE, "after"))
    ]
    return pd.concat(parts, ignore_index=True)
