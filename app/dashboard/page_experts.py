"""Experts: how evenly a pool's shared experts are used, and what each of them holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import tables
from app.dashboard.state import (
    View,
    borrowed_model,
    choose_domain,
    link,
    page,
    say_empty,
    show_figures,
)
from stores.queries import Segment

if TYPE_CHECKING:
    from pipelines.experts import ExpertDetail, ExpertsReport

NUM_LISTED = 10
MOST_HELD = 50


@page("experts", "grid_on", "How a pool's experts are used, and what each of them holds.")
def show(seen: View) -> None:
    """Show the page."""
    states = {state.domain: state for state in seen.live.domains}
    if not states:
        say_empty(seen)
        return
    left, middle, right = st.columns([2, 1, 1])
    with left:
        domain = choose_domain([*states])
    every = seen.queries.chain(states[domain].version)
    chain = {one.label: one for one in every if one.pool_object is not None}
    if not chain:
        st.info(
            "The domain learned facts alone, each by experts of its own; it has no shared ones.",
            icon=":material/grid_off:",
        )
        link("domains", "See its documents", domain=domain)
        return
    label = middle.selectbox("Version", list(reversed(chain)), key="version", bind="query-params")
    segment = chain[label]
    layers = [str(layer) for layer in segment.host_layers]
    layer = int(right.selectbox("Host layer", layers, key="layer", bind="query-params"))
    num = _show_layer(seen, segment, layer)
    if not states[domain].is_enabled:
        st.info("The domain is disabled, so its pool is not loaded.", icon=":material/toggle_off:")
        return
    report = _report(seen.key, domain, seen)
    lists = (report.busiest, report.most_specific)
    for tab, listed in zip(st.tabs(["Busiest", "Most specific"]), lists, strict=True):
        table = tables.rows(
            listed,
            "expert open label weight_share num_documents effective_documents promotes",
            expert=tables.expert_name,
            open=lambda one: tables.expert_address(domain, one.label, one),
            promotes=lambda one: "  ".join(map(tables.visible, one.promotes)),
        )
        with tab:
            tables.show(table, "Experts with the tokens that they promote")
    _show_expert(seen, segment, layer, num)


def _show_layer(seen: View, segment: Segment, layer: int) -> int:
    """Show how the experts of a layer are used, and return how many there are."""
    from pipelines.experts import layer_use, own_uses

    uses = seen.store.registry.uses
    found = uses.expert_uses([segment.id])
    own = layer_use(segment, layer, own_uses(found, segment, layer), uses.num_learned(segment.id))
    served = f"Of {own.num_documents:,} learned, as many as an expert serves, as good as."
    even = "0: even use; the log of the number of experts: one expert alone (He 2024)."
    show_figures(
        [
            ("Experts used", f"{own.usage:.1%}", None, f"{own.num_dead:,} are not."),
            ("Unevenness", f"{own.unevenness:.3f} nats", None, even),
            ("Effective documents", f"{own.effective_documents:.1f}", None, served),
        ]
    )
    return own.num_experts


@st.cache_data(show_spinner="Reading the experts", max_entries=16)
def _report(key: tuple[str, int], domain: str, _seen: View) -> ExpertsReport:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        return experts.report(NUM_LISTED)


@st.cache_data(show_spinner="Reading the expert", max_entries=64)
def _expert(
    key: tuple[str, int], domain: str, label: str, layer: int, expert: int, _seen: View
) -> ExpertDetail:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        return experts.expert(layer, expert, label)


def _show_expert(seen: View, segment: Segment, layer: int, num: int) -> None:
    st.subheader("One expert", anchor=False)
    told = f"0 to {num - 1}"
    number = st.number_input(
        "Expert", 0, num - 1, value=None, key="expert", bind="query-params", placeholder=told
    )
    if number is None:
        return
    found = _expert(seen.key, segment.domain, segment.label, layer, int(number), seen)
    left, right = st.columns([3, 2])
    with left:
        st.markdown("**Documents that it holds**")
        held = found.held
        shares = dict(zip(held.documents, held.shares, strict=True)) if held else {}
        table = tables.rows(
            [*shares][:MOST_HELD],
            "title open share kind source",
            open=tables.document_address,
            share=shares.__getitem__,
        )
        tables.show(table, "Documents with their shares")
    with right:
        st.markdown("**Tokens that it promotes**")
        st.text("  ".join(map(tables.visible, found.expert.promotes)) or "None: it adds nothing.")
        st.markdown("**Experts of other domains that read similar inputs**")
        near = tables.rows(found.expert.near, "domain expert similarity", expert=tables.expert_name)
        tables.show(near, "Neighbours")
