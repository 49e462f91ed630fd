"""Ask: a question, its answer, and the documents that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import tables
from app.dashboard.state import View, borrowed_model, page, plain, say_empty
from app.report import describe_answer

if TYPE_CHECKING:
    from pipelines.ask import Answer

QUESTION, DOMAINS, STRICT, ASKED = "ask-question", "ask-domains", "ask-strict", "asked"
"""Session keys: the fields, and what was asked with them."""


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
        _show_answer(_answered(seen.key, question, kept, strict, seen))


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


def _show_answer(answer: Answer) -> None:
    if answer.text is not None:
        st.subheader(plain(answer.text or "(an empty answer)"), anchor=False)
    lines = describe_answer(answer)
    if not answer.is_found:
        st.info(plain(lines[0]), icon=":material/filter_alt_off:")
        return
    for line in lines:
        st.text(line)
    st.markdown("**Sources**")
    table = tables.rows(
        answer.sources,
        "domain source title sentence open near",
        open=tables.document_address,
        near=lambda one: min(1.0, one.score),
    )
    tables.show(table, "The facts and passages that the question finds, the nearest first")
