"""Charts of held-out documents: with pools against the base, and token by token."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.domains import shades
from app.dashboard.charts.scales import LINE
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.frames.held_out import ALONE, MIXTURE


def documents_chart(frame: pd.DataFrame, colour: str) -> Any:
    """Return one point a document: the base's loss against the loss with all asked pools.

    Args:
        frame: of `documents_frame`.
        colour: the domain's.
    """
    known = frame.dropna(subset="nats")
    losses = known[["base_nats", "nats"]]
    low, high = 0.0, 1.0
    if len(known):
        low, high = float(losses.min().min()), float(losses.max().max())
    ends = pd.DataFrame({"base_nats": [low, high], "nats": [low, high]})
    scale = alt.Scale(domain=[low, max(high, low + 0.1)], nice=True)
    even = alt.Chart(ends).mark_line(strokeDash=[4, 4], color=LINE)
    points = alt.Chart(known).mark_circle(size=60, color=colour, opacity=0.75)
    x = alt.X("base_nats:Q", title="loss of the base, nats a token", scale=scale)
    y = alt.Y("nats:Q", title="loss with pools, nats a token", scale=scale)
    tooltip = [
        alt.Tooltip("title:N", title="document"),
        alt.Tooltip("tokens:Q", title="tokens"),
        alt.Tooltip("base_nats:Q", title="base, nats a token", format=".4f"),
        alt.Tooltip("nats:Q", title="with pools", format=".4f"),
        alt.Tooltip("alone_nats:Q", title="its pool alone", format=".4f"),
        alt.Tooltip("change_nats:Q", title="change (negative = learned)", format="+.4f"),
    ]
    return alt.layer(even.encode(x=x, y=y), points.encode(x=x, y=y, tooltip=tooltip)).properties(
        height=340
    )


def tokens_chart(frame: pd.DataFrame, colour: str) -> Any:
    """Return the loss of each token of one document: the base, with pools, its pool alone.

    Args:
        frame: of `tokens_frame`.
        colour: the domain's.
    """
    looks = {"base": BASE_COLOUR, MIXTURE: colour, ALONE: shades(colour, 2)[0]}
    models = [model for model in looks if (frame["model"] == model).any()]
    return (
        alt.Chart(frame)
        .mark_line(interpolate="step", strokeWidth=1.5)
        .encode(
            x=alt.X("token:Q", title="token of the document, from its start"),
            y=alt.Y("nats:Q", title="loss, nats"),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=models, range=[looks[model] for model in models]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("token:Q", title="token"),
                alt.Tooltip("model:N", title="model"),
                alt.Tooltip("nats:Q", title="loss, nats", format=".3f"),
            ],
        )
        .properties(height=220)
    )
