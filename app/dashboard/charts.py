"""Charts of the pages: pure functions from tables (see tables.py) to Altair charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.tables import ABSOLUTE, BASE, FORGOT, TRAINING, VALIDATION

BASE_COLOUR = "#8a8f98"
"""The base, and everything that is only a reference, is grey."""
DOMAIN_COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#c98b00", "#aa3377"),
    *("#0096b4", "#7a5cc7", "#d1603d", "#5f8a00", "#c74fa0"),
)
"""Told apart by most colour-blind people, readable on white and on near-black; then repeated."""
BETTER, WORSE = "rgba(47, 127, 193, 0.72)", "rgba(217, 102, 11, 0.72)"
FAINT, NOTHING = "rgba(47, 127, 193, 0.10)", "rgba(138, 143, 152, 0.16)"
BLUE = "#2f7fc1"
INK = "currentColor"
"""Colour of words within a chart: the page's own, in either theme."""
NATS = "nats a token"
FEW = 12
"""Up to this many domains each cell of the matrix carries its number."""
SMALL = 260
"""Height of a chart beside another."""
LEAST_CHANGE = 0.02
"""Nats a token; the colours of changes span at least this much, so that noise looks like noise."""
COLUMN_WIDTH, LINE_HEIGHT, FONT_SIZE = 7.85, 24, 13
"""Pixels of a fixed-width font in `text_chart`."""


def domain_colours(domains: Sequence[str]) -> dict[str, str]:
    """Return a colour for the base and for each domain, in the order in which domains came."""
    colours = {name: DOMAIN_COLOURS[n % len(DOMAIN_COLOURS)] for n, name in enumerate(domains)}
    return {BASE: BASE_COLOUR, **colours}


def _colour(table: pd.DataFrame, field: str, colours: Mapping[str, str]) -> alt.Color:
    """Return the encoding that gives the names in a field their colours, in the colours' order."""
    names = [name for name in colours if name in set(table[field])]
    shown = [colours[name] for name in names]
    return alt.Color(f"{field}:N").scale(domain=names, range=shown).legend(title=None, orient="top")


def _tooltip(**fields: str) -> list[alt.Tooltip]:
    """Return tooltips of fields, each with its format; "" is that of words."""
    return [
        alt.Tooltip(f"{name}:{'Q' if form else 'N'}", format=form, title=name.replace("_", " "))
        for name, form in fields.items()
    ]


def matrix_chart(table: pd.DataFrame, mode: str) -> Any:
    """Return the heat map of a `matrix_table` in one of MODES, domains by time."""
    domains, rows = (list(dict.fromkeys(table[name])) for name in ("domain", "after"))
    shown = table.dropna(subset="value")
    form = {ABSOLUTE: ".3f", FORGOT: "+.4f"}.get(mode, "+.3f")
    if mode == ABSOLUTE:
        scale = alt.Scale(range=[BETTER, FAINT], zero=False, nice=False)
    else:
        # A domain's own ingest changes it a hundred times more than any other; the scale spans the
        # others' changes, so that harm would show.
        others = shown.loc[shown["step"] != shown["place"] + 1, "value"].abs()
        most = max(LEAST_CHANGE, float(others.max()) if len(others) else 0.0)
        colours = [BETTER, NOTHING, WORSE]
        scale = alt.Scale(domain=[-most, 0, most], range=colours, clamp=True, interpolate="rgb")
    angle = 0 if len(domains) <= 6 else -40
    legend = alt.Legend(orient="bottom", titleLimit=400, gradientLength=260, format=form)
    cells = alt.Chart(shown, height=110 + len(rows) * (34 if len(domains) <= FEW else 14)).encode(
        alt.X("domain:N").sort(domains).title(None).axis(orient="top", labelAngle=angle),
        alt.Y("after:N").sort(rows).title(None).axis(labelLimit=200, labelFlush=False),
    )
    tiles = cells.mark_rect().encode(
        alt.Color("value:Q", scale=scale, legend=legend).title(f"{mode}, {NATS}; lower is better"),
        tooltip=_tooltip(after="", domain="", value=form, loss_nats=".4f"),
    )
    if len(domains) > FEW:
        return tiles
    words = cells.mark_text(fontSize=12, color=INK)
    return alt.layer(tiles, words.encode(alt.Text("value:Q", format=form)))


def answers_chart(table: pd.DataFrame, colours: Mapping[str, str]) -> Any:
    """Return the shares of an `answers_table` by snapshot, a line a domain."""
    return (
        alt.Chart(table, height=260)
        .mark_line(point=True)
        .encode(
            alt.X("snapshot:O").title("evaluated snapshot"),
            alt.Y("answered:Q").title("answered").axis(format="%").scale(domain=[0, 1]),
            _colour(table, "domain", colours),
            alt.StrokeDash("source:N").legend(title=None, orient="top"),
            tooltip=_tooltip(snapshot="d", domain="", source="", answered=".0%"),
        )
    )


def risk_chart(table: pd.DataFrame) -> Any:
    """Return the risk-coverage curve of a `risk_table`."""
    return (
        alt.Chart(table, height=SMALL)
        .mark_line(point={"color": BLUE, "size": 20}, color=BLUE)
        .encode(
            _share("X", "answered", "questions answered"),
            _share("Y", "wrong", "wrong"),
            tooltip=_tooltip(probability=".2f", answered=".0%", wrong=".0%"),
        )
    )


def reliability_chart(table: pd.DataFrame) -> Any:
    """Return the reliability diagram of a `reliability_table`, with the diagonal."""
    x, y = _share("X", "probability", "probability shown"), _share("Y", "right", "right")
    told = _tooltip(probability=".2f", right=".0%", answers="d")
    points = alt.Chart(table, height=SMALL).mark_line(point={"color": BLUE, "size": 20}, color=BLUE)
    diagonal = alt.Chart(pd.DataFrame({"probability": [0, 1], "right": [0, 1]}))
    return alt.layer(
        diagonal.mark_line(color=BASE_COLOUR, strokeDash=[5, 3]).encode(x, y),
        points.encode(x, y, tooltip=told),
    )


def _share(channel: str, field: str, title: str) -> Any:
    """Return the encoding of a share on an axis from 0 to 1."""
    encoding = getattr(alt, channel)(f"{field}:Q", title=title)
    return encoding.axis(format="%").scale(domain=[0, 1])


def training_chart(table: pd.DataFrame, colour: str) -> Any:
    """Return losses by step: on what each step read (faint), smoothed, and on validation texts.

    The table is of one or several `losses_table`, the oldest first; older versions are fainter.
    """
    versions = list(dict.fromkeys(table["version"]))
    fading = [round(0.4 + 0.6 * n / len(versions), 2) for n in range(1, len(versions) + 1)]
    chart = alt.Chart(table, height=320).encode(
        alt.X("step:Q").axis(tickMinStep=1, format="d").scale(nice=False),
        alt.Y("loss:Q").title(f"weighted loss, {NATS}").scale(zero=False),
        alt.Opacity("version:N").scale(domain=versions, range=fading),
        alt.Detail("version:N"),
        tooltip=_tooltip(version="", step="d", kind="", loss=".4f"),
    )
    training = chart.transform_filter(alt.datum.kind == TRAINING)
    validation = chart.transform_filter(alt.datum.kind == VALIDATION)
    points = {"size": 45, "color": colour}
    return alt.layer(
        training.mark_line(color=colour, strokeWidth=1).encode(opacity=alt.value(0.25)),
        training.mark_line(color=colour, strokeWidth=2).encode(y="smoothed:Q"),
        validation.mark_line(color=colour, strokeDash=[5, 3], point=points),
    )


def text_chart(table: pd.DataFrame, colours: Mapping[str, str], num_columns: int, ink: str) -> Any:
    """Return the text of a `text_table`; a token has the colour of its heaviest branch."""
    num_lines = int(table["line"].max()) + 1
    across = alt.Scale(domain=[0, num_columns], nice=False, zero=False)
    lines = alt.Scale(domain=list(range(num_lines)), padding=0)
    told = {"weight": ".1%", "base_loss_nats": ".2f", "loss_nats": ".2f"}
    place = alt.Chart(table).encode(
        alt.Y("line:O", axis=None, scale=lines),
        tooltip=_tooltip(token="d", seen="", heaviest="", **told),
    )
    ground = place.mark_rect(cornerRadius=2).encode(
        alt.X("start:Q", axis=None, scale=across),
        alt.X2("end:Q"),
        _colour(table, "heaviest", colours),
        alt.Opacity("weight:Q").scale(domain=[0, 1], range=[0.06, 0.6]).legend(None),
    )
    letters = place.mark_text(
        align="left", baseline="middle", font="Source Code Pro, monospace", fontSize=FONT_SIZE
    ).encode(alt.X("left:Q", axis=None, scale=across), alt.Text("shown:N"), color=alt.value(ink))
    return alt.layer(ground, letters).properties(
        width=round(num_columns * COLUMN_WIDTH), height=num_lines * LINE_HEIGHT, autosize="pad"
    )
