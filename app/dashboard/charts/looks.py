"""What charts share: the colour of each domain."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt


def domain_scale(colours: Mapping[str, str]) -> alt.Scale:
    """Return the scale that gives each domain its colour, the same in every chart."""
    return alt.Scale(domain=list(colours), range=list(colours.values()))
