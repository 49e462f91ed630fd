"""Experts: how evenly a pool's experts are used, and what each of them holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.columns import show_table
from app.dashboard.state import View, borrowed_model, choose_domain, page, say_empty, show_figures
from stores.queries import ExpertUse, HeldBy, Segment

if TYPE_CHECKING:
    from pipelines.experts import Expert, ExpertsReport

NUM_LISTED = 10
MOST_HELD = 50


@page(
    "experts",
    "Experts",
    ":material/grid_on:",
    "How a pool's experts are used, and what each of them holds.",
)
def show(seen: View) -> None:
    """Show the page."""
    domains = [state.domain for state in seen.live.domains]
    if not domains:
        say_empty(seen)
        return
    left, middle, right = st.columns([2, 1, 1])
    with left:
        domain = choose_domain(domains)
    state = seen.live.state(domain)
    chain = {one.label: one for one in seen.queries.chain(state.version)} if state else {}
    with middle:
        label = st.selectbox("Version", list(reversed(chain)), key="version", bind="query-params")
    segment = chain[label]
    with right:
        layers = [str(layer) for layer in segment.host_layers]
        layer = int(st.selectbox("Host layer", layers, key="layer", bind="query-params"))
    uses = seen.store.registry.uses.expert_uses([segment.id])
    _show_layer(seen, segment, layer, uses)
    table = tables.layer_experts(uses, segment, layer)
    chosen = _chosen(len(table))
    left, right = st.columns([3, 2])
    with left:
        st.caption("Stronger blue: more router weight; grey: used by no document.")
        st.altair_chart(
            charts.experts_chart(table, chosen),
            alt=f"Heat map of the {len(table)} experts of host layer {layer} by router weight",
        )
    with right:
        st.caption("Dashed: even use.")
        st.altair_chart(
            charts.evenness_chart(table), alt="Experts by their share of the weight, busiest first"
        )
    if state is not None and not state.is_enabled:
        st.info(
            "The domain is disabled, so its pool is not loaded: what its experts promote shows "
            "once it is enabled.",
            icon=":material/toggle_off:",
        )
        return
    _show_lists(seen, domain)
    _show_expert(seen, segment, layer, chosen, len(table))


def _chosen(num: int) -> int | None:
    """Return the expert that the number field, or the address, names."""
    named = str(st.session_state.get("expert", st.query_params.get("expert", "")))
    return int(named) if named.isdecimal() and int(named) < num else None


def _show_layer(seen: View, segment: Segment, layer: int, uses: tuple[ExpertUse, ...]) -> None:
    from pipelines.experts import layer_use, own_uses

    num_learned = seen.store.registry.uses.num_learned(segment.id)
    own = layer_use(segment, layer, own_uses(uses, segment, layer), num_learned)
    show_figures(
        [
            (
                "Experts used",
                f"{own.usage:.1%}",
                None,
                f"Of {own.num_experts:,}, by some document.",
            ),
            ("Unused experts", f"{own.num_dead:,}", None, "No learned document uses them."),
            (
                "Unevenness",
                f"{own.unevenness:.3f} nats",
                None,
                "0 is even use; the log of the number of experts is one expert alone (He 2024).",
            ),
            (
                "Effective documents",
                f"{own.effective_documents:.1f}",
                None,
                f"Of {own.num_documents:,} learned, as many as an expert serves, as good as.",
            ),
        ]
    )


@st.cache_data(show_spinner="Reading the experts", max_entries=16)
def _report(key: tuple[str, int], domain: str, _seen: View) -> ExpertsReport:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        return experts.report(NUM_LISTED)


@st.cache_data(show_spinner="Reading the expert", max_entries=64)
def _expert(
    key: tuple[str, int], domain: str, label: str, layer: int, expert: int, _seen: View
) -> tuple[Expert, HeldBy | None]:
    with borrowed_model(_seen) as (model, tokenizer):
        experts = _seen.store.experts(domain, model=model, tokenizer=tokenizer, snapshot=_seen.live)
        found = experts.expert(layer, expert, label)
        return found.expert, found.held


def _show_lists(seen: View, domain: str) -> None:
    report = _report(seen.key, domain, seen)
    busiest, specific = st.tabs(["Busiest", "Most specific"])
    with busiest:
        show_table(
            tables.experts_table(report.busiest, domain), "The experts with the most router weight"
        )
    with specific:
        show_table(
            tables.experts_table(report.most_specific, domain),
            "The experts that the fewest documents use",
        )


def _show_expert(seen: View, segment: Segment, layer: int, chosen: int | None, num: int) -> None:
    st.subheader("One expert", anchor=False)
    number = st.number_input(
        "Expert",
        0,
        num - 1,
        value=None,
        key="expert",
        bind="query-params",
        placeholder="its number",
    )
    if number is None:
        st.caption(f"Choose one of 0 to {num - 1}, or open one from the lists.")
        return
    expert, held = _expert(seen.key, segment.domain, segment.label, layer, int(number), seen)
    left, right = st.columns([3, 2])
    with left:
        st.markdown("**Documents that it holds**")
        if held is None:
            st.caption("None: nothing that was learned uses it.")
        else:
            show_table(tables.held_table(held).head(MOST_HELD), "Documents with their shares")
    with right:
        st.markdown("**Tokens that it promotes**")
        st.text("  ".join(map(tables.visible, expert.promotes)) or "None: it adds nothing.")
        st.markdown("**Experts of other domains that read similar inputs**")
        near = [
            (one.domain, f"{one.host_layer}:{one.expert}", one.similarity) for one in expert.near
        ]
        if near:
            show_table(pd.DataFrame(near, columns=["domain", "expert", "similarity"]), "Neighbours")
        else:
            st.caption("None.")
