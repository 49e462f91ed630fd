"""Ask: a question, its answer, and the documents that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import examples, tables
from app.dashboard.state import View, act, borrowed_model, page, plain, say_empty
from app.report import BASE_SPOKE, answer_lines
from pipelines.store import Store
from pipelines.words import several

if TYPE_CHECKING:
    from pipelines.answer import Answer

QUESTION, DOMAINS, BASE, ASKED = "ask-question", "ask-domains", "ask-base", "asked"
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
        middle.checkbox("Else in the base's own words", key=BASE)
        if right.form_submit_button("Ask", type="primary", width="stretch"):
            st.session_state[ASKED] = tuple(
                st.session_state[key] for key in (QUESTION, DOMAINS, BASE)
            )
    examples.offer(examples.questions(seen.key, seen), _take_example)
    question, domains, base = st.session_state.get(ASKED, ("", (), False))
    if question.strip():
        kept = tuple(domain for domain in domains if domain in enabled)
        answer = _answered(seen.key, question, kept, base, seen)
        _show_answer(answer)
        if answer.sources:
            _offer_to_take_out(seen, answer)


def _take_example(question: str) -> None:
    st.session_state.update({QUESTION: question, DOMAINS: [], ASKED: (question, (), False)})


@st.cache_data(show_spinner="Looking it up", max_entries=64)
def _answered(
    key: tuple[str, int], question: str, domains: tuple[str, ...], base: bool, _seen: View
) -> Answer:
    with borrowed_model(_seen) as (model, tokenizer):
        return _seen.store.ask(
            question,
            model=model,
            tokenizer=tokenizer,
            domains=domains or None,
            base=base,
        )


def _offer_to_take_out(seen: View, answer: Answer) -> None:
    """Offer to erase a source, with the questions that would be answered otherwise."""
    titles = {one.document_id: one.title or one.source for one in answer.sources}
    domains = {one.document_id: one.domain for one in answer.sources}
    icon = ":material/ink_eraser:"
    with st.expander("Take a source out", icon=icon):
        chosen = st.selectbox(
            "Document",
            [*titles],
            index=None,
            format_func=titles.__getitem__,
            key="ask-take-out",
            placeholder="choose what would be erased",
        )
        if chosen is None:
            st.button("Take it out", disabled=True, icon=icon)
            return
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
        return questions_that_find(_seen.store.registry, model, tokenizer, domain, document_id)


def _show_answer(answer: Answer) -> None:
    first, *lines = answer_lines(answer)
    if answer.is_known:
        st.subheader(plain(first), anchor=False)
        for line in lines:
            st.markdown(f"##### {plain(line)}")
    elif answer.kind == "base":
        st.info(plain(BASE_SPOKE), icon=":material/filter_alt_off:")
        st.text(answer.text)
    else:
        st.info("Not known.", icon=":material/filter_alt_off:")
    if answer.sources:
        st.markdown("**Found**" if answer.is_known else "**Nearest**")
        table = tables.rows(
            answer.sources,
            "domain source title sentence open probability",
            open=tables.document_address,
        )
        tables.show(table, "The facts and sentences that are nearest to the question")
