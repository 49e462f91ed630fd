"""What charts share: the colour of each domain, and of what is written on it."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt


def domain_scale(colours: Mapping[str, str]) -> alt.Scale:
    """Return the scale that gives each domain its colour, the same in every chart."""
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def ink(colour: str) -> str:
    """Return black or white, whichever reads better on a colour.

    Source: WCAG 2.2, relative luminance; at 0.18 both have the same contrast.

    Example:
        >>> ink("#c98b00"), ink("#7a1f8a")
        ('#101418', '#ffffff')
    """
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#101418" if luminance > 0.18 else "#ffffff"
