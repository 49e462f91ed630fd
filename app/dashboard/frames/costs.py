"""What a domain's coming cost the others: the matrix's row after it less the same without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from peer_cl import metrics

NOTICEABLE = 1e-4
"""Nats a token; smaller changes are a matter of the mixture's shares, and no one could see them."""
COLUMNS = ("domain", "learned", "before", "after", "change_nats")
EARLIER, LATER = "earlier", "later"


def costs(report: dict[str, Any], domain: str) -> pd.DataFrame:
    """Return one row a domain that is not this one, the one that lost most first.

    Args:
        report: an evaluation's.
        domain: whose coming is looked at; it is measured in the report.

    Returns: the table. learned: before or after this domain; what comes later is text that nobody
        had learned yet. before, after: the loss on its held-out documents, nats a token, without
        and with this domain. change_nats: the second less the first; positive = lost.
    """
    place = report["domains"].index(domain)
    rows, matrix = _coming_rows(report), report["matrix"]
    # Reports of before have no such rows: there it was the row of the last measured domain.
    before, after = matrix.get("before_nats", rows)[place], rows[place + 1]
    told = [
        (name, EARLIER if at < place else LATER, before[at], after[at], after[at] - before[at])
        for at, name in enumerate(report["domains"])
        if at != place
    ]
    frame = pd.DataFrame(told, columns=list(COLUMNS))
    return frame.sort_values("change_nats", ascending=False, ignore_index=True)


def worst_costs(report: dict[str, Any]) -> dict[str, float]:
    """Return, by domain, the most that another lost when it came, nats a token; 0: none did."""
    found = {name: costs(report, name)["change_nats"] for name in report["domains"]}
    return {name: max(0.0, float(values.max())) for name, values in found.items() if len(values)}


def retained(report: dict[str, Any]) -> dict[str, float | None]:
    """Return, by domain, the share of its gain right after learning that is left; 1 = all, None:
    it gained nothing."""
    losses, came = report["matrix"]["loss_nats"], _coming_rows(report)
    return {
        name: metrics.kept(losses[0][at], came[at + 1][at], losses[-1][at])
        for at, name in enumerate(report["domains"])
    }


def _coming_rows(report: dict[str, Any]) -> list[list[float]]:
    """Return the matrix with the newest domain's row as it came: the matrix's own last row is the
    live snapshot, in which a domain may have been switched off since."""
    rows: list[list[float]] = report["matrix"]["loss_nats"]
    return [*rows[:-1], report["matrix"].get("coming_nats", rows[-1])]


def in_words(frame: pd.DataFrame, domain: str) -> str:
    """Return what a domain's coming cost the others, in a sentence.

    Args:
        frame: of `costs`.
        domain: that came.
    """
    worse = frame[frame["change_nats"] >= NOTICEABLE]
    if frame.empty:
        return f"{domain} is the only domain that is measured, so no other could lose."
    if worse.empty:
        return (
            f"{domain} cost the others nothing that could be seen: none of {len(frame)} got worse "
            f"by {NOTICEABLE:g} nats a token when it came."
        )
    first = worse.iloc[0]
    return (
        f"{len(worse)} of {len(frame)} others got worse when {domain} came; most of all "
        f"{first['domain']}, by {first['change_nats']:.4f} nats a token "
        f"({first['change_nats'] / first['before']:.2%} of its loss)."
    )


def newest_with(reports: Sequence[tuple[int, dict[str, Any]]], domain: str) -> int | None:
    """Return which report is the newest that measured a domain, or None.

    Args:
        reports: snapshots' numbers and their reports, the oldest first.
        domain: to look for.
    """
    found = [at for at, (_, report) in enumerate(reports) if domain in report["domains"]]
    return found[-1] if found else None
