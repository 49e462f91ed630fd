"""Each domain's loss: the base's, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale
from app.dashboard.colours import BASE_COLOUR

LOSS_TITLE = "loss on held-out documents (nats a token)"


SPARK_HEIGHT = 48
"""Pixels."""


def spark(past: Sequence[float]) -> alt.Chart:
    """Return a small line of a figure's values, without axes: its shape is what tells.

    Args:
        past: values over the evaluations, oldest first.
    """
    table = pd.DataFrame({"evaluation": range(1, len(past) + 1), "value": past})
    close = alt.Scale(zero=False, nice=False, padding=4)
    line: alt.Chart = alt.Chart(table, height=SPARK_HEIGHT).mark_line(point=True)
    drawn: alt.Chart = line.encode(
        x=alt.X("evaluation:Q", axis=None, scale=close),
        y=alt.Y("value:Q", axis=None, scale=close),
        tooltip=[alt.Tooltip("evaluation:O"), alt.Tooltip("value:Q", format=".4~g")],
    ).configure_view(strokeWidth=0)
    return drawn


def losses(table: pd.DataFrame, colours: Mapping[str, str]) -> alt.LayerChart:
    """Return a line a domain from the base's loss to the loss now.

    Args:
        table: of `frames.overview.live_domains`; domains that were not measured are left out.
        colours: of domains.
    """
    columns = ["domain", "state", "base_loss", "loss"]
    measured = table.loc[table["loss"].notna(), columns].copy()
    measured["gain"] = measured["base_loss"] - measured["loss"]
    line = alt.Chart(measured, height=alt.Step(22)).encode(
        y=alt.Y("domain:N", title=None, sort=None),
        color=alt.Color("domain:N", scale=domain_scale(colours), legend=None),
        tooltip=[
            alt.Tooltip("domain:N"),
            alt.Tooltip("state:N"),
            alt.Tooltip("base_loss:Q", title="base's loss", format=".3f"),
            alt.Tooltip("loss:Q", title="loss now", format=".3f"),
            alt.Tooltip("gain:Q", title="gain", format="+.3f"),
        ],
    )
    start = alt.X("base_loss:Q", title=LOSS_TITLE, scale=alt.Scale(zero=False))
    layers = [
        line.mark_rule(strokeWidth=3, opacity=0.5).encode(x=start, x2="loss:Q"),
        line.mark_point(shape="stroke", angle=90, size=120, strokeWidth=3).encode(
            x=start, color=alt.value(BASE_COLOUR)
        ),
        line.mark_circle(size=110, opacity=1).encode(x=alt.X("loss:Q", title=LOSS_TITLE)),
    ]
    return alt.LayerChart(layer=layers)
