"""The Trace page's tables: rows that fired, documents that are like a text, and what rows hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    import pandas as pd

    from app.dashboard.page import View

_OPEN = st.column_config.LinkColumn(
    "open", display_text=":material/open_in_new:", help="Opens in a new tab.", width=50
)
_DOMAIN = st.column_config.TextColumn(width=90)


def labels(seen: View, domains: Iterable[str]) -> dict[str, str]:
    """Return the labels of the live versions' segments, by the segment's id."""
    states = [state for name in domains if (state := seen.live.state(name)) is not None]
    return {
        segment.id: segment.label
        for state in states
        for segment in seen.store.registry.chain(state.version)
    }


def show_rows(frame: pd.DataFrame) -> None:
    """Show rows, each with a link to its page."""
    if frame.empty:
        st.caption("No row fired here.")
        return
    st.dataframe(
        frame,
        hide_index=True,
        alt="Rows, the strongest first, with their domain, layer and number",
        column_config={
            "domain": _DOMAIN,
            "expert": st.column_config.TextColumn(help="Host layer and row.", width=70),
            "strength": st.column_config.NumberColumn(
                format="%.3f", help="Length of what the row adds to its layer's output."
            ),
            "weight": st.column_config.NumberColumn(format="%.3f", help="The router's weight."),
            "open": _OPEN,
        },
    )


def show_documents(frame: pd.DataFrame) -> None:
    """Show documents by how alike they are to a text."""
    if frame.empty:
        st.caption("None: no pool is asked, or its rows' use was not recorded.")
        return
    st.dataframe(
        frame,
        hide_index=True,
        alt="Documents, the most alike of each domain first, with their score from 0 to 1",
        column_config={
            "domain": _DOMAIN,
            "document": st.column_config.TextColumn(width=300),
            "source": st.column_config.TextColumn(width=160),
            "score": st.column_config.ProgressColumn(
                format="%.2f",
                min_value=0.0,
                max_value=1.0,
                help="Cosine between what the text asks of the rows and what the document does.",
            ),
            "open": _OPEN,
        },
    )


def show_held(frame: pd.DataFrame) -> None:
    """Show the documents that some rows hold."""
    if frame.empty:
        st.caption("None is recorded for these rows.")
        return
    st.dataframe(
        frame,
        hide_index=True,
        alt="Documents that the rows hold, those with the largest share first",
        column_config={
            "domain": _DOMAIN,
            "document": st.column_config.TextColumn(width=160),
            "share": st.column_config.NumberColumn(
                format="percent",
                width=70,
                help="Of a row's weight, on average over its domain's rows.",
            ),
            "open": _OPEN,
        },
    )
