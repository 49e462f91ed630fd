"""The Trace page's tables: rows that fired, documents that are like a text, and what rows hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard.columns import open_column

if TYPE_CHECKING:
    import pandas as pd

    from app.dashboard.page import View

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
            "router weight": st.column_config.NumberColumn(
                format="%.3f", help="How much the layer's router counts the row for this token."
            ),
            "router weight, summed": st.column_config.NumberColumn(
                format="%.3f", help="How much the layer's router counts the row, over all tokens."
            ),
            "open": open_column(),
        },
    )


def show_documents(frame: pd.DataFrame) -> None:
    """Show documents by how alike they are to a text."""
    if frame.empty:
        st.caption("None: no pool is asked, or its rows' use was not recorded.")
        return
    st.caption(
        "How alike the rows are that a document and the text ask. It is no proof of who taught the "
        "answer: a document that was learned may be missing here, and others may stand here."
    )
    st.dataframe(
        frame,
        hide_index=True,
        alt="Documents, the most alike of each domain first: likeness from 0 % (the median of its "
        "domain's documents) to 100 %, and cosine",
        column_config={
            "domain": _DOMAIN,
            "likeness": st.column_config.ProgressColumn(
                format="percent",
                width=110,
                min_value=0.0,
                max_value=1.0,
                help="0 %: as the median of its domain's documents. 100 %: asks the same rows.",
            ),
            "cosine": st.column_config.NumberColumn(
                format="%.2f",
                width=60,
                help="Between what the text asks of the rows and what the document does.",
            ),
            "kind": st.column_config.TextColumn(width=50),
            "source": st.column_config.TextColumn(width=120),
            "open": open_column(),
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
            "times even": st.column_config.NumberColumn(
                format="%.1f×",
                width=80,
                help="A document's share of a row's weight, on average over its domain's rows. "
                "1×: the share of each if all learned documents used the row alike.",
            ),
            "open": open_column(),
        },
    )
