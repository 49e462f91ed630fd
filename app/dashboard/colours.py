"""One colour a domain, the same on every page and in both themes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

BASE_COLOUR = "#8a8f98"
"""Of the base model: what stands beside every domain is grey."""
_FIRST = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#c98b00",
    "#aa3377",
    "#0096b4",
    "#7a5cc7",
    "#d1603d",
    "#5f8a00",
    "#c74fa0",
)
"""Told apart by most people with a colour-blindness, and readable on white and on near-black."""
_GOLDEN = 0.618034


def domain_colours(domains: Sequence[str]) -> dict[str, str]:
    """Return a colour for each domain.

    Args:
        domains: in the order in which they came, so that a new one changes nobody's colour.

    Example:
        >>> domain_colours(["law", "medicine"])
        {'law': '#4477aa', 'medicine': '#ee6677'}
    """
    return {name: _colour(number) for number, name in enumerate(domains)}


def _colour(number: int) -> str:
    if number < len(_FIRST):
        return _FIRST[number]
    extra = number - len(_FIRST)
    lightness = (0.42, 0.52, 0.60)[extra % 3]
    red, green, blue = colorsys.hls_to_rgb(extra * _GOLDEN % 1.0, lightness, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
