"""Links from page to page that keep the session, with what the other page shall show."""

from __future__ import annotations

import streamlit as st


def destination(path: str) -> st.Page:
    """Return a page by its path in the address, such as "domains"."""
    from app.dashboard.main import PAGES  # it imports the pages, which import this

    show, title, _, icon = next(page for page in PAGES if page[2] == path)
    return st.Page(
        show,
        title=title,
        url_path=path,
        icon=f":material/{icon}:",
        default=path == "overview",
    )


def link(path: str, label: str, **query: str) -> None:
    """Show a link to a page.

    Args:
        path: of the page.
        label: what the link says.
        query: what the page shall show, such as domain="law".
    """
    st.page_link(destination(path), label=label, query_params=query or None)


def empty_store() -> None:
    """Say what to do with a store that has learned nothing."""
    st.info(
        "This store has learned nothing yet. Teach it a corpus on the page Ingest, or in a "
        "terminal with `peer-cl ingest DOMAIN PATH`.",
        icon=":material/lightbulb:",
    )
    link("ingest", "Go to Ingest")
