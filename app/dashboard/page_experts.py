"""Experts: what each item of a domain owns, and how evenly its texts use the shared ones."""

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
    from pipelines.experts import Expert, ExpertsReport, ItemExperts

NUM_LISTED = 50


@page("experts", "grid_on", "What a domain's items own, and how its texts use shared experts.")
def show(seen: View) -> None:
    """Show the page."""
    states = {state.domain: state for state in seen.live.domains}
    if not states:
        say_empty(seen)
        return
    left, middle, right = st.columns([2, 1, 1])
    with left:
        domain = choose_domain([*states])
    items = st.container()  # filled last: a store whose base is gone shows the rest
    every = seen.queries.chain(states[domain].version)
    chain = {one.label: one for one in every if one.objects_of("shared")}
    if chain:
        st.subheader("Shared experts", anchor=False)
        versions = list(reversed(chain))
        label = middle.selectbox("Version", versions, key="version", bind="query-params")
        segment = chain[label]
        layers = [str(layer) for layer in segment.host_layers]
        layer = int(right.selectbox("Host layer", layers, key="layer", bind="query-params"))
        num = _show_layer(seen, segment, layer)
    else:
        is_pending = any(one.pending_shards for one in every)
        st.caption(
            "Its shared experts wait to be trained anew."
            if is_pending
            else "It learned no texts, so it has no shared experts."
        )
        link("domains", "See its documents", domain=domain)
    if not states[domain].is_enabled:
        st.info("The domain is disabled, so no pool is loaded.", icon=":material/toggle_off:")
        return
    report = _report(seen.key, domain, seen)
    with items:
        _show_items(report)
    if chain:
        _show_busiest(report)
        _show_expert(seen, segment, layer, num)


def _show_busiest(report: ExpertsReport) -> None:
    table = tables.rows(
        report.busiest,
        "expert open label weight_share promotes",
        expert=tables.expert_name,
        open=lambda one: tables.expert_address(report.domain, one.label, one),
        promotes=_promoted,
    )
    st.markdown("**Busiest**")
    tables.show(table, "The busiest shared experts with the tokens that they promote")


def _show_items(report: ExpertsReport) -> None:
    if not report.items:
        return
    st.subheader("Own experts of items", anchor=False)
    table = tables.rows(
        report.items,
        "about open owned.label owned.num_experts owned.num_host_layers owned.size_bytes promotes "
        "nearest similarity",
        about=lambda one: one.statement or one.title,
        open=tables.document_address,
        promotes=_promoted,
        nearest=lambda one: one.nearest.title if one.nearest else None,
        similarity=lambda one: one.nearest.similarity if one.nearest else None,
    )
    tables.show(table, "Items with the experts that they own")
    st.caption(f"{len(report.items):,} of {report.num_items:,} items.")


def _promoted(one: Expert | ItemExperts) -> str:
    return "  ".join(map(tables.visible, one.promotes)) or "nothing"


def _show_layer(seen: View, segment: Segment, layer: int) -> int:
    """Show how the experts of a layer are used, and return how many there are."""
    from pipelines.experts import layer_use, segment_weights

    weights_N = segment_weights(seen.store.registry, segment)[layer]
    own = layer_use(segment, layer, weights_N)
    even = "0: even use; the log of the number of experts: one expert alone (He 2024)."
    show_figures(
        [
            ("Experts used", f"{own.usage:.1%}", None, f"{own.num_dead:,} are not."),
            ("Unevenness", f"{own.unevenness:.3f} nats", None, even),
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
) -> Expert:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        return experts.expert(layer, expert, label)


def _show_expert(seen: View, segment: Segment, layer: int, num: int) -> None:
    st.markdown("**One expert**")
    told = f"0 to {num - 1}"
    number = st.number_input(
        "Expert", 0, num - 1, value=None, key="expert", bind="query-params", placeholder=told
    )
    if number is None:
        return
    found = _expert(seen.key, segment.domain, segment.label, layer, int(number), seen)
    st.text(
        f"{found.weight_share:.2%} of its layer's router weight; it promotes {_promoted(found)}"
    )
