"""Charts of what was learned and kept: the matrix, curves, learning against forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.scales import INK, LEGEND_LENGTH, LINE, diverging, sequential
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.frames.retention import ABSOLUTE, FORGOTTEN, Measure, order_of, written

CELL = "cell"
"""The name of the selection that a click on a cell makes: domain and step."""
FEW = 12
"""Up to so many domains, cells carry their values and each domain has its curve."""


def matrix_chart(
    frame: pd.DataFrame,
    measure: Measure,
    mode: str,
    *,
    domains: Sequence[str],
    rows: Sequence[str],
) -> Any:
    """Return the heat map domain x time; a click on a cell selects it.

    Args:
        frame: of `matrix_frame`.
        measure: what a cell shows.
        mode: what it is compared with.
        domains: the columns, in order.
        rows: what each row comes after, in order.
    """
    is_small = len(domains) <= FEW
    chosen = alt.selection_point(name=CELL, fields=["domain", "step"], on="click", empty=False)
    x = alt.X(
        "domain:N",
        sort=list(domains),
        title="loss on held-out documents of",
        axis=alt.Axis(
            orient="top",
            labelAngle=-35 if is_small else -90,
            labelFontSize=12 if is_small else 10,
            labelOverlap=False,
            labelLimit=150,
        ),
    )
    y = alt.Y(
        "after:N",
        sort=list(rows),
        title="after an ingest",
        axis=alt.Axis(
            labelFontSize=12 if is_small else 10,
            labelOverlap=False,
            labelLimit=180,
            labelFlush=False,
        ),
    )
    digits, is_change = _digits(measure, mode), mode != ABSOLUTE
    told = [written(value, digits, is_change=is_change) for value in frame["value"]]
    base = alt.Chart(frame.assign(written=told)).encode(x=x, y=y)
    tiles = base.mark_rect(cursor="pointer").encode(
        color=alt.Color(
            "value:Q", scale=_scale(frame, measure, mode), legend=_legend(measure, mode)
        ),
        stroke=alt.condition(chosen, alt.value(LINE), alt.value(None)),
        strokeWidth=alt.condition(chosen, alt.value(3), alt.value(0)),
        tooltip=[
            alt.Tooltip("after:N", title="row"),
            alt.Tooltip("domain:N", title="domain"),
            alt.Tooltip("written:N", title=_titled(measure, mode)),
            alt.Tooltip("loss_nats:Q", title="loss, nats a token", format=".4f"),
        ],
    )
    tiles = tiles.add_params(chosen)
    # The height is that of the whole: names stand above the tiles, the legend below.
    longest = min(150, 7 * max(len(name) for name in domains))
    height = 120 + longest + len(rows) * (30 if is_small else 13)
    if not is_small:
        return tiles.properties(height=height)
    figures = base.mark_text(fontSize=12, color=INK).encode(text="written:N")
    return alt.layer(tiles, figures).properties(height=height)


def _titled(measure: Measure, mode: str) -> str:
    return measure.unit if mode == ABSOLUTE else f"{mode}, {measure.unit}"


def _digits(measure: Measure, mode: str) -> str:
    return measure.fine if mode == FORGOTTEN else measure.digits


def _is_better_low(measure: Measure, mode: str) -> bool:
    return mode == FORGOTTEN or measure.is_better_low


def _legend(measure: Measure, mode: str) -> alt.Legend:
    sense = "low" if _is_better_low(measure, mode) else "high"
    return alt.Legend(
        title=f"{measure.unit} ({sense} = better)",
        orient="bottom",
        gradientLength=LEGEND_LENGTH,
        format=_digits(measure, mode),
    )


def _scale(frame: pd.DataFrame, measure: Measure, mode: str) -> alt.Scale:
    """Return the scale of the colours: the stronger the blue, the better, in every mode."""
    is_better_low = _is_better_low(measure, mode)
    if mode == ABSOLUTE:
        low, high = float(frame["value"].min()), float(frame["value"].max())
        return sequential(low, high, is_strong_low=is_better_low)
    # What a domain learned itself is a hundred times what it may do to another: with it in the
    # scale, no harm would have a colour. The scale is clamped, so such a cell is just strong.
    others = frame.loc[frame["step"] != frame["place"] + 1, "value"].abs()
    most = float(others.max()) if len(others) else 0.0
    return diverging(max(most, measure.floor), is_better_low=is_better_low)


def curves_chart(
    frame: pd.DataFrame,
    field: str,
    colours: Mapping[str, str],
    *,
    rows: Sequence[str],
    domain: str | None = None,
) -> Any:
    """Return one line a domain over the ingests, with the base as reference, of FEW domains.

    Args:
        frame: of `curves_frame`.
        field: "loss_nats", or "kept".
        colours: a domain's colour.
        rows: what each step comes after, in order.
        domain: drawn strongly, the others faintly; None: all alike.
    """
    domains = list(dict.fromkeys(frame["domain"]))
    title = "loss, nats a token" if field == "loss_nats" else "share of the first gain that is left"
    base = alt.Chart(frame.dropna(subset=field)).encode(
        x=alt.X(
            "after:N",
            sort=list(rows),
            title="time: base, then after each ingest",
            axis=alt.Axis(labelAngle=-45, labelOverlap=True, labelLimit=140),
        ),
        color=alt.Color(
            "domain:N",
            scale=alt.Scale(domain=domains, range=order_of(domains, colours, BASE_COLOUR)),
            sort=domains,
            legend=alt.Legend(title="domain", columns=1),
        ),
        opacity=alt.value(1.0)
        if domain is None
        else alt.condition(alt.datum.domain == domain, alt.value(1.0), alt.value(0.12)),
    )
    lines = base.mark_line(point=len(rows) <= 2 * FEW, strokeWidth=2).encode(
        y=alt.Y(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(zero=field == "kept"),
            axis=alt.Axis(format=".2f" if field == "loss_nats" else ".0%"),
        ),
        tooltip=[
            alt.Tooltip("domain:N", title="domain"),
            alt.Tooltip("after:N", title="time"),
            alt.Tooltip("loss_nats:Q", title="loss, nats a token", format=".4f"),
            alt.Tooltip("base_nats:Q", title="the base's", format=".4f"),
            alt.Tooltip("kept:Q", title="share of the first gain left", format=".2%"),
        ],
    )
    return alt.layer(*_references(frame, field, base, domain), lines).properties(height=340)


def _references(frame: pd.DataFrame, field: str, base: Any, domain: str | None) -> list[Any]:
    """Return dashed lines where the base is: 0 of the gain, or its loss on each domain shown."""
    if field == "kept":
        levels = pd.DataFrame({"level": [0.0, 1.0], "what": ["the base", "all of it"]})
        rule = alt.Chart(levels).mark_rule(strokeDash=[4, 4], color=LINE)
        return [rule.encode(y="level:Q", tooltip=alt.Tooltip("what:N", title="line"))]
    if domain is not None:
        own = frame[frame["domain"] == domain].head(1)
        rule = alt.Chart(own).mark_rule(strokeDash=[4, 4], color=LINE)
        shown = alt.Tooltip("base_nats:Q", title="the base's loss", format=".4f")
        return [rule.encode(y="base_nats:Q", tooltip=shown)]
    return [base.mark_line(strokeDash=[4, 4], strokeWidth=1, opacity=0.7).encode(y="base_nats:Q")]


def spread_chart(
    frame: pd.DataFrame,
    field: str,
    colours: Mapping[str, str],
    *,
    rows: Sequence[str],
    named: Sequence[str],
) -> Any:
    """Return the mean and the range of many domains over the ingests, and some of their lines.

    Args:
        frame: of `curves_frame`.
        field: "loss_nats", with the base's mean dashed, or "kept", with the whole of it dashed.
        colours: a domain's colour.
        rows: what each step comes after, in order.
        named: the domains that have a line and a place in the legend.
    """
    is_loss = field == "loss_nats"
    title = "loss, nats a token" if is_loss else "share of the first gain that is left"
    form = ".2f" if is_loss else "~%"
    known = frame.dropna(subset=field).assign(all=1.0)
    spread = known.groupby(["step", "after"], as_index=False).agg(
        low=(field, "min"),
        mean=(field, "mean"),
        high=(field, "max"),
        reference=("base_nats" if is_loss else "all", "mean"),
    )
    x = alt.X(
        "after:N",
        sort=list(rows),
        title="time: base, then after each ingest",
        axis=alt.Axis(labelAngle=-45, labelOverlap=True, labelLimit=140),
    )

    def y(name: str) -> alt.Y:
        # Without a zero: the scale is then as wide as what differs.
        return alt.Y(
            f"{name}:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(format=form)
        )

    exact = ".4f" if is_loss else ".3%"
    told = [
        alt.Tooltip("after:N", title="time"),
        alt.Tooltip("low:Q", title="least of a domain", format=exact),
        alt.Tooltip("mean:Q", title="mean over domains", format=exact),
        alt.Tooltip("high:Q", title="most of a domain", format=exact),
        alt.Tooltip("reference:Q", title="dashed", format=exact),
    ]
    whole = alt.Chart(spread).encode(x=x, tooltip=told)
    lines = (
        alt.Chart(known[known["domain"].isin(named)])
        .mark_line(strokeWidth=1.5)
        .encode(
            x=x,
            y=y(field),
            color=alt.Color(
                "domain:N",
                scale=alt.Scale(domain=list(named), range=order_of(named, colours, BASE_COLOUR)),
                legend=alt.Legend(title="domain", columns=1),
            ),
            tooltip=[
                alt.Tooltip("domain:N", title="domain"),
                alt.Tooltip("after:N", title="time"),
                alt.Tooltip(f"{field}:Q", title=title, format=exact),
            ],
        )
    )
    return alt.layer(
        whole.mark_area(color=LINE, opacity=0.25).encode(y=y("low"), y2="high:Q"),
        whole.mark_line(strokeDash=[4, 4], color=LINE).encode(y=y("reference")),
        whole.mark_line(strokeWidth=2.5, color=INK).encode(y=y("mean")),
        lines,
    ).properties(height=340)


def exchange_chart(frame: pd.DataFrame, colours: Mapping[str, str], floor: float) -> Any:
    """Return learning against forgetting: one point a domain.

    Args:
        frame: of `exchange_frame`.
        colours: a domain's colour.
        floor: nats a token that the axis of forgetting spans at least, either way.
    """
    domains = list(frame["domain"])
    most = max(floor, 1.1 * float(frame["forgotten_nats"].abs().max()))
    least = min(0.0, float(frame["gained_nats"].min()))
    zero = alt.Chart(pd.DataFrame({"level": [0.0]})).mark_rule(strokeDash=[4, 4], color=LINE)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "gained_nats:Q",
            title="gained right after learning, nats a token",
            scale=alt.Scale(domain=[least, max(1.1 * float(frame["gained_nats"].max()), 0.1)]),
        ),
        y=alt.Y(
            "forgotten_nats:Q",
            title="forgotten since, nats a token (positive = forgot)",
            scale=alt.Scale(domain=[-most, most]),
        ),
        color=alt.Color(
            "domain:N",
            scale=alt.Scale(domain=domains, range=order_of(domains, colours, BASE_COLOUR)),
            legend=None,
        ),
    )
    points = base.mark_circle(size=110, opacity=0.9).encode(
        tooltip=[
            alt.Tooltip("domain:N", title="domain"),
            alt.Tooltip("gained_nats:Q", title="gained, nats a token", format="+.4f"),
            alt.Tooltip("forgotten_nats:Q", title="forgotten, nats a token", format="+.6f"),
        ]
    )
    layers = [zero.encode(y="level:Q"), points]
    if len(domains) <= FEW:
        # The point has the domain's colour; as letters most of these are too pale for a page.
        words = base.mark_text(dy=-14, fontSize=12).encode(text="domain:N", color=alt.value(INK))
        layers.append(words)
    return alt.layer(*layers).properties(height=380)


def background_chart(frame: pd.DataFrame, bound_nats: float) -> Any:
    """Return the worst document's added loss in each foreign source, against the bound."""
    limit = pd.DataFrame({"bound": [bound_nats]})
    bars = (
        alt.Chart(frame)
        .mark_bar(height={"band": 0.6})
        .encode(
            y=alt.Y("source:N", title="foreign text", sort=None),
            x=alt.X(
                "max_added_nats:Q",
                title="worst document's added loss, nats a document (positive = lost)",
            ),
            color=alt.Color(
                "kind:N",
                title="kind",
                scale=alt.Scale(domain=["prose", "look-alike"], range=["#2f7fc1", LINE]),
                legend=alt.Legend(orient="bottom"),
            ),
            tooltip=[
                alt.Tooltip("source:N", title="source"),
                alt.Tooltip("kind:N", title="kind"),
                alt.Tooltip("documents:Q", title="documents"),
                alt.Tooltip("max_added_nats:Q", title="worst added, nats a document", format=".5f"),
                alt.Tooltip("identical:Q", title="identical to the bare model", format=".0%"),
            ],
        )
    )
    rule = (
        alt.Chart(limit)
        .mark_rule(strokeWidth=2, strokeDash=[6, 3], color="#d9660b")
        .encode(x="bound:Q", tooltip=alt.Tooltip("bound:Q", title="bound, nats", format=".5f"))
    )
    return alt.layer(bars, rule).properties(height=150 + 26 * len(frame))
