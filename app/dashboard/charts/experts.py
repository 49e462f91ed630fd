"""Charts of how a pool's rows are used."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.scales import LEGEND_LENGTH, LINE, sequential

ROW = "picked"
"""The name of the selection that a click on a row makes."""
DEAD = "rgba(217, 102, 11, 0.45)"
OWN = "#2f7fc1"
OUTLINE = "#d9660b"
"""Around the row whose page is open: it reads on faint and on strong blue, in both themes."""


def grid_chart(rows: pd.DataFrame, opened: int | None = None) -> Any:
    """Return the heat map of one layer's rows, S by S; a click on a cell selects its row.

    Args:
        rows: of `rows_frame`.
        opened: the row whose page is shown: it has an outline, whether a click or a link chose it.
    """
    chosen = alt.selection_point(name=ROW, fields=["row"], on="click", empty=False)
    fired = rows.loc[rows["weight"] > 0, "weight"]
    low, high = (float(fired.min()), float(fired.max())) if len(fired) else (1.0, 2.0)
    weight = alt.Color(
        "weight:Q",
        scale=sequential(low, high, is_log=True),
        legend=alt.Legend(
            title="router weight (log)", orient="bottom", gradientLength=LEGEND_LENGTH
        ),
    )
    side = int(rows["i"].max()) + 1 if len(rows) else 1
    axis = alt.Axis(values=list(range(0, side, 4)), labelAngle=0)
    is_opened = alt.datum.row == (-1 if opened is None else opened)
    return (
        alt.Chart(rows)
        .mark_rect(cursor="pointer")
        .encode(
            x=alt.X("j:O", title="second sub-key j", axis=axis),
            y=alt.Y("i:O", title="first sub-key i (row = S*i + j)", axis=axis),
            color=alt.condition(alt.datum.weight > 0, weight, alt.value(DEAD)),
            stroke=alt.condition(is_opened, alt.value(OUTLINE), alt.value(None)),
            strokeWidth=alt.condition(is_opened, alt.value(3), alt.value(0)),
            tooltip=[
                alt.Tooltip("row:Q", title="row"),
                alt.Tooltip("weight:Q", title="router weight", format=".4g"),
                alt.Tooltip("share:Q", title="share of the layer's", format=".3%"),
                alt.Tooltip("documents:Q", title="documents"),
                alt.Tooltip("effective:Q", title="effective documents", format=".1f"),
            ],
        )
        .add_params(chosen)
        .properties(height=520)
    )


def sorted_chart(frame: pd.DataFrame, num_rows: int, layer: int) -> Any:
    """Return each layer's rows from the busiest down, with even use as a dashed line.

    Args:
        frame: of `sorted_frame`.
        num_rows: of one layer.
        layer: drawn strongly and above the others, which are in grey.
    """
    even = alt.Chart(pd.DataFrame({"share": [1 / max(1, num_rows)], "what": ["even use"]}))
    encoding = {
        "x": alt.X("rank:Q", title="rows, the busiest first", scale=alt.Scale(nice=False)),
        "y": alt.Y(
            "share:Q",
            title="share of router weight (log)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format="~%", tickCount=6),
        ),
        "detail": "layer:N",
        "tooltip": [
            alt.Tooltip("layer:N", title="host layer"),
            alt.Tooltip("rank:Q", title="rank"),
            alt.Tooltip("share:Q", title="share", format=".3%"),
        ],
    }
    # Lines of one mark are drawn in the order of the data, and thirty others would hide this one.
    others = alt.Chart(frame[frame["layer"] != layer]).mark_line(
        color=LINE, strokeWidth=1, opacity=0.4
    )
    own = alt.Chart(frame[frame["layer"] == layer]).mark_line(color=OWN, strokeWidth=3)
    rule = even.mark_rule(strokeDash=[4, 4], color=LINE).encode(
        y="share:Q",
        tooltip=[
            alt.Tooltip("what:N", title="line"),
            alt.Tooltip("share:Q", title="share", format=".3%"),
        ],
    )
    return alt.layer(rule, others.encode(**encoding), own.encode(**encoding)).properties(height=280)


def spread_chart(frame: pd.DataFrame) -> Any:
    """Return how many rows have how many effective documents.

    Args:
        frame: of `spread_frame`.
    """
    return (
        alt.Chart(frame)
        .mark_bar(color=OWN, binSpacing=1)
        .encode(
            x=alt.X("low:Q", bin="binned", title="effective documents of a row"),
            x2="high:Q",
            y=alt.Y("rows:Q", title="rows that fired"),
            tooltip=[
                alt.Tooltip("low:Q", title="from", format=".1f"),
                alt.Tooltip("high:Q", title="to", format=".1f"),
                alt.Tooltip("rows:Q", title="rows"),
            ],
        )
        .properties(height=220)
    )


def tokens_chart(frame: pd.DataFrame, num_tokens: int, colour: str) -> Any:
    """Return where in a text a row is used, and how much.

    Args:
        frame: of `tokens_frame`.
        num_tokens: of the text.
        colour: the domain's.
    """
    return (
        alt.Chart(frame)
        .mark_bar(color=colour, width=3)
        .encode(
            x=alt.X(
                "place:Q",
                title="token of the document, from its start",
                scale=alt.Scale(domain=[0, max(1, num_tokens)], nice=False),
            ),
            y=alt.Y("weight:Q", title="router weight"),
            tooltip=[
                alt.Tooltip("token:N", title="token"),
                alt.Tooltip("following:N", title="next token"),
                alt.Tooltip("weight:Q", title="router weight", format=".4f"),
                alt.Tooltip("strength:Q", title="strength", format=".4f"),
            ],
        )
        .properties(height=160)
    )
