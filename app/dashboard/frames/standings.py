"""Where a text stands to each domain's signature, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from pipelines.searching import Found

_LEAST_TENTH = 0.05
"""Nats a token; less is not told in tenths."""


def standings(found: Found, named: Collection[str] = ()) -> pd.DataFrame:
    """Return where a text stands to each domain's signature, the likeliest domain first.

    Args:
        found: by a search.
        named: domains that a person asks by name.

    Returns: domain, log_odds (missing where it has no signature), needed (missing where no log odds
        would do), is_asked, said (whether it is asked, or how much is missing).
    """
    return pd.DataFrame(
        [
            (
                domain,
                odds if math.isfinite(odds) else None,
                found.needed[domain],
                domain in found.asked or domain in named,
                _asked_in_words(found, domain, named),
            )
            for domain, odds in found.log_odds.items()
        ],
        columns=["domain", "log_odds", "needed", "is_asked", "said"],
    ).astype({"log_odds": float, "needed": float})


def standings_in_words(frame: pd.DataFrame) -> list[str]:
    """Return where a text stands to each domain, for those who cannot see the chart.

    Args:
        frame: of `standings`.
    """
    known = frame["log_odds"].map("{:+.2f}, ".format).where(frame["log_odds"].notna(), "")
    return list(frame["domain"] + " " + known + frame["said"])


def _asked_in_words(found: Found, domain: str, named: Collection[str]) -> str:
    """Return whether a domain is asked, or what is missing."""
    if domain in named:
        return "asked by name"
    if domain in found.asked:
        return "asked"
    if domain in found.named:
        return "named: asked if it has a say"
    if not math.isfinite(found.log_odds[domain]):
        return "not asked: it has no signature"
    missing = missing_odds(found, domain)
    if missing is None:
        return "not asked: too short, or too far"
    return f"not asked, needs {missing}"


def missing_odds(found: Found, domain: str) -> str | None:
    """Return by how much a domain that is not asked falls short: "+2.3"; None where none would do.

    Args:
        found: by a search.
        domain: one of those searched.
    """
    needed = found.needed[domain]
    if needed is None:
        return None
    missing = max(0.0, needed - found.log_odds[domain])
    return f"{missing:+.1f}" if missing >= _LEAST_TENTH else f"{missing:+.1g}"
