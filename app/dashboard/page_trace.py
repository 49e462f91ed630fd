"""Trace: which domains a text activates, by which experts, and how the model continues it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.dashboard import THEME, charts, examples, tables
from app.dashboard.state import View, borrowed_model, page, plain, say_empty, show_figures
from app.report import describe_weights

if TYPE_CHECKING:
    from pipelines.trace import Trace
    from pipelines.writing import Writing

TEXT, DOMAINS, TRACED = "trace-text", "trace-domains", "traced"
"""Session keys: the field, the chosen domains, and the text and domains that are traced."""
NUM_COLUMNS = 104
MOST_TOKENS = 1000
"""Drawn; a longer text is read whole."""


@page("trace", "manage_search", "Which domains, facts and experts a text activates.")
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
    examples.offer(examples.prompts(seen.key, seen), _take)
    text, domains = st.session_state.get(TRACED, ("", ()))
    if not text.strip():
        return
    kept = tuple(domain for domain in domains if domain in enabled)
    tracing, writing = st.tabs(["Trace", "Continue"])
    with tracing:
        _show_trace(seen, _traced(seen.key, text, kept, seen))
    with writing:
        _show_writing(seen, text, kept)


def _take_address(seen: View) -> None:
    """Fill the field with what the address names: a text, or a document's."""
    text = st.query_params.get("text", "")
    if wanted := st.query_params.get("document"):
        text = seen.queries.document_text(seen.queries.places(wanted)[-1].document)
    _take(text)


def _take(text: str) -> None:
    st.session_state.update({TEXT: text, DOMAINS: [], TRACED: (text, ())})


@st.cache_data(show_spinner="Reading the text", max_entries=16)
def _traced(key: tuple[str, int], text: str, domains: tuple[str, ...], _seen: View) -> Trace:
    with borrowed_model(_seen) as (model, tokenizer):
        return _seen.store.trace(
            text, model=model, tokenizer=tokenizer, snapshot=_seen.live, domains=domains or None
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
        if trace.items:
            _show_items(trace)
        _show_weights(seen, trace)
        _show_experts(seen, trace)
    st.markdown("**Next token**")
    columns = {
        ("base_alone", "base_probability"): trace.next_base,
        ("with_the_pools", "mixture_probability"): trace.next_mixture,
    }
    if trace.items:
        columns["without_the_items", "without_probability"] = trace.next_without_items
    table = pd.DataFrame()
    for (token, probability), own in columns.items():
        table[token] = [tables.visible(one.text) for one in own]
        table[probability] = [one.probability for one in own]
    tables.show(table, "The likeliest next tokens, with and without what was learned")


def _show_items(trace: Trace) -> None:
    st.markdown("**Facts that the text asks for, and passages that it repeats**")
    st.caption(
        "Their own experts are active. A fact is found by its subject and by what is asked: the "
        "score is the cosine to the nearest wording known of it, less what is usual. A passage is "
        "found by what the last tokens tell: the score is the share that stands in the passage."
    )
    table = tables.rows(
        trace.items,
        "domain statement open score asked_behind",
        open=tables.document_address,
        asked_behind=lambda one: tables.visible(trace.tokens[one.token - 1].text),
    )
    tables.show(table, "Items that were found, in the order of the text")


def _show_weights(seen: View, trace: Trace) -> None:
    st.markdown("**Weights and evidence after the text**")
    weights = {tables.BASE: trace.base_weight, **trace.weights}
    table = tables.rows(
        sorted(weights, key=lambda name: -weights[name]),
        "branch posterior evidence",
        branch=str,
        posterior=weights.__getitem__,
        evidence=lambda name: trace.evidence.get(name, 0.0),
    )
    tables.show(table, "Posterior weight and evidence of each branch")
    tokens = trace.tokens[:MOST_TOKENS]
    st.markdown("**Token by token**")
    st.caption("The colour is the branch with the most weight; the stronger, the more.")
    theme = "dark" if st.context.theme.type == "dark" else "light"
    placed = tables.text_table(tokens, NUM_COLUMNS)
    st.altair_chart(
        charts.text_chart(placed, seen.colours, NUM_COLUMNS, THEME[f"theme.{theme}.textColor"]),
        width="content",
        alt="The text, each token in the colour of the branch with the most weight",
    )
    by_token = [{tables.BASE: token.base_weight, **token.weights} for token in tokens]
    st.area_chart(
        pd.DataFrame(by_token, columns=[*weights], index=range(1, len(tokens) + 1)),
        color=[seen.colours[name] for name in weights],
        x_label="token",
        y_label="posterior weight",
        stack="normalize",
        alt="Weight of the base and of each active domain, token by token",
    )


def _show_experts(seen: View, trace: Trace) -> None:
    st.markdown("**Strongest shared experts**")
    tokens = enumerate(trace.tokens[:MOST_TOKENS], start=1)
    names = ["the whole text", *(f"{n}: {tables.visible(token.text)}" for n, token in tokens)]
    place = st.selectbox("Where", range(len(names)), format_func=names.__getitem__)
    found = trace.tokens[place - 1].experts if place else trace.experts
    chains = seen.queries.chains([state.version for state in seen.live.domains])
    labels = {segment.id: segment.label for chain in chains.values() for segment in chain}
    table = tables.rows(
        [expert for own in found.values() for expert in own],
        "domain label expert strength weight",
        label=lambda one: labels[one.segment_id],
        expert=tables.expert_name,
    )
    tables.show(table, "Active shared experts, the strongest first")


def _show_writing(seen: View, text: str, domains: tuple[str, ...]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    num = left.slider("New tokens, at most", 8, 200, 40, step=8)
    if right.button("Continue it", type="primary", icon=":material/edit:", width="stretch"):
        st.session_state["written"] = (seen.key, text, domains, num)
    if st.session_state.get("written") != (seen.key, text, domains, num):
        st.caption("Writes with the pools and with the base alone, side by side.")
        return
    writing = _written(seen.key, text, domains, num, seen)
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
