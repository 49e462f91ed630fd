"""Columns that tables of domains on several pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig


def count_columns() -> dict[str, ColumnConfig | None]:
    """Return the columns that count what a domain learned, and what it holds out."""
    config = st.column_config
    return {
        "texts": config.NumberColumn("texts", format="localized", help="That were learned."),
        "facts": config.NumberColumn("facts", format="localized"),
        "held_out": config.NumberColumn(
            "held out", format="localized", help="Texts that were not learned, to measure on."
        ),
        "tokens": config.NumberColumn(
            "training tokens", format="localized", help="Of what was learned, read once."
        ),
    }
