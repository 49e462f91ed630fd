"""The part of the page Domains that runs the model: when a pool speaks within a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import domains as charts
from app.dashboard.domain_corpus import last_documents
from app.dashboard.frames import domains as frames
from app.dashboard.model import borrowed, wait_for_model
from peer_cl.errors import UnsupportedError

if TYPE_CHECKING:
    from app.dashboard.page import View
    from pipelines.store import Store
    from pipelines.tracing import Trace
    from stores import Document, DomainDetail, Snapshot

OWN, OTHER, BACKGROUND = "its own, held out", "another domain's, held out", "background"
MOST_CHARACTERS = 4000
"""Of a text; a longer one is cut, or the page would wait for the model."""
_ASKED = "weights-asked"


@dataclass(frozen=True)
class Wanted:
    """A text over which a pool's weight is to be shown."""

    domain: str
    """Whose pool."""
    title: str
    text: str
    only: bool
    """Ask this pool alone, whether the text matches it or not."""
    stamp: cached.Stamp
    """When it was read: once the store changed, the text may be gone for good."""


def show_weights(seen: View, detail: DomainDetail) -> None:
    """Let a person choose a document, and show who speaks at each of its tokens."""
    domain = detail.summary.domain
    state = seen.live.state(domain)
    if state is None or not state.is_enabled:
        st.info("A pool speaks only while its domain is live and enabled.")
        return
    kind = st.radio("Whose document", [OWN, OTHER, BACKGROUND], horizontal=True)
    chosen = _choose(seen, detail, kind)
    only = st.checkbox(
        "Ask this pool alone, even where the text does not match it",
        help="Otherwise the text itself decides which pools are asked, as it does in use.",
    )
    if chosen is None:
        return
    if st.button("Show its weight over a document", icon=":material/insights:"):
        title, text = _read(seen, chosen)
        st.session_state[_ASKED] = Wanted(
            domain, title, text[:MOST_CHARACTERS], only, cached.stamp(seen)
        )
    wanted: Wanted | None = st.session_state.get(_ASKED)
    if wanted is not None and (wanted.domain, wanted.stamp) == (domain, cached.stamp(seen)):
        _show_when_loaded(seen, wanted)


def _choose(seen: View, detail: DomainDetail, kind: str) -> Document | tuple[str, int] | None:
    """Return a held-out document, or a background source and which of its documents."""
    if kind == BACKGROUND:
        return _choose_background()
    if kind == OWN:
        return _choose_document(seen, detail)
    others = [s.domain for s in seen.live.domains if s.domain != detail.summary.domain]
    if not others:
        st.info("There is no other live domain.")
        return None
    other = st.selectbox("Which domain", others)
    return _choose_document(seen, cached.domain_detail(seen, other))


def _choose_document(seen: View, detail: DomainDetail) -> Document | None:
    held = [
        item
        for item in last_documents(seen, detail)
        if item.split == "test" and item.kind == "text" and item.text_object is not None
    ]
    if not held:
        st.info("No text of this domain is held out, or this store keeps no texts.")
        return None
    return st.selectbox("Which document", held, format_func=_in_words)


def _in_words(item: Document) -> str:
    """Return a document's title, made unique: options with one name would be one option."""
    return f"{item.title[:100]} ({item.document_id[:8]})"


def _choose_background() -> tuple[str, int]:
    from pipelines.background import source_pins

    pins = {pin.name: pin for pin in source_pins() if pin.role == "test"}
    left, right = st.columns([3, 1])
    name = left.selectbox("Which source", list(pins))
    number = right.number_input("Which document", 1, pins[name].documents, 1)
    st.caption("Background texts come from pinned packages, fetched once if they are not here yet.")
    return name, int(number) - 1


def _read(seen: View, chosen: Document | tuple[str, int]) -> tuple[str, str]:
    """Return the title and text of what was chosen."""
    if not isinstance(chosen, tuple):
        return chosen.title, seen.store.registry.document_text(chosen)
    name, number = chosen
    texts = _background(name)
    if number >= len(texts):
        raise UnsupportedError(f"{name} has {len(texts)} documents; choose one of them")
    return f"{name} {number + 1}", texts[number]


@st.cache_data(show_spinner="Reading background texts", max_entries=8)
def _background(name: str) -> list[str]:
    from pipelines.background import load_background

    return next(source.documents for source in load_background("test") if source.name == name)


def _show_when_loaded(seen: View, wanted: Wanted) -> None:
    if wait_for_model(seen) is None:
        return
    with borrowed(seen) as (model, tokenizer):
        trace = _trace(wanted, seen.live, seen.store, model, tokenizer)
    _show_trace(seen, wanted, trace)


@st.cache_data(show_spinner="Asking the model", max_entries=16)
def _trace(
    wanted: Wanted,
    _live: Snapshot,
    _store: Store,
    _model: Any,
    _tokenizer: Any,
) -> Trace:
    return _store.trace(
        wanted.text,
        model=_model,
        tokenizer=_tokenizer,
        snapshot=_live,
        domains=[wanted.domain] if wanted.only else None,
        num_rows=1,
        num_documents=1,
    )


def _show_trace(seen: View, wanted: Wanted, trace: Trace) -> None:
    st.text(f"Document: {wanted.title}")
    if len(wanted.text) == MOST_CHARACTERS:
        st.caption(f"Its first {MOST_CHARACTERS:,} characters.")
    if wanted.domain not in trace.asked:
        st.info(
            "This text does not match the domain, so its pool is not asked: its weight is 0 at "
            "every token, and it changes nothing."
        )
    else:
        weight = trace.weights[wanted.domain]
        st.text(f"Weight of {wanted.domain} after the whole text: {weight:.3f} of 1")
    st.altair_chart(
        charts.weights(frames.weights(trace), seen.colours),
        alt="Weight of the base and of each asked pool at every token of the document, 0 to 1",
    )
    with st.expander("Tokens one by one"):
        config = st.column_config
        st.dataframe(
            frames.tokens(trace, wanted.domain),
            hide_index=True,
            column_config={
                "weight": config.NumberColumn("weight of the pool", format="%.4f"),
                "base_loss": config.NumberColumn("base's loss (nats)", format="%.3f"),
                "loss": config.NumberColumn("mixture's loss (nats)", format="%.3f"),
            },
            alt="Each token: the pool's weight, the base's loss and the mixture's",
        )
