"""Trace: which domains a text activates, by which experts, and how the model continues it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import THEME, charts, tables
from app.dashboard.columns import show_table
from app.dashboard.state import (
    View,
    borrowed_model,
    page,
    plain,
    say_empty,
    show_error,
    show_figures,
)
from app.report import describe_weights
from peer_cl.errors import PeerError

if TYPE_CHECKING:
    from pipelines.trace import Trace
    from pipelines.writing import Writing

TEXT, DOMAINS, TRACED = "trace-text", "trace-domains", "traced"
"""Session keys: the field, the chosen domains, and the text and domains that are traced."""
NUM_COLUMNS = 104
MOST_TOKENS = 1000
"""Drawn; a longer text is read whole."""


@page(
    "trace",
    "Trace",
    ":material/manage_search:",
    "Which domains a text activates, by which experts, and what those hold.",
)
def show(seen: View) -> None:
    """Show the page."""
    enabled = [state.domain for state in seen.live.domains if state.is_enabled]
    if not seen.live.domains:
        say_empty(seen)
        return
    if TEXT not in st.session_state:
        _take_address(seen)
    with st.form("trace-form", border=False):
        st.text_area(
            "Text",
            key=TEXT,
            height=110,
            max_chars=50_000,
            placeholder="A question, a sentence or a document. The model continues a text: it "
            "answers best where the answer is begun, as in “The capital of Peru is”.",
        )
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        left.multiselect(
            "Only these domains", enabled, key=DOMAINS, placeholder="those that the router finds"
        )
        if right.form_submit_button("Trace", type="primary", width="stretch"):
            st.session_state[TRACED] = (st.session_state[TEXT], tuple(st.session_state[DOMAINS]))
    text, domains = st.session_state.get(TRACED, ("", ()))
    if not text.strip():
        return
    kept = tuple(domain for domain in domains if domain in enabled)
    tracing, writing = st.tabs(["Trace", "Continue"])
    with tracing:
        try:
            _show_trace(seen, _traced(seen.key, text, kept, seen))
        except PeerError as error:
            show_error(str(error))
    with writing:
        _show_writing(seen, text, kept)


def _take_address(seen: View) -> None:
    """Fill the field with what the address names: a text, or a document's."""
    text = st.query_params.get("text", "")
    if wanted := st.query_params.get("document"):
        text = seen.queries.document_text(seen.queries.places(wanted)[-1].document)
    st.session_state[TEXT] = text
    st.session_state[TRACED] = (text, ())


@st.cache_data(show_spinner="Reading the text", max_entries=16)
def _traced(key: tuple[str, int], text: str, domains: tuple[str, ...], _seen: View) -> Trace:
    with borrowed_model(_seen) as (model, tokenizer):
        return _seen.store.trace(
            text,
            model=model,
            tokenizer=tokenizer,
            snapshot=_seen.live,
            domains=domains or None,
        )


def _show_trace(seen: View, trace: Trace) -> None:
    num = max(1, len(trace.tokens))
    base = -sum(token.base_log_prob for token in trace.tokens) / num
    now = -sum(token.log_prob for token in trace.tokens) / num
    show_figures(
        [
            ("Tokens", f"{len(trace.tokens):,}", "in the text", None),
            ("Loss of the base", f"{base:.3f}", "nats a token", None),
            ("Loss of the mixture", f"{now:.3f}", f"{now - base:+.3f} nats a token", None),
        ]
    )
    if not trace.active:
        st.info(
            "The router finds no domain for this text, so the base alone answers, with the bare "
            "model's own bits. Name domains above to read it with their pools.",
            icon=":material/filter_alt_off:",
        )
    else:
        _show_weights(seen, trace)
        _show_experts(seen, trace)
        st.markdown("**Documents whose experts the text uses**")
        st.caption("Likeness is no proof of who taught an answer.")
        show_table(
            tables.ranked_documents_table(trace.documents), "Documents, the most alike first"
        )
    _show_next(trace)


def _show_weights(seen: View, trace: Trace) -> None:
    st.markdown("**Weights and evidence after the text**")
    show_table(tables.evidence_table(trace), "Posterior weight and evidence of each branch")
    tokens = trace.tokens[:MOST_TOKENS]
    st.markdown("**Token by token**")
    st.caption("The colour is the branch with the most weight; the stronger, the more.")
    is_dark = st.context.theme.type == "dark"
    st.altair_chart(
        charts.text_chart(
            tables.text_table(tokens, NUM_COLUMNS),
            seen.colours,
            NUM_COLUMNS,
            THEME[f"theme.{'dark' if is_dark else 'light'}.textColor"],
        ),
        width="content",
        alt="The text, each token in the colour of the branch with the most weight",
    )
    st.altair_chart(
        charts.weights_chart(tables.weights_table(tokens), seen.colours),
        alt="Weight of the base and of each active domain, token by token",
    )


def _show_experts(seen: View, trace: Trace) -> None:
    st.markdown("**Strongest experts**")
    names = ["the whole text"] + [
        f"{number}: {tables.visible(token.text)}"
        for number, token in enumerate(trace.tokens[:MOST_TOKENS], start=1)
    ]
    place = st.selectbox("Where", range(len(names)), format_func=names.__getitem__)
    found = trace.experts
    if place:
        token = trace.tokens[place - 1]
        found = token.experts
        evidence = ", ".join(f"{name} {nats:+.2f}" for name, nats in token.evidence.items())
        st.caption(plain(f"Evidence of this token, nats over the base: {evidence}."))
    labels = {
        segment.id: segment.label
        for domain in found
        for state in [seen.live.state(domain)]
        if state is not None
        for segment in seen.queries.chain(state.version)
    }
    experts = [expert for own in found.values() for expert in own]
    show_table(tables.traced_experts_table(experts, labels), "Active experts, the strongest first")


def _show_next(trace: Trace) -> None:
    st.markdown("**Next token**")
    table = tables.next_tokens_table(trace.next_base, trace.next_mixture)
    show_table(
        table,
        "The likeliest next tokens of the base and of the mixture",
        hide=() if trace.active else ["mixture", "mixture_probability"],
    )


def _show_writing(seen: View, text: str, domains: tuple[str, ...]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    num = left.slider("New tokens, at most", 8, 200, 40, step=8)
    if right.button("Continue it", type="primary", icon=":material/edit:", width="stretch"):
        st.session_state["written"] = (seen.key, text, domains, num)
    if st.session_state.get("written") != (seen.key, text, domains, num):
        st.caption("Writes with the pools and with the base alone, side by side.")
        return
    try:
        writing = _written(seen.key, text, domains, num, seen)
    except PeerError as error:
        show_error(str(error))
        return
    account = f"Written by {writing.writer}. Weights: {describe_weights(writing)}."
    boxes = [
        ("With the pools", writing.text, account),
        ("The base alone", writing.base_text or "", "The bare model."),
    ]
    for column, (title, written, caption) in zip(st.columns(2), boxes, strict=True):
        with column, st.container(border=True):
            st.markdown(f"**{title}**")
            st.text(written.strip() or "It took the text as ended.")
            st.caption(plain(caption))


@st.cache_data(show_spinner="Writing", max_entries=16)
def _written(
    key: tuple[str, int], text: str, domains: tuple[str, ...], num: int, _seen: View
) -> Writing:
    from pipelines.writing import write

    with borrowed_model(_seen) as (model, tokenizer):
        return write(
            model, tokenizer, text, domains=domains or None, max_new_tokens=num, compare=True
        )
