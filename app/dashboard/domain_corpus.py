"""The part of the page Domains that shows a corpus: its sources and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.columns import document_column
from app.dashboard.frames import domains as frames
from app.dashboard.frames.counts import counted
from pipelines.documents import several

if TYPE_CHECKING:
    from app.dashboard.page import View
    from stores import Document, DomainDetail

_MOST_ROWS = 500


def last_documents(seen: View, detail: DomainDetail) -> tuple[Document, ...]:
    """Return the documents of a domain as it is, or as it last was in the store.

    That is what "bring back" brings back, which need not be the newest version. None of a purged
    domain.
    """
    last = cached.last_state(seen, detail.summary.domain)
    kept = {segment.id for segment in detail.versions if not segment.is_purged}
    if last is None or last.version not in kept:
        return ()
    return cached.domain_documents(seen, detail.summary.domain, last.version)


def show_corpus(seen: View, detail: DomainDetail) -> None:
    """Show the sources and documents of a domain."""
    found = last_documents(seen, detail)
    if not found:
        st.info("No document of this domain is left: its versions were purged.")
        return
    if not detail.summary.is_live:
        st.caption("The domain is not live: this is the corpus of the version that it was at last.")
    st.caption(f"{counted(found, questions=True)}.")
    _show_sources(found)
    _show_documents(found)


def _show_sources(found: tuple[Document, ...]) -> None:
    st.markdown("**Sources**")
    table, num = frames.sources(found, limit=_MOST_ROWS)
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "source": config.TextColumn("source", width="large"),
            "questions": config.NumberColumn(
                "questions", help="For facts, in other words, to test with; nobody learned them."
            ),
            "train": config.NumberColumn("learned", help="Of the texts."),
            "validation": config.NumberColumn(help="Of the texts: held out."),
            "test": config.NumberColumn(help="Of the texts: held out."),
            "tokens": config.NumberColumn(
                "all tokens",
                format="localized",
                help="Of all that came from it, learned or not, read once.",
            ),
        },
        alt="Where the documents came from: texts, facts, questions and tokens of each source",
    )
    if num > len(table):
        st.caption(f"The {len(table):,} largest of {num:,} sources.")


def _show_documents(found: tuple[Document, ...]) -> None:
    st.markdown("**Documents**")
    left, right = st.columns([3, 1])
    search = left.text_input(
        "Search in titles, sources and ids", key="search", max_chars=200, bind="query-params"
    )
    split = right.selectbox(
        "Split",
        ["train", "validation", "test"],
        index=None,
        placeholder="all",
        help="train: learned; validation and test: held out.",
    )
    table, num = frames.documents(found, search=search, split=split, limit=_MOST_ROWS)
    if table.empty:
        st.info("No document fits; search for fewer words.")
        return
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        placeholder="–",
        column_config={
            "document": document_column(),
            "title": config.TextColumn("title", width="large"),
            "tokens": config.NumberColumn("tokens", format="localized"),
            "before": config.NumberColumn(
                "loss before", format="%.3f", help="Of the base alone, nats a token."
            ),
            "after": config.NumberColumn(
                "loss after", format="%.3f", help="With the pool on, nats a token."
            ),
        },
        alt="Documents: a link to each, title, source, split, kind, tokens, loss before and after",
    )
    if num > len(table):
        st.caption(f"The first {len(table):,} of {num:,} documents; search to find others.")
    else:
        st.caption(f"{several(num, 'document')}.")
