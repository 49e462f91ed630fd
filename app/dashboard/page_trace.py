"""Trace: which pools answer a text, by which rows, and which documents those hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.frames.domains import fitting
from app.dashboard.links import warn_of_unknown
from app.dashboard.model import wait_for_model
from app.dashboard.page import View, page, plain
from app.dashboard.trace_reading import show_traced
from app.dashboard.trace_search import DOMAINS, show_found
from app.dashboard.trace_writing import show_writing
from peer_cl.errors import PeerError

if TYPE_CHECKING:
    from stores import Document

TEXT, ASKED = "trace_text", "trace_asked"
"""Keys of the session: what stands in the box, and what was asked."""
TAKEN, NOT_TAKEN = "trace_taken", "trace_not_taken"
"""The document whose text is to be taken, and why the last one's was not."""
LONGEST_IN_ADDRESS = 500
"""Characters of a text that the page's address still carries."""
LONGEST = 50_000
_MOST_OFFERED = 200
"""Documents in the list: every option of it is sent to the browser, each time."""
_VIEWS = ["Who speaks", "Search", "Write on"]


@page("Trace", "Which pools answer a text, by which experts, and which documents it is like.")
def show(seen: View) -> None:
    """Show the page."""
    askable = [state.domain for state in seen.live.domains if state.is_enabled]
    if not askable:
        _say_what_to_do(seen)
        return
    _take_address(seen, askable)
    _take_chosen(seen)
    _show_box(askable)
    _show_documents(seen)
    text = str(st.session_state.get(ASKED, ""))
    domains = tuple(st.session_state.get(DOMAINS, ()))
    if wait_for_model(seen) is None:
        return
    if not text.strip():
        st.info(
            "Type or paste a text, or choose a document; then press Trace.",
            icon=":material/edit_note:",
        )
        return
    warn_of_unknown("view", "view", _VIEWS)
    speakers, search, writing = st.tabs(_VIEWS, key="view", on_change="rerun", bind="query-params")
    if speakers.open:
        with speakers:
            show_traced(seen, text, domains)
    if search.open:
        with search:
            show_found(seen, text, domains)
    if writing.open:
        with writing:
            show_writing(seen, text, domains)


def _say_what_to_do(seen: View) -> None:
    """Say how a domain comes to be asked, where none can be."""
    if seen.live.domains:
        st.info(
            "Every domain is disabled, so the base alone answers. Enable one on the Domains page.",
            icon=":material/toggle_off:",
        )
    elif seen.is_all_out:
        st.info(
            "No domain is live, so the base alone answers. Bring one back on the Domains page, or "
            "restore an earlier snapshot on the History page.",
            icon=":material/inventory_2:",
        )
    else:
        st.info(
            "Nothing is learned yet, so the base alone answers. Teach the store a corpus on the "
            "Ingest page, or restore an earlier snapshot on the History page.",
            icon=":material/upload_file:",
        )


def _take_address(seen: View, askable: list[str]) -> None:
    """Fill the box when the page opens: from the address, or with what was asked before."""
    if TEXT in st.session_state:
        return
    text = str(st.query_params.get("text", ""))
    wanted = st.query_params.get("document")
    if wanted:
        st.session_state[TAKEN] = wanted
    elif text.strip():
        st.session_state[ASKED] = text[:LONGEST]
    named = [name for name in str(st.query_params.get("domains", "")).split(",") if name]
    unknown = [name[:64] for name in named if name not in askable]
    if unknown:
        st.warning(
            plain(f"Not asked, since no such domain is live and enabled: {', '.join(unknown)}.")
        )
    st.session_state[DOMAINS] = [name for name in named if name in askable] or (
        st.session_state.get(DOMAINS, [])
    )
    st.session_state[TEXT] = st.session_state.get(ASKED, "")


def _take_chosen(seen: View) -> None:
    """Put the chosen document's text into the box; say so, until another is, where it cannot be."""
    wanted = st.session_state.pop(TAKEN, None)
    if wanted is not None:
        try:
            _take(seen, wanted)
        except PeerError as error:
            st.session_state[NOT_TAKEN] = str(error)
    if problem := st.session_state.get(NOT_TAKEN):
        st.error(plain(problem), icon=":material/error:")


def _take(seen: View, wanted: str) -> None:
    """Put the text of the document that an id, or its beginning, means into the box, as asked."""
    registry = seen.store.registry
    document = registry.document_places(wanted)[-1].document
    text = registry.document_text(document)[:LONGEST]
    st.session_state[TEXT] = st.session_state[ASKED] = text
    st.session_state.pop(NOT_TAKEN, None)
    st.query_params.pop("text", None)
    st.query_params["document"] = document.document_id


def _show_box(askable: list[str]) -> None:
    """Show the box for the text, and what starts the trace."""
    chosen = st.session_state.get(DOMAINS, [])
    st.session_state[DOMAINS] = [name for name in chosen if name in askable]  # others are gone
    with st.form("trace_form", border=False):
        st.text_area(
            "Text",
            key=TEXT,
            height=110,
            max_chars=LONGEST,
            placeholder="Some words, a question, or a whole document. The model continues what "
            "stands here: it answers best where the answer is begun, as in “The capital of "
            "Peru is”.",
        )
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        left.multiselect(
            "Ask only these domains",
            askable,
            key=DOMAINS,
            placeholder="left empty: those that the text is like",
        )
        right.form_submit_button("Trace", type="primary", width="stretch", on_click=_ask)


def _ask() -> None:
    """Take what stands in the box as asked, and into the address where it is short."""
    text = str(st.session_state[TEXT])
    st.session_state[ASKED] = text
    st.session_state.pop(NOT_TAKEN, None)
    st.query_params.pop("document", None)
    domains = st.session_state[DOMAINS]
    if domains:
        st.query_params["domains"] = ",".join(domains)
    else:
        st.query_params.pop("domains", None)
    if text.strip() and len(text) <= LONGEST_IN_ADDRESS:
        st.query_params["text"] = text
    else:
        st.query_params.pop("text", None)
    if not text.strip():
        st.toast("The text is empty; give some words to trace.", icon=":material/error:")


def _show_documents(seen: View) -> None:
    """Let a person take a document's text instead of typing."""
    with st.expander("Take a document's text", icon=":material/description:"):
        first, second, third, last = st.columns([1, 1, 3, 1], vertical_alignment="bottom")
        domain = first.selectbox("Domain", [state.domain for state in seen.live.domains])
        search = second.text_input(
            "Search",
            key="trace_search",
            max_chars=200,
            help="Words of its title or source, or the beginning of its id.",
        )
        offered, num = _offered(cached.stamp(seen), domain, search, seen)
        if not offered:
            told = "No document fits; search for fewer words."
            st.caption(told if search.strip() else plain(f"No text of {domain} is kept."))
            return
        chosen = third.selectbox("Document", list(offered), format_func=offered.__getitem__)
        last.button("Take it", width="stretch", on_click=_choose, args=(chosen,))
        if num > len(offered):
            st.caption(f"The first {len(offered):,} of {num:,} documents; search to find others.")


@st.cache_data(show_spinner=False, max_entries=32)
def _offered(
    key: cached.Stamp, domain: str, search: str, _seen: View
) -> tuple[dict[str, str], int]:
    """Return the first documents whose text can be taken, their names by id, and how many fit."""
    state = _seen.live.state(domain)
    found = cached.domain_documents(_seen, domain, state.version) if state is not None else ()
    fit = fitting((item for item in found if item.text_object is not None), search)
    return {item.document_id: _told(item) for item in fit[:_MOST_OFFERED]}, len(fit)


def _told(document: Document) -> str:
    """Return how a document is named in a list."""
    return f"{document.title[:90]} ({document.split}, {document.document_id[:8]})"


def _choose(document_id: str) -> None:
    """Have a document's text taken by the page itself: an error in a callback has no place."""
    st.session_state[TAKEN] = document_id
