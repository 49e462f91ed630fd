"""Ask: a question, its answer, and the documents that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import tables
from app.dashboard.state import View, act, borrowed_model, page, plain, say_empty
from app.report import describe_answer
from pipelines.store import Store
from pipelines.words import several

if TYPE_CHECKING:
    from pipelines.ask import Answer

QUESTION, DOMAINS, STRICT, ASKED = "ask-question", "ask-domains", "ask-strict", "asked"
"""Session keys: the fields, and what was asked with them."""
SHOWN_QUESTIONS = 8


@page("ask", "forum", "What the learned documents answer, and where it stands in them.")
def show(seen: View) -> None:
    """Show the page."""
    if not seen.live.domains:
        say_empty(seen)
        return
    enabled = [state.domain for state in seen.live.domains if state.is_enabled]
    if QUESTION not in st.session_state and (question := st.query_params.get("question", "")):
        st.session_state[QUESTION] = question
        st.session_state[ASKED] = (question, (), False)
    with st.form("ask-form", border=False):
        st.text_input("Question", key=QUESTION, max_chars=2_000)
        left, middle, right = st.columns([4, 2, 1], vertical_alignment="bottom")
        left.multiselect(
            "Only these domains", enabled, key=DOMAINS, placeholder="those that the question finds"
        )
        middle.checkbox("Only from what was learned", key=STRICT)
        if right.form_submit_button("Ask", type="primary", width="stretch"):
            st.session_state[ASKED] = tuple(
                st.session_state[key] for key in (QUESTION, DOMAINS, STRICT)
            )
    question, domains, strict = st.session_state.get(ASKED, ("", (), False))
    if question.strip():
        kept = tuple(domain for domain in domains if domain in enabled)
        answer = _answered(seen.key, question, kept, strict, seen)
        _show_answer(answer)
        if answer.sources:
            _offer_to_take_out(seen, answer)


@st.cache_data(show_spinner="Looking it up", max_entries=64)
def _answered(
    key: tuple[str, int], question: str, domains: tuple[str, ...], strict: bool, _seen: View
) -> Answer:
    with borrowed_model(_seen) as (model, tokenizer):
        return _seen.store.ask(
            question,
            model=model,
            tokenizer=tokenizer,
            domains=domains or None,
            strict=strict,
            compare=True,
        )


def _offer_to_take_out(seen: View, answer: Answer) -> None:
    """Offer to erase a source, with the questions that would be answered otherwise."""
    titles = {one.document_id: one.title or one.source for one in answer.sources}
    domains = {one.document_id: one.domain for one in answer.sources}
    with st.expander("Take a source out", icon=":material/ink_eraser:"):
        chosen = st.selectbox(
            "Document", [*titles], format_func=titles.__getitem__, key="ask-take-out"
        )
        domain = domains[chosen]
        asked = _asking(seen.key, domain, chosen, seen)
        st.text(
            f"{several(len(asked), 'known question')} of {domain} would be answered from another "
            "document, or no longer."
        )
        for one in asked[:SHOWN_QUESTIONS]:
            st.text(f"· {one}")
        if len(asked) > SHOWN_QUESTIONS:
            st.text(f"and {len(asked) - SHOWN_QUESTIONS} more")
        done = f"{titles[chosen]} is out of {domain}. History can roll that back."
        icon = ":material/ink_eraser:"
        act(
            "Take it out",
            lambda store: _take_out(store, domain, chosen),
            seen,
            done=done,
            icon=icon,
        )


def _take_out(store: Store, domain: str, document_id: str) -> None:
    store.erase(domain, document_id, "taken out of an answer's sources")


@st.cache_data(show_spinner="Looking for its questions", max_entries=64)
def _asking(key: tuple[str, int], domain: str, document_id: str, _seen: View) -> list[str]:
    from pipelines.answers import questions_that_find

    with borrowed_model(_seen) as (model, tokenizer):
        return questions_that_find(model, tokenizer, domain, document_id)


def _show_answer(answer: Answer) -> None:
    if answer.text is not None:
        st.subheader(plain(answer.text or "(an empty answer)"), anchor=False)
    lines = describe_answer(answer)
    if not answer.is_found:
        st.info(plain(lines[0]), icon=":material/filter_alt_off:")
        if not answer.nearest:
            return
    else:
        for line in lines:
            st.text(line)
    st.markdown("**Sources**" if answer.sources else "**Nearest, and too far to answer from**")
    table = tables.rows(
        answer.sources or answer.nearest,
        "domain source title sentence open near",
        open=tables.document_address,
        near=lambda one: min(1.0, one.score),
    )
    tables.show(table, "The facts and passages that are near to the question")
