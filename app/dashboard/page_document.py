"""Document: its text, where it is held, what it taught, and its erasure."""

from __future__ import annotations

import streamlit as st

from app.dashboard import tables
from app.dashboard.processes import start_process
from app.dashboard.state import View, link, message_box, page, plain, show_error
from stores.queries import DocumentPlace

LONG_TEXT = 2000
"""Characters; a longer text scrolls in a box of its own."""


@page("document", "article", "One document: its text, what it taught, and what experts it owns.")
def show(seen: View) -> None:
    """Show the page."""
    wanted = st.text_input(
        "Document (its id, or the first digits)", key="id", bind="query-params", max_chars=64
    ).strip()
    if not wanted:
        st.info("Open a document from a domain's list.", icon=":material/article:")
        link("domains", "Go to Domains")
        return
    places = seen.queries.places(wanted)
    newest = max(places, key=lambda place: (place.is_live, place.created_at))
    document = newest.document
    st.subheader(plain(document.title or document.document_id[:12]), anchor=False, divider="gray")
    about = f"A {document.kind} of {document.num_tokens:,} tokens from {document.source}."
    st.caption(plain(f"{about} Id {document.document_id}"))
    if document.text_object is None:
        st.info("This store keeps no texts.", icon=":material/visibility_off:")
    else:
        text = seen.queries.document_text(document)
        with st.container(border=True, height=360 if len(text) > LONG_TEXT else "content"):
            st.text(text)
        link("trace", "Trace it", document=document.document_id)
    st.markdown("**Held by**")
    table = tables.rows(
        places,
        "document.domain open label state document.split document.base_nats document.nats "
        "snapshot_id created_at",
        open=lambda one: tables.address("domains", domain=one.document.domain),
        state=lambda one: "live" if one.is_live else "not live",
    )
    tables.show(table, "Versions that hold the document")
    _show_owned(seen, places)
    _show_erasure(seen, places)


def _show_owned(seen: View, places: tuple[DocumentPlace, ...]) -> None:
    from pipelines.experts import owned_experts

    st.markdown("**Own experts**")
    if owned := owned_experts(seen.store.registry, places):
        table = tables.rows(owned, "domain label num_experts num_host_layers size_bytes")
        tables.show(table, "Experts that the document owns")
    else:
        st.caption("It owns none.")


def _show_erasure(seen: View, places: tuple[DocumentPlace, ...]) -> None:
    """Offer to erase a document, in a process."""
    domains = sorted({place.document.domain for place in places if place.is_live})
    if not domains:
        return
    document_id = places[0].document.document_id
    with st.expander("Erase it", icon=":material/ink_eraser:"):
        domain = st.selectbox("From the domain", domains, key="erase-from")
        st.text(
            "It is gone at once with the experts that it owns. Of a text, the shard of shared "
            "experts that it taught is switched off, too, until the next ingest of "
            f"{domain} trains it anew. Then {domain} is as if it had never seen it; no other "
            "domain changes. Old snapshots hold it until they are purged."
        )
        waits = st.checkbox("Also train shared experts now", key="erase-wait")
        message = message_box("erase")
        digits = document_id[:6]
        typed = st.text_input(f"Type {digits}, the first digits of its id", key="erase-typed")
        if not st.button("Erase", icon=":material/ink_eraser:", key="erase"):
            return
        if typed.strip().lower() != digits:
            show_error(f"To erase it, type {digits}; nothing was done.")
            return
        words = ["erase", document_id, "--domain", domain, "--yes", "--message", message()]
        start_process(seen, [*words, *["--wait"] * waits])
        st.toast("The erasure has started.", icon=":material/check_circle:")
        if waits:
            link("ingest", "Follow it")
        else:
            link("history", "See it in the log")
