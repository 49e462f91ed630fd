"""Experts: what each item of a domain owns, and how many of the shared ones its texts use."""

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
)
from stores.queries import Segment

if TYPE_CHECKING:
    from pipelines.experts import ExpertsReport

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
        _show_layer(seen, segment, layer)
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


def _show_busiest(report: ExpertsReport) -> None:
    table = tables.rows(
        report.busiest,
        "expert label weight_share",
        expert=tables.expert_name,
    )
    st.markdown("**Busiest**")
    tables.show(table, "The busiest shared experts with their shares of use")


def _show_items(report: ExpertsReport) -> None:
    if not report.items:
        return
    st.subheader("Own experts of items", anchor=False)
    table = tables.rows(
        report.items,
        "about open owned.label owned.num_experts owned.num_host_layers owned.size_bytes "
        "nearest similarity",
        about=lambda one: one.statement or one.title,
        open=tables.document_address,
        nearest=lambda one: one.nearest.title if one.nearest else None,
        similarity=lambda one: one.nearest.similarity if one.nearest else None,
    )
    tables.show(table, "Items with the experts that they own")
    st.caption(f"{len(report.items):,} of {report.num_items:,} items.")


def _show_layer(seen: View, segment: Segment, layer: int) -> None:
    from pipelines.experts import layer_use, segment_weights

    weights_N = segment_weights(seen.store.registry, segment)[layer]
    own = layer_use(segment, layer, weights_N)
    st.metric("Experts used", f"{own.usage:.1%}", help=f"{own.num_dead:,} are not.", border=True)


@st.cache_data(show_spinner="Reading the experts", max_entries=16)
def _report(key: tuple[str, int], domain: str, _seen: View) -> ExpertsReport:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        return experts.report(NUM_LISTED)
