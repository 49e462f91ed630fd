"""Charts of a trace: the text in colours, weights over its tokens, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale
from app.dashboard.charts.scales import INK, LINE
from app.dashboard.frames.trace import BASE

COLUMN_WIDTH = 7.85
"""Pixels a column takes in a fixed-width font of FONT_SIZE: glyphs are about 0.6 of its size."""
LINE_HEIGHT = 24
FONT_SIZE = 13
TOKEN = "token"
"""The name of the selection of a token in `text_in_colours`."""
_FAINTEST, _STRONGEST = 0.06, 0.62
_ODDS = "log odds of the signature (nats a token)"
_UNASKED = 0.55
"""How strong the bar is of a domain that is not asked."""


def text_in_colours(
    frame: pd.DataFrame, colours: Mapping[str, str], *, ink: str, num_columns: int
) -> alt.LayerChart:
    """Return a text set in lines, each token on the colour of who has most weight there.

    Args:
        frame: of `frames.trace.laid_out`.
        colours: by name, the base's included.
        ink: the letters' colour.
        num_columns: in a line.
    """
    names = _names(list(frame["speaker"].unique()), colours)
    num_lines = int(frame["line"].max()) + 1
    place = alt.Chart(frame).encode(
        y=alt.Y("line:O", axis=None, scale=alt.Scale(domain=list(range(num_lines)), padding=0)),
        tooltip=[
            alt.Tooltip("token:O", title="token"),
            alt.Tooltip("seen:N", title="text"),
            alt.Tooltip("speaker:N", title="most weight"),
            alt.Tooltip("weight:Q", title="its weight", format=".1%"),
            alt.Tooltip("base:Q", title="loss of the base (nats)", format=".2f"),
            alt.Tooltip("mixture:Q", title="loss with pools (nats)", format=".2f"),
        ],
    )
    across = alt.Scale(domain=[0, num_columns], nice=False, zero=False)
    picked = alt.selection_point(name=TOKEN, fields=["token"], on="click", empty=False)
    ground = (
        place.mark_rect(cornerRadius=2, stroke=ink)
        .encode(
            x=alt.X("start:Q", axis=None, scale=across),
            x2="end:Q",
            color=alt.Color(
                "speaker:N",
                title="most weight",
                scale=domain_scale({name: colours[name] for name in names}),
                legend=alt.Legend(orient="top", symbolOpacity=1.0, symbolStrokeWidth=0),
            ),
            fillOpacity=alt.Opacity(
                "weight:Q",
                scale=alt.Scale(domain=[0, 1], range=[_FAINTEST, _STRONGEST]),
                legend=None,
            ),
            strokeWidth=alt.when(picked).then(alt.value(1.5)).otherwise(alt.value(0)),
        )
        .add_params(picked)
    )
    letters = place.mark_text(
        align="left", baseline="middle", font="Source Code Pro, monospace", fontSize=FONT_SIZE
    ).encode(x=alt.X("left:Q", axis=None, scale=across), text="shown:N", color=alt.value(ink))
    return alt.LayerChart(
        layer=[ground, letters],
        width=round(num_columns * COLUMN_WIDTH),
        height=num_lines * LINE_HEIGHT,
        autosize="pad",  # the legend is added to the height, not taken from it
    )


def weights_over_tokens(frame: pd.DataFrame, colours: Mapping[str, str]) -> alt.Chart:
    """Return how weight moves between the base and the pools while a text is read.

    Args:
        frame: of `frames.trace.weights_over_tokens`.
        colours: by name, the base's included.
    """
    names = _names(list(frame["who"].unique()), colours)
    num = int(frame["token"].max())
    order = {name: number for number, name in enumerate(names)}
    placed = frame.assign(left=frame["token"] - 0.5, right=frame["token"] + 0.5)
    placed["order"] = placed["who"].map(order)
    placed = placed.sort_values(["token", "order"])
    placed["top"] = placed.groupby("token")["weight"].cumsum().clip(upper=1.0)
    placed["bottom"] = (placed["top"] - placed["weight"]).clip(lower=0.0)
    chart: alt.Chart = (
        alt.Chart(placed)
        .mark_rect(strokeWidth=0)
        .encode(
            x=alt.X(
                "left:Q",
                title="token of the text (number)",
                scale=alt.Scale(domain=[0.5, num + 0.5], nice=False, zero=False),
                axis=alt.Axis(format="d", tickMinStep=1, grid=False),
            ),
            x2="right:Q",
            y=alt.Y(
                "bottom:Q",
                title="weight (share)",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%"),
            ),
            y2="top:Q",
            color=alt.Color(
                "who:N",
                title=None,
                scale=domain_scale({name: colours[name] for name in names}),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("token:O", title="token"),
                alt.Tooltip("seen:N", title="text"),
                alt.Tooltip("who:N", title="who"),
                alt.Tooltip("weight:Q", title="weight", format=".2%"),
            ],
        )
        .properties(height=280)
    )
    return chart


def next_tokens(frame: pd.DataFrame, who: str, colour: str, highest: float) -> alt.LayerChart:
    """Return the likeliest next tokens of the base, or of the mixture, as bars.

    Args:
        frame: of `frames.trace.next_tokens`.
        who: whose.
        colour: of the bars.
        highest: the largest probability of either, so that both charts have one scale.
    """
    own = frame[frame["who"] == who]
    bars = alt.Chart(own).encode(
        y=alt.Y(
            "candidate:N", title=None, sort=alt.SortField("rank"), axis=alt.Axis(labelLimit=160)
        ),
        x=alt.X(
            "probability:Q",
            title="probability of the next token",
            scale=alt.Scale(domain=[0, min(1.0, highest * 1.2)], nice=False),
            axis=alt.Axis(format=".0%", tickCount=4),
        ),
        tooltip=[
            alt.Tooltip("candidate:N", title="next"),
            alt.Tooltip("probability:Q", title="probability", format=".2%"),
        ],
    )
    words = bars.mark_text(align="left", dx=4, color=INK).encode(
        text=alt.Text("probability:Q", format=".1%")
    )
    return alt.LayerChart(
        layer=[bars.mark_bar(color=colour, cornerRadiusEnd=2), words],
        height=90 + 24 * max(1, len(own)),
    )


def standings(frame: pd.DataFrame, colours: Mapping[str, str]) -> alt.LayerChart:
    """Return where a text stands to each domain's signature: a bar from zero, and its mark.

    Args:
        frame: of `frames.standings.standings`.
        colours: by domain.
    """
    placed = frame.assign(label=frame["domain"] + "\n" + frame["said"])
    names, labels = list(frame["domain"]), list(placed["label"])
    lane = alt.Chart(placed).encode(
        y=alt.Y(
            "label:N",
            title=None,
            sort=labels,
            axis=alt.Axis(
                labelExpr="split(datum.value, '\\n')", labelLimit=230, labelLineHeight=15
            ),
        ),
        tooltip=[
            alt.Tooltip("domain:N", title="domain"),
            alt.Tooltip("said:N", title="state"),
            alt.Tooltip("log_odds:Q", title="log odds (nats a token)", format="+.2f"),
            alt.Tooltip("needed:Q", title="asked from (nats a token)", format="+.2f"),
        ],
    )
    bars = lane.mark_bar(cornerRadiusEnd=2, height=16).encode(
        x=alt.X(
            "log_odds:Q",
            title=_ODDS,
            axis=alt.Axis(tickCount=6),
        ),
        color=alt.Color(
            "domain:N",
            legend=None,
            scale=domain_scale({name: colours[name] for name in names}),
        ),
        fillOpacity=alt.when("datum.is_asked").then(alt.value(1.0)).otherwise(alt.value(_UNASKED)),
    )
    zero = alt.Chart(placed).mark_rule(color=LINE).encode(x=alt.XDatum(0, title=_ODDS))
    # A title of its own would be written beside the others'.
    marks = lane.mark_tick(color=INK, thickness=3, size=26).encode(x=alt.X("needed:Q", title=_ODDS))
    return alt.LayerChart(layer=[bars, zero, marks], height=alt.Step(44))


def _names(found: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    """Return names in the order of their colours, the base first."""
    return sorted(found, key=lambda name: (name != BASE, list(colours).index(name)))
