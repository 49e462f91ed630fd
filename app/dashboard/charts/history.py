"""The store over time: a lane for each domain, from snapshot to snapshot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale, ink
from app.dashboard.charts.scales import LINE
from app.dashboard.colours import BASE_COLOUR

if TYPE_CHECKING:
    from stores import Snapshot

_DISABLED = 0.3
_GAP = 0.003
"""Between two bars in a row, as a share of the chart's width."""
_LABELLED = 0.04
"""A bar that is wider than this share of the chart says its version."""
_SHORTEST = 0.4
"""Of a bar's length at most this share is left out for the gap."""


def lanes(
    spans: pd.DataFrame, colours: Mapping[str, str], found: Sequence[Snapshot]
) -> alt.LayerChart:
    """Return the stretches in which each domain was at a version, in its colour.

    Args:
        spans: of `frames.history.spans`.
        colours: of domains.
        found: the snapshots that the axis spans, the live one last.
    """
    return _bars(spans, colours, found, row="domain")


def versions(
    spans: pd.DataFrame, colours: Mapping[str, str], found: Sequence[Snapshot]
) -> alt.LayerChart:
    """Return the stretches in which each version of one domain was live, a lane a version.

    Args:
        spans: of `frames.history.spans`, of one domain.
        colours: of domains.
        found: the snapshots that the axis spans, the live one last: a bar that ends before it is
            of a version that is no longer live.
    """
    return _bars(spans, colours, found, row="version")


def _ticks(first: int, end: int) -> list[int]:
    """Return the snapshots that the axis names: all of them, or about twelve.

    Example:
        >>> _ticks(2, 6), _ticks(1, 101)
        ([2, 3, 4, 5], [1, 11, 21, 31, 41, 51, 61, 71, 81, 91])
    """
    fitting = (step for power in (1, 10, 100, 1000) for step in (power, 2 * power, 5 * power))
    step = next((step for step in fitting if (end - first) <= 12 * step), end - first)
    return list(range(first, end, step))


def _named(ticks: Sequence[int], found: Sequence[Snapshot]) -> str:
    """Return Vega's expression for a tick's words: its number, and its day where that is another.

    A day that is said again under each tick would leave no room for the numbers.
    """
    made = {snapshot.id: snapshot.created_at for snapshot in found}
    words: dict[int, list[str]] = {}
    before = ""
    for tick in ticks:
        day = made.get(tick, "")[:10]
        words[tick] = [str(tick)]
        if day not in ("", before):
            words[tick].append(f"{datetime.fromisoformat(day):%d %b %Y}")
            before = day
    return f"({json.dumps(words)})[datum.value]"


def _bars(
    spans: pd.DataFrame, colours: Mapping[str, str], found: Sequence[Snapshot], row: str
) -> alt.LayerChart:
    first, live = found[0].id, found[-1].id
    end = live + 1
    width = end - first
    ticks = _ticks(first, end)
    scale = alt.Scale(domain=[first, end], nice=False)
    length = spans["end"] - spans["first"]
    shown = spans.assign(
        # Versions in a row are told apart, and the shortest stretch is still seen.
        bar_end=spans["end"] - (_SHORTEST * length).clip(upper=_GAP * width),
        ink=[ink(colours[name]) for name in spans["domain"]],
        # A lane that is a version's is named after it already.
        label=spans["version"].where((length > _LABELLED * width) & (row != "version"), ""),
    )
    base = alt.Chart(shown, height=alt.Step(22)).encode(
        x=alt.X(
            "first:Q",
            title="snapshot (number), and the day it was made (UTC)",
            scale=scale,
            # A bar ends where the next snapshot would begin, and there is none after the last.
            axis=alt.Axis(values=ticks, labelExpr=_named(ticks, found)),
        ),
        y=alt.Y(f"{row}:N", title=None if row == "domain" else "version", sort=None),
        tooltip=[
            alt.Tooltip("domain:N"),
            alt.Tooltip("version:N"),
            alt.Tooltip("state:N"),
            alt.Tooltip("first:Q", title="from snapshot", format="d"),
            alt.Tooltip("since:N"),
            alt.Tooltip("until:N"),
        ],
    )
    bars = base.mark_bar(height=14, cornerRadius=2).encode(
        x2="bar_end:Q",
        color=alt.Color("domain:N", scale=domain_scale(colours), legend=None),
        opacity=alt.condition("datum.is_enabled", alt.value(0.9), alt.value(_DISABLED)),
    )
    frozen = (
        base.transform_filter("datum.is_frozen")
        .mark_rule(strokeWidth=3, strokeDash=[2, 2], color=BASE_COLOUR, yOffset=9)
        .encode(x2="bar_end:Q")
    )
    labels = (
        base.transform_filter("datum.is_enabled")
        .mark_text(align="left", dx=5, fontSize=10, fontWeight="bold")
        .encode(text="label:N", color=alt.Color("ink:N", scale=None))
    )
    now = pd.DataFrame({"first": [live], "end": [end], "what": ["live now"]})
    column = (
        alt.Chart(now)
        .mark_rect(fill=LINE, fillOpacity=0.15, stroke=LINE, strokeOpacity=0.5)
        .encode(
            x=alt.X("first:Q", scale=scale),
            x2="end:Q",
            tooltip=[
                alt.Tooltip("what:N", title="column"),
                alt.Tooltip("first:Q", title="snapshot", format="d"),
            ],
        )
    )
    return alt.LayerChart(layer=[column, bars, frozen, labels])
