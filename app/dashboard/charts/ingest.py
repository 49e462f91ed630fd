"""The chart of the page Ingest: a run's loss, step by step."""

from __future__ import annotations

import altair as alt
import pandas as pd


def loss_chart(losses: pd.DataFrame, colour: str) -> alt.Chart:
    """Return the loss curve of a run.

    Args:
        losses: step, nats.
        colour: the domain's.
    """
    nats = alt.Y("nats", title="weighted loss", scale=alt.Scale(zero=False))
    chart: alt.Chart = (
        alt.Chart(losses, height=260)
        .mark_line(color=colour, point=len(losses) < 3)
        .encode(
            x=alt.X("step", title="step", axis=alt.Axis(tickMinStep=1, format="d")),
            y=nats,
            tooltip=[
                alt.Tooltip("step", title="step"),
                alt.Tooltip("nats", title="weighted loss", format=".3f"),
            ],
        )
    )
    return chart


def told_loss(losses: pd.DataFrame) -> str:
    """Return a loss curve in words, for who cannot see it."""
    if losses.empty:
        return "No loss yet."
    first, last = losses.iloc[0], losses.iloc[-1]
    return (
        f"Weighted loss from {first['nats']:.3f} at step {int(first['step'])} to "
        f"{last['nats']:.3f} at step {int(last['step'])}."
    )
