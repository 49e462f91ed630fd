"""Charts of held-out documents: with the pool against the base, and token by token."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.scales import LINE
from app.dashboard.colours import BASE_COLOUR


def documents_chart(frame: pd.DataFrame, colour: str) -> Any:
    """Return one point a document: the base's loss against the loss with the pool.

    Args:
        frame: of `documents_frame`.
        colour: the domain's.
    """
    losses = frame[["base_nats", "nats"]]
    low, high = float(losses.min().min()), float(losses.max().max())
    ends = pd.DataFrame({"base_nats": [low, high], "nats": [low, high]})
    scale = alt.Scale(domain=[low, max(high, low + 0.1)], nice=True)
    even = alt.Chart(ends).mark_line(strokeDash=[4, 4], color=LINE)
    points = alt.Chart(frame).mark_circle(size=60, color=colour, opacity=0.75)
    x = alt.X("base_nats:Q", title="loss of the base, nats a token", scale=scale)
    y = alt.Y("nats:Q", title="loss with the pool alone, nats a token", scale=scale)
    tooltip = [
        alt.Tooltip("title:N", title="document"),
        alt.Tooltip("tokens:Q", title="tokens"),
        alt.Tooltip("base_nats:Q", title="base, nats a token", format=".4f"),
        alt.Tooltip("nats:Q", title="with the pool", format=".4f"),
        alt.Tooltip("change_nats:Q", title="change (negative = learned)", format="+.4f"),
    ]
    return alt.layer(even.encode(x=x, y=y), points.encode(x=x, y=y, tooltip=tooltip)).properties(
        height=340
    )


def tokens_chart(frame: pd.DataFrame, colour: str) -> Any:
    """Return the loss of each token of one document, for the base and with the pool.

    Args:
        frame: of `tokens_frame`.
        colour: the domain's.
    """
    models = ["base", "with the pool"]
    return (
        alt.Chart(frame)
        .mark_line(interpolate="step", strokeWidth=1.5)
        .encode(
            x=alt.X("token:Q", title="token of the document, from its start"),
            y=alt.Y("nats:Q", title="loss, nats"),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=models, range=[BASE_COLOUR, colour]),
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
