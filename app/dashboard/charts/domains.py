"""One domain's charts: how its runs learned, and when its pool speaks."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.frames.learning import TRAINING, VALIDATION

_PALEST = 0.78


def losses(
    table: pd.DataFrame, colour: str, *, bases: pd.DataFrame, ends: pd.DataFrame
) -> alt.LayerChart:
    """Return the loss by step of each run: on training texts, raw and smoothed, and on validation.

    Grey rules across are the base's losses, solid and dashed as the lines that they belong to; a
    rule upwards marks after which step a run reads texts alone.

    Args:
        table: of `frames.domains.losses`.
        colour: the domain's; the newest run has it, older ones are paler.
        bases: of `frames.learning.base_losses`.
        ends: of `frames.learning.fact_ends`.
    """
    versions = list(dict.fromkeys(table["version"]))
    base = alt.Chart(table, height=340).encode(
        x=alt.X(
            "step:Q",
            title="training step",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(
            "loss:Q",
            title="loss (nats a token; answers of facts weigh more)",
            scale=alt.Scale(zero=False),
        ),
        color=alt.Color(
            "version:N",
            title="version",
            scale=alt.Scale(domain=versions, range=shades(colour, len(versions))),
            legend=alt.Legend(symbolOpacity=1),
        ),
        strokeDash=alt.StrokeDash(
            "kind:N",
            title="loss on",
            scale=alt.Scale(domain=[TRAINING, VALIDATION], range=[[1, 0], [5, 3]]),
            legend=None,  # the page's caption says it; its symbols are black on the dark page
        ),
        tooltip=[
            alt.Tooltip("version:N"),
            alt.Tooltip("step:Q", format="d"),
            alt.Tooltip("kind:N", title="loss on"),
            alt.Tooltip("loss:Q", format=".4f"),
        ],
    )
    training = base.transform_filter(alt.datum.kind == TRAINING)
    smooth = training.mark_line(strokeWidth=2)
    validation = base.transform_filter(alt.datum.kind == VALIDATION)
    layers = [
        training.mark_line(opacity=0.3, strokeWidth=1),
        smooth.encode(y="smoothed:Q"),
        validation.mark_line(point={"size": 40}, strokeWidth=2),
        *([_base_rules(bases)] if len(bases) else []),
        *([_end_rules(ends)] if len(ends) else []),
    ]
    return alt.LayerChart(layer=layers)


def _base_rules(bases: pd.DataFrame) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(bases)
        .mark_rule(color=BASE_COLOUR, strokeWidth=1.5)
        .encode(
            y="loss:Q",
            strokeDash=alt.StrokeDash("kind:N", legend=None),
            tooltip=[
                alt.Tooltip("version:N"),
                alt.Tooltip("kind:N", title="base's loss on"),
                alt.Tooltip("loss:Q", format=".4f"),
            ],
        )
    )
    return chart


def _end_rules(ends: pd.DataFrame) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(ends)
        .mark_rule(color=BASE_COLOUR, strokeDash=[1, 3], strokeWidth=2)
        .encode(
            x="step:Q",
            tooltip=[
                alt.Tooltip("version:N"),
                alt.Tooltip("step:Q", title="texts alone after about step", format="d"),
            ],
        )
    )
    return chart


def shades(colour: str, num: int) -> list[str]:
    """Return a colour from pale to itself, for runs from old to new.

    Example:
        >>> shades("#4477aa", 1)
        ['#4477aa']
    """
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    found = []
    for place in range(num):
        share = (place + 1) / num
        level = lightness + (1 - share) * (_PALEST - lightness)
        parts = colorsys.hls_to_rgb(hue, level, saturation)
        found.append("#" + "".join(f"{round(part * 255):02x}" for part in parts))
    return found


def weights(table: pd.DataFrame, colours: Mapping[str, str]) -> alt.Chart:
    """Return who speaks at each token: the weights of the base and of the asked pools, stacked.

    Args:
        table: of `frames.domains.weights`.
        colours: of domains; the base is grey.
    """
    speakers: Sequence[str] = list(dict.fromkeys(table["speaker"]))
    shown = {name: colours.get(name, BASE_COLOUR) for name in speakers}
    chart: alt.Chart = (
        alt.Chart(table, height=260)
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X(
                "place:Q",
                title="token (its place in the text)",
                axis=alt.Axis(tickMinStep=1, format="d"),
                scale=alt.Scale(nice=False),
                bin="binned",
            ),
            x2="end:Q",
            y=alt.Y(
                "weight:Q",
                title="weight in the mixture (0 to 1)",
                stack="zero",
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("speaker:N", title="who speaks", scale=domain_scale(shown)),
            tooltip=[
                alt.Tooltip("place:Q", format="d"),
                alt.Tooltip("token:N"),
                alt.Tooltip("speaker:N"),
                alt.Tooltip("weight:Q", format=".4f"),
            ],
        )
        .transform_calculate(end="datum.place + 1")
    )
    return chart
