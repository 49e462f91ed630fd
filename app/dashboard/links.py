"""Links from page to page that keep the session, with what the other page shall show."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from app.dashboard.page import plain

_MOST_TOLD = 10
_LONGEST_TOLD = 64


def destination(path: str) -> st.Page:
    """Return a page by its path in the address, such as "domains"."""
    from app.dashboard.main import HIDDEN, PAGES  # it imports the pages, which import this

    show, title, _, icon = next(page for page in PAGES if page[2] == path)
    return st.Page(
        show,
        title=title,
        url_path=path,
        icon=f":material/{icon}:",
        default=path == "overview",
        visibility="hidden" if path in HIDDEN else "visible",
    )


def link(path: str, label: str, **query: str) -> None:
    """Show a link to a page.

    Args:
        path: of the page.
        label: what the link says.
        query: what the page shall show, such as domain="law".
    """
    st.page_link(destination(path), label=label, query_params=query or None)


def warn_of_unknown(parameter: str, what: str, known: Iterable[object], told: str = "") -> None:
    """Say so where the address asks a page for something that is not there.

    Call it before the widget that is bound to the parameter: the widget takes unknown values out
    of the address.

    Args:
        parameter: of the address.
        what: it names, such as "snapshot".
        known: values that it may have.
        told: what is said of them, in place of a list.
    """
    wanted = st.query_params.get(parameter)
    names = [str(one) for one in known]
    if not wanted or wanted in names:
        return
    if not told:
        told = "known: " + ", ".join(names[:_MOST_TOLD]) if names else "there is none"
        told += f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    st.warning(plain(f"There is no {what} {wanted[:_LONGEST_TOLD]!r}; {told}."))


def empty_store() -> None:
    """Say what to do with a store that has learned nothing."""
    st.info(
        "This store has learned nothing yet. Teach it a corpus on the page Ingest, or in a "
        "terminal with `peer-cl ingest DOMAIN PATH`.",
        icon=":material/lightbulb:",
    )
    link("ingest", "Go to Ingest")
