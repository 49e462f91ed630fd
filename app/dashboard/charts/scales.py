"""Colour scales that read on white and on near-black: they fade into the page's own background."""

from __future__ import annotations

import altair as alt

BETTER, WORSE = "rgba(47, 127, 193, 0.72)", "rgba(217, 102, 11, 0.72)"
"""No stronger than the page's own ink is read on, in either theme."""
NONE = "rgba(138, 143, 152, 0.16)"
FAINT, STRONG = "rgba(47, 127, 193, 0.10)", BETTER
LINE = "#8a8f98"
LEGEND_LENGTH = alt.ExprRef("min(260, width)")
"""Pixels of a scale's bar below a chart: on a phone the chart is narrower than the bar would be."""
INK = "currentColor"
"""Of words within a chart: the page's own, in either theme."""


def sequential(
    low: float, high: float, *, is_log: bool = False, is_strong_low: bool = False
) -> alt.Scale:
    """Return a scale from faint to strong.

    Args:
        low: faint here.
        high: strong here.
        is_log: steps are ratios; `low` is above 0 then.
        is_strong_low: the other way round.
    """
    colours = [STRONG, FAINT] if is_strong_low else [FAINT, STRONG]
    top = high if high > low else low * 2 if is_log else low + 1.0
    return alt.Scale(
        type="log" if is_log else "linear", domain=[low, top], range=colours, nice=False
    )


def diverging(most: float, *, is_better_low: bool) -> alt.Scale:
    """Return a scale around 0: blue is better, orange worse, and 0 hardly there.

    Args:
        most: the end on either side.
        is_better_low: values below 0 are the better ones.
    """
    ends = (BETTER, WORSE) if is_better_low else (WORSE, BETTER)
    colours = [ends[0], NONE, ends[1]]
    return alt.Scale(domain=[-most, 0, most], range=colours, clamp=True, interpolate="rgb")
