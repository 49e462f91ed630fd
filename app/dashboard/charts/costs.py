"""A chart of what a domain's coming cost the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from app.dashboard.charts.looks import domain_scale
from app.dashboard.charts.scales import LINE

_LEAST = 0.01
"""Nats a token; the axis spans at least so much, so that noise does not look like harm."""


def cost_bars(frame: pd.DataFrame, colours: Mapping[str, str]) -> Any:
    """Return a bar a domain: by how much its loss changed; to the right it lost.

    Args:
        frame: of `frames.costs.costs`.
        colours: of domains.
    """
    most = max(_LEAST, float(frame["change_nats"].abs().max()))
    bars = (
        alt.Chart(frame, height=alt.Step(20))
        .mark_bar()
        .encode(
            x=alt.X(
                "change_nats:Q",
                title="change of the loss, nats a token (positive = lost)",
                scale=alt.Scale(domain=[-most, most]),
                axis=alt.Axis(tickCount=8),
            ),
            y=alt.Y("domain:N", title=None, sort=None),
            color=alt.Color("domain:N", scale=domain_scale(colours), legend=None),
            tooltip=[
                alt.Tooltip("domain:N"),
                alt.Tooltip("before:Q", title="loss before, nats a token", format=".4f"),
                alt.Tooltip("after:Q", title="loss after, nats a token", format=".4f"),
                alt.Tooltip("change_nats:Q", title="change (positive = lost)", format="+.5f"),
            ],
        )
    )
    zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color=LINE).encode(x="at:Q")
    return alt.layer(zero, bars)
