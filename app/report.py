"""An evaluation's report as tables; the figures are the report's, nothing is computed here."""

from __future__ import annotations

from typing import Any

from app.output import print_table, say

BACKGROUND = ("source", "kind", "documents", "identical", "max_added_nats", "base_loss_nats")
MIXTURE = (
    "domain",
    "documents",
    "base_loss_nats",
    "forced_loss_nats",
    "loss_nats",
    "kept",
    "kept_continuation",
    "asked",
    "max_added_nats",
)
RECALL = ("domain", "wording", "base", "forced", "mixture")


def print_report(report: dict[str, Any]) -> None:
    """Print what `evaluate` found."""
    say(f"snapshot {report['snapshot']}, budget {report['budget']}")
    _print_matrix(report)
    metrics = report["metrics"]
    print_table("metrics (nats a token; higher is better)", tuple(metrics), [metrics.values()])
    _print_rows("mixture", MIXTURE, report["mixture"])
    _print_rows("background", (*BACKGROUND, "loss_nats"), report["background"])
    _print_rows("exact recall of facts", RECALL, report["recall"])


def _print_matrix(report: dict[str, Any]) -> None:
    """Print losses: one row for the base and one after each ingest, one column a domain."""
    domains, matrix = report["domains"], report["matrix"]["loss_nats"]
    rows = [
        ("base" if number == 0 else f"after {number}", *losses)
        for number, losses in enumerate(matrix)
    ]
    print_table("loss on unseen documents (nats a token)", ("", *domains), rows)


def _print_rows(title: str, keys: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    names = tuple(key.replace("_", " ") for key in keys)
    print_table(title, names, [tuple(row.get(key) for key in keys) for row in rows])
