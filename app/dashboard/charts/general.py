"""The chart of general ability: each set's two marks, of the base alone and with the pools."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.scales import INK, LINE, STRONG
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.frames.general import BASE, STORE


def general_chart(frame: pd.DataFrame, *, is_text: bool) -> Any:
    """Return a line of two marks a set, one below the other so that equal ones show both.

    Args:
        frame: of `paired_frame`.
        is_text: values are losses in nats a token, else shares of items that are right.
    """
    tasks = list(dict.fromkeys(frame["task"]))
    title = "loss, nats a token" if is_text else "accuracy, share of items that are right"
    form = ".4f" if is_text else ".1%"
    base = alt.Chart(frame).encode(
        y=alt.Y("task:N", sort=tasks, title=None, axis=alt.Axis(labelLimit=220, labelFontSize=13)),
        yOffset=alt.YOffset("who:N", sort=[BASE, STORE]),
        x=alt.X(
            "value:Q",
            title=title,
            scale=alt.Scale(zero=True) if is_text else alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format=".1f" if is_text else ".0%", tickCount=6),
        ),
        tooltip=[
            alt.Tooltip("task:N", title="set"),
            alt.Tooltip("who:N", title="who"),
            alt.Tooltip("value:Q", title=title, format=form),
            alt.Tooltip("items:Q", title="items"),
            alt.Tooltip("changed_items:Q", title="changed items"),
        ],
    )
    colour = alt.Color(
        "who:N",
        title=None,
        sort=[BASE, STORE],
        scale=alt.Scale(domain=[BASE, STORE], range=[BASE_COLOUR, STRONG]),
        legend=alt.Legend(orient="top"),
    )
    stems = base.mark_bar(height=2, color=LINE, opacity=0.4)
    dots = base.mark_circle(size=130, opacity=1).encode(color=colour)
    words = base.mark_text(align="left", dx=10, fontSize=12, color=INK).encode(
        text=alt.Text("value:Q", format=form)
    )
    return alt.layer(stems, dots, words).properties(height=130 + 46 * len(tasks))
