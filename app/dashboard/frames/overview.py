"""The live domains with what the newest evaluation says of them, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.dashboard.frames.costs import retained, worst_costs
from app.reading import state_in_words

if TYPE_CHECKING:
    from stores import DomainSummary
    from stores.queries import Evaluation

COLUMNS = (
    "domain",
    "state",
    "version",
    "texts",
    "facts",
    "held_out",
    "tokens",
    "size_bytes",
    "base_loss",
    "loss",
    "retained",
    "cost",
    "recall",
    "left",
)


def live_domains(
    summaries: Sequence[DomainSummary], evaluations: Sequence[Evaluation]
) -> pd.DataFrame:
    """Return one row a live domain, by name.

    Args:
        summaries: of every domain.
        evaluations: of the live snapshot and of those before it, the oldest first.

    Returns: the table; losses are in nats a token, and so is `cost`: the most that another domain
        lost when this one came. `retained` and `recall` are shares, and `left` is the share of the
        base's loss that the mixture had at every evaluation that measured the domain, after a 1 for
        the base itself.
    """
    rows = [row for evaluation in evaluations for row in evaluation.report["mixture"]]
    newest = evaluations[-1].report if evaluations else {"mixture": [], "recall": []}
    now = {row["domain"]: row for row in newest["mixture"]}
    recalled = {
        row["domain"]: row["mixture"] for row in newest["recall"] if row["wording"] == "seen"
    }
    past = _left(rows)
    left = retained(newest) if evaluations else {}
    cost = worst_costs(newest) if evaluations else {}
    found = []
    for item in summaries:
        if not item.is_live:
            continue
        measured: dict[str, Any] = now.get(item.domain, {})
        found.append(
            (
                item.domain,
                state_in_words(item),
                item.label,
                item.num_texts,
                item.num_facts,
                item.num_held_out,
                item.num_tokens,
                item.size_bytes,
                measured.get("base_loss_nats"),
                measured.get("loss_nats"),
                left.get(item.domain),
                cost.get(item.domain),
                recalled.get(item.domain),
                past.get(item.domain, []),
            )
        )
    table = pd.DataFrame(found, columns=list(COLUMNS))
    numbers = ["base_loss", "loss", "retained", "cost", "recall"]
    table[numbers] = table[numbers].astype("float64")
    return table


def _left(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return, by domain, 1 and then the share of the base's loss that every evaluation found left.

    Not the losses: a domain that grew is measured on other documents since, whose loss may be
    higher though nothing was forgotten. The base has read the very same ones each time.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["base_loss_nats"]:
            shares = found.setdefault(row["domain"], [1.0])
            shares.append(row["loss_nats"] / row["base_loss_nats"])
    return found


def findings(found: Sequence[Any]) -> pd.DataFrame:
    """Return what a check of the store found, one row each."""
    return pd.DataFrame(
        [(item.severity, item.what, item.action) for item in found],
        columns=["severity", "what", "action"],
    )
