"""Charts of the pages: pure functions from tables (see tables.py) to Altair charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
BLUE, PALE_BLUE, ORANGE = "#2f7fc1", "#9cc3e6", "#d9660b"
INK = "currentColor"
"""Colour of words within a chart: the page's own, in either theme."""
NATS = "nats a token"
FEW = 12
"""Up to this many domains each cell of the matrix carries its number."""
LEAST_CHANGE = 0.02
"""Nats a token; the colours of changes span at least this much, so that noise looks like noise."""
COLUMN_WIDTH, LINE_HEIGHT, FONT_SIZE = 7.85, 24, 13
"""Pixels of a fixed-width font in `text_chart`."""


def domain_colours(domains: Sequence[str]) -> dict[str, str]:
    """Return a colour for the base and for each domain.

    Args:
        domains: in the order in which they came, so that a new one changes no other's colour.

    Example:
        >>> domain_colours(["law", "medicine"])
        {'base': '#8a8f98', 'law': '#4477aa', 'medicine': '#ee6677'}
    """
    colours = {name: DOMAIN_COLOURS[n % len(DOMAIN_COLOURS)] for n, name in enumerate(domains)}
    return {BASE: BASE_COLOUR, **colours}


def _scale(names: Iterable[str], colours: Mapping[str, str]) -> alt.Scale:
    """Return the scale that gives names their colours, in the colours' order."""
    known = [name for name in colours if name in set(names)]
    others = [name for name in dict.fromkeys(names) if name not in colours]
    shown = [*(colours[name] for name in known), *[BASE_COLOUR] * len(others)]
    return alt.Scale(domain=[*known, *others], range=shown)


def _tooltip(**fields: str) -> list[alt.Tooltip]:
    """Return tooltips of fields, each with its format; "" is that of words."""
    return [
        alt.Tooltip(f"{name}:{'Q' if form else 'N'}", format=form, title=name.replace("_", " "))
        for name, form in fields.items()
    ]


def _lanes(field: str = "domain") -> alt.Y:
    """Return an axis with a lane for each name."""
    return alt.Y(f"{field}:N").title(None).sort(None).axis(labelLimit=200, labelFlush=False)


# An evaluation


def losses_chart(table: pd.DataFrame, colours: Mapping[str, str]) -> Any:
    """Return a line a domain from the base's loss (grey mark) to the loss now (dot).

    Args:
        table: of `live_domains_table`.
        colours: of `domain_colours`.
    """
    measured = table[table["loss_nats"].notna()]
    base = alt.X("base_loss_nats:Q").scale(zero=False, padding=20)
    base = base.title(f"loss on held-out documents, {NATS}")
    lanes = alt.Chart(measured, height=alt.Step(30)).encode(
        _lanes(),
        alt.Color("domain:N").scale(_scale(measured["domain"], colours)).legend(None),
        tooltip=_tooltip(domain="", base_loss_nats=".3f", loss_nats=".3f", gain_nats="+.3f"),
    )
    return alt.layer(
        lanes.mark_rule(strokeWidth=3, opacity=0.5).encode(base, x2="loss_nats:Q"),
        lanes.mark_tick(thickness=3, size=16).encode(base, color=alt.value(BASE_COLOUR)),
        lanes.mark_circle(size=130, opacity=1).encode(x="loss_nats:Q"),
    )


def matrix_chart(table: pd.DataFrame, mode: str) -> Any:
    """Return the heat map of losses, domains by time.

    Args:
        table: of `matrix_table`.
        mode: of `value` in the table.
    """
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


def curves_chart(
    table: pd.DataFrame, field: str, colours: Mapping[str, str], domains: Sequence[str]
) -> Any:
    """Return a line a domain over the ingests.

    Args:
        table: of `matrix_table`.
        field: "loss_nats", beside the base's (dashed), or "kept".
        colours: of `domain_colours`.
        domains: those to draw.
    """
    is_loss = field == "loss_nats"
    rows = list(dict.fromkeys(table["after"]))
    known = table[table["domain"].isin(domains)].dropna(subset=field)
    y = alt.Y(f"{field}:Q").scale(zero=not is_loss).axis(format=".2f" if is_loss else ".0%")
    chart = alt.Chart(known, height=320).encode(
        alt.X("after:N").sort(rows).scale(domain=rows).title(None).axis(labelAngle=-30),
        y.title(f"loss, {NATS}" if is_loss else "share of the first gain that is left"),
        alt.Color("domain:N").scale(_scale(domains, colours)).legend(title=None),
        tooltip=_tooltip(domain="", after="", loss_nats=".4f", base_loss_nats=".4f", kept=".2%"),
    )
    lines = chart.mark_line(point=True, strokeWidth=2)
    if not is_loss:
        return lines
    base = chart.mark_line(strokeDash=[4, 4], strokeWidth=1, opacity=0.7)
    return alt.layer(base.encode(y="base_loss_nats:Q"), lines)


def exchange_chart(table: pd.DataFrame) -> Any:
    """Return a bar a domain for what it gained, beside one for what it forgot since.

    Args:
        table: of `exchange_table`.
    """
    bars = alt.Chart(table, height=alt.Step(18)).mark_bar(cornerRadiusEnd=2)
    kinds = list(dict.fromkeys(table["what"]))
    colour = alt.Color("what:N").scale(domain=kinds, range=[BLUE, ORANGE])
    return bars.encode(
        alt.X("nats:Q").title(f"{NATS}; forgotten since: positive = forgot"),
        _lanes(),
        alt.YOffset("what:N").sort(kinds),
        colour.legend(title=None, orient="top", labelLimit=300),
        tooltip=_tooltip(domain="", what="", nats="+.5f"),
    )


def recall_chart(table: pd.DataFrame) -> Any:
    """Return bars of recall: the base, as routed, and by the domain's own pool.

    Args:
        table: of `recall_table`, of one wording.
    """
    kinds = ["base", "routed", "oracle"]
    long = table.melt(["domain", "num"], kinds, "branch", "recall")
    bars = alt.Chart(long, height=alt.Step(16)).mark_bar(cornerRadiusEnd=2)
    colour = alt.Color("branch:N").scale(domain=kinds, range=[BASE_COLOUR, BLUE, PALE_BLUE])
    return bars.encode(
        alt.X("recall:Q").title("questions answered exactly").scale(domain=[0, 1]).axis(format="%"),
        _lanes(),
        alt.YOffset("branch:N").sort(kinds),
        colour.legend(title=None, orient="top"),
        tooltip=_tooltip(domain="", branch="", recall=".1%", num="d"),
    )


def background_chart(table: pd.DataFrame, bound_nats: float) -> Any:
    """Return the worst document's added loss in each source of other text, beside the bound.

    Args:
        table: of `background_table`.
        bound_nats: a document loses at most this much.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    x = alt.X("max_added_nats:Q").title("worst document's added loss, nats (positive = lost)")
    colour = alt.Color("kind:N").scale(domain=kinds, range=[BLUE, PALE_BLUE, BASE_COLOUR])
    bars = alt.Chart(table, height=alt.Step(26)).mark_bar(cornerRadiusEnd=2)
    bound = alt.Chart(pd.DataFrame({"bound": [bound_nats]}))
    rule = bound.mark_rule(strokeWidth=2, strokeDash=[6, 3], color=ORANGE)
    return alt.layer(
        bars.encode(
            x,
            _lanes("source"),
            colour.legend(title=None, orient="top"),
            tooltip=_tooltip(source="", kind="", documents="d", max_added_nats=".5f"),
        ),
        rule.encode(x="bound:Q", tooltip=_tooltip(bound=".5f")),
    )


# Training and history


def training_chart(table: pd.DataFrame, colour: str) -> Any:
    """Return losses by step: on what each step read (faint), smoothed, and on validation texts.

    Args:
        table: of `losses_table`, of one or several versions, the oldest first.
        colour: the domain's, of the newest version; older ones are fainter.
    """
    versions = list(dict.fromkeys(table["version"]))
    fading = [round(0.4 + 0.6 * n / len(versions), 2) for n in range(1, len(versions) + 1)]
    opacity = alt.Opacity("version:N").scale(domain=versions, range=fading)
    chart = alt.Chart(table, height=320).encode(
        alt.X("step:Q").title("step").axis(tickMinStep=1, format="d").scale(nice=False),
        alt.Y("loss:Q").title(f"weighted loss, {NATS}").scale(zero=False),
        alt.Detail("version:N"),
        opacity.legend(title="version") if len(versions) > 1 else opacity.legend(None),
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


def spans_chart(table: pd.DataFrame, colours: Mapping[str, str]) -> Any:
    """Return a lane a domain: which version was live from snapshot to snapshot.

    Args:
        table: of `spans_table`.
        colours: of `domain_colours`.
    """
    first, end = int(table["first"].min()), int(table["end"].max())
    states = table["is_frozen"].map({True: " frozen", False: ""})
    states += table["is_enabled"].map({True: "", False: " disabled"})
    label = table["label"] + states
    has_room = (table["end"] - table["first"]) / (end - first) * 110 > label.str.len()
    shown = table.assign(
        version=label,
        written=label.where(has_room, ""),
        last=table["end"] - 1,
        left=table["first"] - 0.5,
        right=table["end"] - 0.5 - 0.004 * (end - first),
        middle=(table["first"] + table["end"] - 1) / 2,
    )
    scale = alt.Scale(domain=[first - 0.5, end - 0.5], nice=False)
    axis = alt.Axis(format="d", tickMinStep=1, grid=False)
    lanes = alt.Chart(shown, height=alt.Step(32)).encode(
        _lanes().sort("ascending"),
        tooltip=_tooltip(domain="", version="", first="d", last="d"),
    )
    bars = lanes.mark_bar(cornerRadius=3, height=22)
    return alt.layer(
        bars.encode(
            alt.X("left:Q", scale=scale, axis=axis).title("snapshot"),
            alt.X2("right:Q"),
            alt.Color("domain:N").scale(_scale(table["domain"], colours)).legend(None),
            opacity=alt.condition("datum.is_enabled", alt.value(0.75), alt.value(0.25)),
        ),
        lanes.mark_text(fontSize=11, color=INK).encode(
            alt.X("middle:Q", scale=scale), alt.Text("written:N")
        ),
    )


# Experts and traces


def experts_chart(table: pd.DataFrame, chosen: int | None) -> Any:
    """Return the heat map of one layer's experts by their weight, sub-key by sub-key.

    Args:
        table: of `layer_experts`.
        chosen: the expert that is shown below, outlined.
    """
    used = table.loc[table["weight"] > 0, "weight"]
    low, high = (float(used.min()), float(used.max())) if len(used) else (1.0, 2.0)
    scale = alt.Scale(type="log", domain=[low, max(high, low * 1.01)], range=[FAINT, BETTER])
    weight = alt.Color("weight:Q", scale=scale, legend=None)
    is_chosen = alt.datum.expert == (-1 if chosen is None else chosen)
    told = {"share": ".2%", "num_documents": "d", "effective_documents": ".1f"}
    chart = alt.Chart(table, height=420).mark_rect(stroke=ORANGE)
    return chart.encode(
        alt.X("j:O").title("second sub-key").axis(labelAngle=0, labelOverlap=True),
        alt.Y("i:O").title("first sub-key").axis(labelOverlap=True),
        color=alt.condition(alt.datum.weight > 0, weight, alt.value(NOTHING)),
        strokeWidth=alt.condition(is_chosen, alt.value(3), alt.value(0)),
        tooltip=_tooltip(expert="d", **told),
    )


def evenness_chart(table: pd.DataFrame) -> Any:
    """Return the experts' shares from the busiest down, beside even use (dashed).

    Args:
        table: of `layer_experts`.
    """
    shares = table.loc[table["share"] > 0, "share"].sort_values(ascending=False)
    ranked = pd.DataFrame({"rank": range(1, len(shares) + 1), "share": shares.to_numpy()})
    line = alt.Chart(ranked, height=420).mark_line(color=BLUE, strokeWidth=2)
    even = alt.Chart(pd.DataFrame({"even_use": [1 / max(1, len(table))]}))
    return alt.layer(
        even.mark_rule(strokeDash=[4, 4], color=BASE_COLOUR).encode(
            y="even_use:Q", tooltip=_tooltip(even_use=".3%")
        ),
        line.encode(
            alt.X("rank:Q").title("experts, the busiest first").scale(nice=False),
            alt.Y("share:Q").title("share of the layer's router weight").axis(format="~%"),
            tooltip=_tooltip(rank="d", share=".3%"),
        ),
    )


def text_chart(table: pd.DataFrame, colours: Mapping[str, str], num_columns: int, ink: str) -> Any:
    """Return a text in which each token has the colour of the branch with the most weight.

    Args:
        table: of `text_table`.
        colours: of `domain_colours`.
        num_columns: columns of a line.
        ink: colour of the letters.
    """
    num_lines = int(table["line"].max()) + 1
    across = alt.Scale(domain=[0, num_columns], nice=False, zero=False)
    lines = alt.Scale(domain=list(range(num_lines)), padding=0)
    told = {"weight": ".1%", "base_loss_nats": ".2f", "loss_nats": ".2f"}
    place = alt.Chart(table).encode(
        alt.Y("line:O", axis=None, scale=lines),
        tooltip=_tooltip(token="d", seen="", heaviest="", **told),
    )
    colour = alt.Color("heaviest:N").scale(_scale(table["heaviest"], colours))
    ground = place.mark_rect(cornerRadius=2).encode(
        alt.X("start:Q", axis=None, scale=across),
        alt.X2("end:Q"),
        colour.legend(title=None, orient="top", symbolOpacity=1),
        alt.Opacity("weight:Q").scale(domain=[0, 1], range=[0.06, 0.6]).legend(None),
    )
    letters = place.mark_text(
        align="left", baseline="middle", font="Source Code Pro, monospace", fontSize=FONT_SIZE
    ).encode(alt.X("left:Q", axis=None, scale=across), alt.Text("shown:N"), color=alt.value(ink))
    return alt.layer(ground, letters).properties(
        width=round(num_columns * COLUMN_WIDTH), height=num_lines * LINE_HEIGHT, autosize="pad"
    )


def weights_chart(table: pd.DataFrame, colours: Mapping[str, str]) -> Any:
    """Return how weight moves between the base and the domains while a text is read.

    Args:
        table: of `weights_table`.
        colours: of `domain_colours`.
    """
    colour = alt.Color("branch:N").scale(_scale(table["branch"], colours))
    x = alt.X("token:Q").title("token").scale(nice=False, zero=False)
    chart = alt.Chart(table, height=260).mark_area(interpolate="step", opacity=0.85)
    return chart.encode(
        x.axis(format="d", tickMinStep=1, grid=False),
        alt.Y("weight:Q").title("posterior weight").stack("normalize").axis(format="%"),
        colour.legend(title=None, orient="top"),
        tooltip=_tooltip(token="d", seen="", branch="", weight=".2%"),
    )
