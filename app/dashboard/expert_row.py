"""A row's page: the documents it holds, the tokens that use it, what it promotes, what is like it.

Documents come from the registry alone; the rest needs the model, and waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import experts as charts
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.columns import document_column, open_column
from app.dashboard.frames import experts as frames
from app.dashboard.model import borrowed, wait_for_model
from app.dashboard.page import View, plain
from app.output import cell

if TYPE_CHECKING:
    from peer_cl import PeerModel
    from pipelines.experts import DomainExperts, Expert
    from pipelines.row_tokens import RowToken
    from stores import HeldBy

SHOWN_DOCUMENTS = 50
READ_DOCUMENTS = 10
"""So many of a row's documents are offered to be read token by token."""


@dataclass(frozen=True)
class Place:
    """Where a row is."""

    domain: str
    segment_id: str
    label: str
    host_layer: int
    row: int


def show_row(seen: View, place: Place, use: pd.Series[Any]) -> None:
    """Show a row.

    Args:
        seen: the page's.
        place: where the row is.
        use: its row of `rows_frame`.
    """
    st.divider()
    st.subheader(
        plain(f"Row {place.host_layer}:{place.row} of {place.domain} {place.label}"), anchor=False
    )
    found = seen.store.registry.held_documents(place.segment_id, {place.host_layer: [place.row]})
    if not found:
        st.info(
            "Nothing that was learned uses this row, in any wording: it holds no document. In "
            "domains that older versions learned, other wordings may use it all the same.",
            icon=":material/info:",
        )
        return
    (held,) = found
    for column, (name, value) in zip(
        st.columns(4),
        (
            ("Router weight", cell(float(use["weight"]))),
            ("Share of the layer's", f"{float(use['share']):.3%}"),
            ("Documents", f"{held.use.num_documents:,}"),
            ("Effective documents", f"{held.use.effective_documents:.1f}"),
        ),
        strict=True,
    ):
        with column:
            st.metric(name, value, border=True)
    _show_documents(held)
    state = seen.live.state(place.domain)
    if state is not None and not state.is_enabled:
        st.info(
            "The domain is disabled, so its pool is not loaded: what the row promotes, and the "
            "tokens that use it, show once it is enabled.",
            icon=":material/toggle_off:",
        )
        return
    if wait_for_model(seen) is not None:
        _show_meaning(seen, place, held)


def _show_documents(held: HeldBy) -> None:
    st.markdown("**Documents that it holds**")
    st.dataframe(
        frames.held_frame(held, SHOWN_DOCUMENTS),
        hide_index=True,
        height="content" if len(held.documents) < 8 else 300,
        column_config={
            "document": document_column(),
            "title": st.column_config.TextColumn("title", width="large"),
            "share": st.column_config.ProgressColumn(
                "share of the row's use", format="percent", min_value=0.0, max_value=1.0
            ),
        },
        alt="Documents that the row holds, with their shares of its use",
    )
    if len(held.documents) > SHOWN_DOCUMENTS:
        st.caption(f"{SHOWN_DOCUMENTS} of {len(held.documents):,} documents.")


def _show_meaning(seen: View, place: Place, held: HeldBy) -> None:
    expert = _expert(cached.stamp(seen), place, seen)
    left, right = st.columns(2)
    with left:
        st.markdown("**What it promotes**")
        if expert.is_silent:
            st.caption("Nothing: it is off, by a mask, or never learned.")
        else:
            st.caption("The tokens that it makes most likely, read through the unembedding.")
            st.dataframe(
                pd.DataFrame({"token": [repr(token) for token in expert.promotes]}),
                hide_index=True,
                alt="Tokens that the row promotes most",
            )
    with right:
        st.markdown("**Neighbours in other pools**")
        st.caption("Rows that have read what is like it.")
        _show_neighbours(expert)
    _show_tokens(seen, place, held)


def _show_neighbours(expert: Expert) -> None:
    if not expert.near:
        st.caption("No other enabled pool has rows at this layer.")
        return
    st.dataframe(
        frames.near_frame(expert.near),
        hide_index=True,
        column_config={
            "label": "version",
            "host_layer": "host layer",
            "similarity": st.column_config.NumberColumn(
                "similarity",
                format="%.3f",
                help="Cosine of the angle between the rows' mean inputs; 1 = the same.",
            ),
            "open": open_column(),
        },
        alt="Rows of other pools that are like it, with a link to each",
    )


@st.cache_resource(show_spinner=False, max_entries=2)
def _experts(
    key: cached.Stamp, domain: str, _seen: View, _model: PeerModel, _tokenizer: Any
) -> DomainExperts:
    """Return a domain's experts, which keep what they read of its neighbours."""
    return _seen.store.experts(domain, model=_model, tokenizer=_tokenizer, snapshot=_seen.live)


@st.cache_data(show_spinner="Reading the row", max_entries=64)
def _expert(key: cached.Stamp, place: Place, _seen: View) -> Expert:
    with borrowed(_seen) as (model, tokenizer):
        experts = _experts(key, place.domain, _seen, model, tokenizer)
        return experts.row(place.host_layer, place.row, place.label).expert


def _show_tokens(seen: View, place: Place, held: HeldBy) -> None:
    """Show which tokens of one of its documents use the row."""
    st.markdown("**Tokens that use it**")
    offered = {
        f"{item.title} ({item.document_id[:8]})": item.document_id
        for item in held.documents[:READ_DOCUMENTS]
    }
    title = st.selectbox(
        "In the document", list(offered), key=f"read-{place.host_layer}-{place.row}"
    )
    tokens = _tokens(cached.stamp(seen), place, offered[title], seen)
    if tokens is None:
        st.caption("This store keeps no texts, so the document cannot be read again.")
        return
    frame = frames.tokens_frame(tokens)
    st.caption(f"{len(frame)} of {len(tokens)} tokens use the row.")
    if not len(frame):
        return
    st.altair_chart(
        charts.tokens_chart(frame, len(tokens), seen.colours.get(place.domain, BASE_COLOUR)),
        alt=f"Bars of the row's router weight at each of {len(tokens)} tokens",
    )
    st.dataframe(
        frame,
        hide_index=True,
        height=300,
        column_config={
            "before": st.column_config.TextColumn("what stands before", width="large"),
            "token": "token that is read",
            "following": "next token",
            "weight": st.column_config.ProgressColumn(
                "router weight",
                format="%.3f",
                min_value=0.0,
                max_value=max(1.0, float(frame["weight"].max())),
            ),
            "strength": st.column_config.NumberColumn(
                "strength", format="%.4f", help="Length of what the row adds to its layer's output."
            ),
        },
        alt="Tokens of the document that use the row",
    )


@st.cache_data(show_spinner="Running the pool over the document", max_entries=64)
def _tokens(
    key: cached.Stamp, place: Place, document_id: str, _seen: View
) -> list[RowToken] | None:
    """Return a document's tokens; None where its text was not kept."""
    from pipelines.row_tokens import row_tokens

    registry = _seen.store.registry
    document = next(
        item.document
        for item in registry.document_places(document_id)
        if item.document.segment_id == place.segment_id
    )
    if document.text_object is None:
        return None
    text = registry.document_text(document)
    with borrowed(_seen) as (model, tokenizer):
        return row_tokens(
            _seen.store,
            text,
            domain=place.domain,
            segment_id=place.segment_id,
            host_layer=place.host_layer,
            row=place.row,
            model=model,
            tokenizer=tokenizer,
            snapshot=_seen.live,
        )
