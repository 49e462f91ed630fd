"""Columns that tables on several pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

_NEW_TAB = "Opens in a new tab."


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


def domain_column(*, pinned: bool = False) -> ColumnConfig:
    """Return a column of addresses of `domain_address`, which shows the domains' names.

    Args:
        pinned: it stays where it is while the table is moved sideways.
    """
    return st.column_config.LinkColumn(
        "domain", display_text=r"domain=([^&]+)", help=_NEW_TAB, pinned=pinned, alignment="left"
    )


def job_column() -> ColumnConfig:
    """Return a column of addresses of `job_address`, which shows the ids' first digits."""
    return _id_column("job", "job", "shows the job")


def document_column() -> ColumnConfig:
    """Return a column of addresses of `document_address`, which shows the ids' first digits."""
    return _id_column("document", "id", "reads the document")


def _id_column(label: str, parameter: str, what: str) -> ColumnConfig:
    return st.column_config.LinkColumn(
        label,
        display_text=rf"{parameter}=([0-9a-f]{{12}})",
        help=f"Its first digits; the link {what}. {_NEW_TAB}",
        width=125,
        alignment="left",
    )


def open_column() -> ColumnConfig:
    """Return a column of addresses, each shown as a sign that opens it."""
    return st.column_config.LinkColumn(
        "open", display_text=":material/open_in_new:", help=_NEW_TAB, width=50
    )
