"""Document: its text, where it is held, what was gained on it, its rows, and how it is erased."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.columns import domain_column, open_column
from app.dashboard.document_erasure import erase_asked, show_erasure
from app.dashboard.frames import documents as frames
from app.dashboard.frames.counts import kind_in_words
from app.dashboard.links import link
from app.dashboard.outcome import show_outcome
from app.dashboard.page import View, page, plain
from pipelines.documents import several

if TYPE_CHECKING:
    from stores.queries import DocumentPlace

_MOST_ROWS = 50
_LONG_TEXT = 2_000
"""Characters; longer texts are shown in a box of their own that scrolls."""


@page("Document", "What one document says, which rows hold it, and how it is erased.")
def show(seen: View) -> None:
    """Show the page."""
    erase_asked(seen)
    show_outcome(seen, "Document")
    wanted = st.text_input(
        "Document: its id, or the first six digits or more",
        key="id",
        bind="query-params",
        max_chars=64,
    ).strip()
    if not wanted:
        st.info(
            "Choose a document in a domain's corpus, on the page Domains, or type its id.",
            icon=":material/article:",
        )
        link("domains", "Go to Domains")
        return
    found = seen.store.registry.document_places(wanted)
    _show_heading(found)
    _show_text(seen, found)
    _show_places(found)
    _show_rows(seen, found)
    show_erasure(seen, found)


def newest(found: tuple[DocumentPlace, ...]) -> DocumentPlace:
    """Return where a document is held now: the newest place that is live, or else the newest.

    One where its rows are on comes before one where they are off: it is answered by that.
    """
    return max(
        reversed(found),  # of equals the first is taken
        key=lambda place: (place.is_live and not place.is_masked, place.is_live),
    )


def _show_heading(found: tuple[DocumentPlace, ...]) -> None:
    place = newest(found)
    document = place.document
    st.subheader(plain(document.title or document.document_id[:12]), anchor=False, divider="gray")
    is_learned = document.base_nats is not None and document.nats is not None
    with st.container(horizontal=True):
        st.metric("Kind", kind_in_words(document), border=True, width="content")
        st.metric("Tokens", f"{document.num_tokens:,}", border=True, width="content")
        st.metric("State", frames.place_in_words(place), border=True, width="content")
        if document.base_nats is not None and document.nats is not None:
            gain = document.nats - document.base_nats
            st.metric("Loss before", f"{document.base_nats:.3f}", border=True, width="content")
            st.metric(
                "Loss after",
                f"{document.nats:.3f}",
                delta=f"{gain:+.3f} nats a token",
                delta_color="inverse",
                border=True,
                width="content",
            )
    st.caption(
        plain(f"From {document.source}.")
        + (
            " Losses in nats a token: of the base alone, and with the pool of "
            f"{plain(document.domain)} on, right after it was learned."
            if is_learned
            else " Nothing was learned from it, so it has no losses of its own here."
        )
    )
    st.code(document.document_id, language=None)


def _show_text(seen: View, found: tuple[DocumentPlace, ...]) -> None:
    st.markdown("**Text**")
    document = newest(found).document
    if document.text_object is None:
        st.info("This store keeps no texts.", icon=":material/visibility_off:")
        return
    text = seen.store.registry.document_text(document)
    with st.container(border=True, height=360 if len(text) > _LONG_TEXT else "content"):
        st.text(text)
    if seen.live.domains:
        link("trace", "Trace it", document=document.document_id)


def _show_places(found: tuple[DocumentPlace, ...]) -> None:
    st.markdown("**Held by**")
    config = st.column_config
    losses = {
        "before": ("loss before", "%.3f", "Of the base alone, nats a token."),
        "after": ("loss after", "%.3f", "With the pool on, nats a token."),
        "gain": ("gain", "%+.3f", "Loss before less loss after; positive = learned."),
    }
    st.dataframe(
        frames.places(found),
        hide_index=True,
        placeholder="–",
        column_config={
            "domain": domain_column(),
            "state": config.TextColumn(
                "state", help="masked: its own rows are off; not live: in old snapshots alone."
            ),
            "split": config.TextColumn(
                "split", help="train: learned; validation and test: held out."
            ),
            **{
                name: config.NumberColumn(label, format=form, help=told)
                for name, (label, form, told) in losses.items()
            },
            "came": config.TextColumn("came (UTC)"),
            "title": config.TextColumn("title", width="medium"),
        },
        alt="Versions that hold the document: domain, version, state, split, losses, snapshot",
    )


def _show_rows(seen: View, found: tuple[DocumentPlace, ...]) -> None:
    st.markdown("**Rows that hold it**")
    segment_ids = tuple(item.document.segment_id for item in found)
    every = cached.document_rows(seen, found[0].document.document_id, segment_ids)
    if not every:
        st.caption("None is recorded: it was held out, or learned by an older version.")
        return
    table = frames.rows(every, found, _MOST_ROWS)
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        height="content" if len(table) < 8 else 300,
        column_config={
            "expert": config.TextColumn("layer:row"),
            "weight": config.NumberColumn(
                "router weight", format="%.3f", help="Summed over the document's tokens."
            ),
            "share": config.ProgressColumn(
                "share of the row's use", format="percent", min_value=0.0, max_value=1.0
            ),
            "documents": config.NumberColumn("documents", help="That use the row."),
            "open": open_column(),
        },
        alt="Rows that hold the document, the most specific first",
    )
    first = f"the {len(table)} most specific" if len(table) < len(every) else "most specific first"
    st.caption(f"{several(len(every), 'row')}, {first}: those that few other documents use.")
