"""The Trace page's view of what is near to a text, and what it says where no domain is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import trace as charts
from app.dashboard.frames import trace as frames
from app.dashboard.frames.standings import missing_odds, standings, standings_in_words
from app.dashboard.model import borrowed
from app.dashboard.page import View, plain
from app.dashboard.trace_tables import labels, show_documents, show_rows

if TYPE_CHECKING:
    from pipelines.searching import Found

DOMAINS = "trace_domains"
"""Key of the session: which domains are to be asked, by name."""
WHY = "trace_why"
"""Key of the session: whether it is shown why domains are asked."""


def show_found(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show which rows and documents of every domain are nearest to a text."""
    searched = (
        "The domains that you named are searched."
        if domains
        else "Every enabled domain is searched, asked or not."
    )
    st.caption(
        f"{searched} Documents' likeness cannot be compared between domains; the log odds of their "
        "signatures can."
    )
    with st.spinner("Searching"):
        found = _found(cached.stamp(seen), text, domains, seen)
    _show_standings(seen, found, domains)
    st.subheader("Nearest documents", anchor=False)
    show_documents(frames.ranked_documents(found.documents))
    st.subheader("Rows that the words ask most", anchor=False)
    show_rows(frames.found_rows(found.rows, labels(seen, found.log_odds)))


def show_why(seen: View, text: str, label: str) -> None:
    """Show, once it is opened, where a text stands to every domain's signature.

    Args:
        seen: what the page sees.
        text: that is traced.
        label: what can be opened.
    """
    opened = st.expander(
        label,
        icon=":material/rule:",
        key=WHY,
        on_change="rerun",
    )
    if opened.open:
        with opened:
            with st.spinner("Searching"):
                found = _found(cached.stamp(seen), text, (), seen)
            _show_standings(seen, found, ())


def _show_standings(seen: View, found: Found, domains: tuple[str, ...]) -> None:
    """Show where a text stands to each domain's signature, and whether that is enough."""
    frame = standings(found, domains)
    st.altair_chart(
        charts.standings(frame, seen.colours),
        alt="How well each domain's signature fits the text, the likeliest first: "
        + "; ".join(standings_in_words(frame)),
    )
    st.caption(
        "Bar: right of 0 the text's words are likelier in the domain than in ordinary text. "
        "Mark: a bar that reaches it asks the domain. It stands farther right for a short text, "
        "and a little farther left where the base's states are like the domain's. In a store made "
        "before words counted, both are of states."
    )


@st.cache_data(show_spinner=False, max_entries=16)
def _found(stamp: cached.Stamp, text: str, domains: tuple[str, ...], _seen: View) -> Found:
    with borrowed(_seen) as (model, tokenizer):
        return _seen.store.search(
            text, model=model, tokenizer=tokenizer, snapshot=_seen.live, domains=domains
        )


def show_unasked(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Say why the base alone answers, what can be done, and which documents are near all the same.

    A short question often has too few words for a signature to be sure of it.
    """
    found = _found(cached.stamp(seen), text, domains, seen)
    likeliest = next(iter(found.log_odds))
    st.info(
        "No domain is sure enough that this text is its own, so the base alone answers; a short "
        f"question is often too short for that. {_told_missing(found, likeliest)} Ask a domain by "
        "name to hear it all the same.",
        icon=":material/hearing_disabled:",
    )
    with st.container(horizontal=True):
        st.button(
            plain(f"Ask {likeliest}, the likeliest"),
            on_click=_ask_domains,
            args=([likeliest],),
            type="primary",
        )
        if len(found.log_odds) > 1:
            st.button("Ask every domain", on_click=_ask_domains, args=(list(found.log_odds),))
    st.subheader("Documents that the text is like", anchor=False)
    show_documents(frames.ranked_documents(found.documents))


def _told_missing(found: Found, domain: str) -> str:
    """Return in a sentence why the likeliest domain is not asked."""
    name = plain(domain)
    if domain in found.named:
        return f"The text names {name}, which has nothing to say here."
    missing = missing_odds(found, domain)
    if missing is None:
        return f"The likeliest is {name}, which texts like this one never ask."
    return f"The likeliest is {name}: it needs {missing} nats a token."


def _ask_domains(domains: list[str]) -> None:
    """Ask domains by name, as if they were chosen in the box."""
    st.session_state[DOMAINS] = domains
    st.query_params["domains"] = ",".join(domains)
