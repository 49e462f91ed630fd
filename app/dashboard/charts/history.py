"""The store over time: a lane for each domain, from snapshot to snapshot."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale

_DISABLED = 0.3


def lanes(spans: pd.DataFrame, colours: Mapping[str, str]) -> alt.LayerChart:
    """Return the stretches in which each domain was at a version, in its colour.

    Args:
        spans: of `frames.history.spans`.
        colours: of domains.
    """
    return _bars(spans, colours, row="domain")


def versions(spans: pd.DataFrame, colours: Mapping[str, str]) -> alt.LayerChart:
    """Return the stretches in which each version of one domain was live, a lane a version.

    Args:
        spans: of `frames.history.spans`, of one domain.
        colours: of domains.
    """
    return _bars(spans, colours, row="version")


def _bars(spans: pd.DataFrame, colours: Mapping[str, str], row: str) -> alt.LayerChart:
    title = "snapshot (number)"
    first = int(spans["first"].min()) if len(spans) else 0
    end = int(spans["end"].max()) if len(spans) else 1
    base = alt.Chart(spans, height=alt.Step(22)).encode(
        x=alt.X(
            "first:Q",
            title=title,
            scale=alt.Scale(domain=[first, end], nice=False),
            axis=alt.Axis(tickMinStep=1, format="d"),
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
        x2="end:Q",
        color=alt.Color("domain:N", scale=domain_scale(colours), legend=None),
        opacity=alt.condition("datum.is_enabled", alt.value(0.9), alt.value(_DISABLED)),
    )
    edges = (
        base.transform_filter("datum.is_frozen")
        .mark_rule(strokeWidth=3, strokeDash=[2, 2], color="#5b6673", yOffset=9)
        .encode(x2="end:Q")
    )
    return alt.layer(bars, edges)
