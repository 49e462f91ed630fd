"""Document: its text, where it is held, what it taught, and its erasure."""

from __future__ import annotations

import streamlit as st

from app.dashboard import tables
from app.dashboard.columns import show_table
from app.dashboard.processes import start_process
from app.dashboard.state import View, link, message_box, page, plain, show_error
from stores.queries import DocumentPlace

MOST_EXPERTS = 50
LONG_TEXT = 2000
"""Characters; a longer text scrolls in a box of its own."""


@page(
    "document",
    "Document",
    ":material/article:",
    "One document: its text, what it taught, and which experts hold it.",
)
def show(seen: View) -> None:
    """Show the page."""
    wanted = st.text_input(
        "Document (its id, or the first digits)", key="id", bind="query-params", max_chars=64
    ).strip()
    if not wanted:
        st.info("Open a document from a domain's list.", icon=":material/article:")
        link("domains", "Go to Domains", icon=":material/stacks:")
        return
    places = seen.queries.places(wanted)
    newest = max(places, key=lambda place: (place.is_live, place.created_at))
    document = newest.document
    st.subheader(plain(document.title or document.document_id[:12]), anchor=False, divider="gray")
    _show_figures(newest)
    _show_text(seen, newest)
    st.markdown("**Held by**")
    show_table(tables.places_table(places), "Versions that hold the document")
    _show_experts(seen, places)
    _show_erasure(seen, places)


def _show_figures(place: DocumentPlace) -> None:
    document = place.document
    figures = [
        ("Kind", document.kind),
        ("Split", document.split),
        ("Tokens", f"{document.num_tokens:,}"),
        ("State", "live" if place.is_live else "not live"),
    ]
    with st.container(horizontal=True):
        for name, value in figures:
            st.metric(name, value, border=True, width="content", height="stretch")
        if document.base_nats is not None and document.nats is not None:
            loss = f"{document.base_nats:.3f}"
            st.metric("Loss of the base", loss, border=True, width="content", height="stretch")
            st.metric(
                "Loss once learned",
                f"{document.nats:.3f}",
                f"{document.nats - document.base_nats:+.3f} nats a token",
                delta_color="inverse",
                border=True,
                width="content",
            )
    st.caption(plain(f"From {document.source}. Id {document.document_id}"))


def _show_text(seen: View, place: DocumentPlace) -> None:
    if place.document.text_object is None:
        st.info("This store keeps no texts.", icon=":material/visibility_off:")
        return
    text = seen.queries.document_text(place.document)
    with st.container(border=True, height=360 if len(text) > LONG_TEXT else "content"):
        st.text(text)
    link("trace", "Trace it", icon=":material/manage_search:", document=place.document.document_id)


def _show_experts(seen: View, places: tuple[DocumentPlace, ...]) -> None:
    st.markdown("**Experts that hold it**")
    from pipelines.provenance import document_experts

    document_id = places[0].document.document_id
    segment_ids = [place.document.segment_id for place in places]
    found = document_experts(seen.store.registry, document_id, segment_ids)[:MOST_EXPERTS]
    if not found:
        st.caption("None: it was held out.")
        return
    st.caption("The most specific first.")
    show_table(tables.document_experts_table(found, places), "Experts that hold the document")


def _show_erasure(seen: View, places: tuple[DocumentPlace, ...]) -> None:
    """Offer to erase a document: its domain is trained anew without it, in a process."""
    domains = sorted({place.document.domain for place in places if place.is_live})
    if not domains:
        return
    document_id = places[0].document.document_id
    with st.expander("Erase it", icon=":material/ink_eraser:"):
        domain = st.selectbox("From the domain", domains, key="erase-from")
        st.text(
            f"{domain} is trained anew without it, from the version that learned it on. Afterwards "
            f"{domain} is as if it had never seen it; no other domain changes. It takes about as "
            "long as the ingests did. Old snapshots hold it until they are purged."
        )
        message = message_box("erase")
        digits = document_id[:6]
        typed = st.text_input(f"Type {digits}, the first digits of its id", key="erase-typed")
        if not st.button("Erase", icon=":material/ink_eraser:", key="erase"):
            return
        if typed.strip().lower() != digits:
            show_error(f"To erase it, type {digits}; nothing was done.")
            return
        words = ["erase", document_id, "--domain", domain, "--yes", "--message", message()]
        start_process(seen, words)
        st.toast("The erasure has started.", icon=":material/check_circle:")
        link("ingest", "Follow it", icon=":material/monitoring:")
