"""The Trace page's view of what is near to a text, and what it says where no domain is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import trace as charts
from app.dashboard.frames import trace as frames
from app.dashboard.model import borrowed
from app.dashboard.page import View, plain
from app.dashboard.trace_tables import labels, show_documents, show_rows

if TYPE_CHECKING:
    from pipelines.searching import Found

DOMAINS = "trace_domains"
"""Key of the session: which domains are to be asked, by name."""


def show_found(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show which rows and documents of every domain are nearest to a text."""
    st.caption(
        "Every enabled domain is searched, whatever its signature says. Scores of two domains' "
        "documents cannot be compared; the log odds of their signatures can. Above 0 a text is "
        "more like the domain than like ordinary text; past a threshold of its own a domain "
        "answers by itself."
    )
    with st.spinner("Searching"):
        found = _found(cached.stamp(seen), text, domains, seen)
    likely = frames.likely_domains(found.log_odds)
    st.altair_chart(
        charts.likely_domains(likely, seen.colours),
        alt="How well each domain's signature fits the text, the best first: "
        + ", ".join(f"{domain} {odds:+.2f}" for domain, odds in found.log_odds.items()),
    )
    st.subheader("Nearest documents", anchor=False)
    show_documents(frames.ranked_documents(found.documents))
    st.subheader("Rows that the words ask most", anchor=False)
    show_rows(frames.found_rows(found.rows, labels(seen, found.log_odds)))


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
    st.info(
        "No domain is sure enough that this text is its own, so the base alone answers; a short "
        "question is often too short for that. Ask a domain by name to hear it all the same.",
        icon=":material/hearing_disabled:",
    )
    with st.container(horizontal=True):
        likeliest = next(iter(found.log_odds))
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


def _ask_domains(domains: list[str]) -> None:
    """Ask domains by name, as if they were chosen in the box."""
    st.session_state[DOMAINS] = domains
    st.query_params["domains"] = ",".join(domains)
