"""Experts: how evenly a pool's rows are used, which are dead, and a map of them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import experts as charts
from app.dashboard.expert_row import Place, show_row
from app.dashboard.frames import experts as frames
from app.dashboard.links import warn_of_unknown
from app.dashboard.page import View, page
from pipelines.layer_use import LayerUse, layer_use, own_uses, rows_a_layer
from stores.records import ROWS

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores import Segment


@dataclass(frozen=True, eq=False)
class PoolUse:
    """How the rows of a domain's live chain are used."""

    segments: tuple[Segment, ...]
    """Those that hold rows, the newest first."""
    layers: tuple[LayerUse, ...]
    rows: dict[tuple[str, int], pd.DataFrame]
    """By segment and host layer, every row."""


@page("Experts", "How a pool's experts are used, and what each of them holds.")
def show(seen: View) -> None:
    """Show the page."""
    domains = [state.domain for state in seen.live.domains]
    if not domains:
        st.info(
            "No domain is live, so there are no experts yet. The page Ingest teaches the store a "
            "corpus, which grows a pool of them.",
            icon=":material/upload_file:",
        )
        return
    warn_of_unknown("domain", "live domain", domains)
    left, middle, right = st.columns([2, 1, 1])
    with left:
        domain = st.selectbox("Domain", domains, key="domain", bind="query-params")
    found = _read(cached.stamp(seen), seen.live.id, domain, seen.store)
    if not found.layers:
        st.info(
            "No use of rows is recorded for this domain: it was learned by an older version. "
            "Roll it back and ingest it again to see its experts.",
            icon=":material/info:",
        )
        return
    by_label = {segment.label: segment for segment in found.segments}
    warn_of_unknown("version", "version", by_label)
    with middle:
        label = st.selectbox(
            "Version",
            list(by_label),
            key="version",
            bind="query-params",
            help="Each ingest grows a segment of its own rows; a domain is a chain of them.",
        )
    segment = by_label[label]
    names = [str(number) for number in segment.host_layers]
    warn_of_unknown("layer", "host layer", names)
    with right:
        layer = int(st.selectbox("Host layer", names, key="layer", bind="query-params"))
    _show_layers(found, segment, layer)
    rows = found.rows[segment.id, layer]
    _show_grid(found, segment, layer)
    row = _choose_row(len(rows))
    if row is not None:
        place = Place(domain, segment.id, label, layer, row)
        show_row(seen, place, rows.iloc[row])


@st.cache_data(show_spinner=False, max_entries=32)
def _read(key: cached.Stamp, snapshot_id: int, domain: str, _store: Store) -> PoolUse:
    registry = _store.registry
    state = registry.snapshot(snapshot_id).state(domain)
    chain = registry.chain(state.version) if state is not None else ()
    segments = tuple(segment for segment in reversed(chain) if segment.kind == ROWS)
    uses = registry.expert_uses([segment.id for segment in segments])
    used = {use.segment_id for use in uses}
    segments = tuple(segment for segment in segments if segment.id in used)
    own = {
        (segment.id, layer): own_uses(uses, segment, layer)
        for segment in segments
        for layer in segment.host_layers
    }
    return PoolUse(
        segments,
        tuple(
            layer_use(segment, layer, own[segment.id, layer], registry.num_learned(segment.id))
            for segment in segments
            for layer in segment.host_layers
        ),
        {
            (segment.id, layer): frames.rows_frame(own[segment.id, layer], segment)
            for segment in segments
            for layer in segment.host_layers
        },
    )


def _show_layers(found: PoolUse, segment: Segment, layer: int) -> None:
    """Show the figures of the chosen layer, and a table of all."""
    (own,) = (
        item for item in found.layers if (item.segment_id, item.host_layer) == (segment.id, layer)
    )
    figures = (
        (
            "Rows used",
            f"{own.usage:.1%}",
            f"Of {own.num_rows:,} rows, by some learned document, in any wording.",
        ),
        ("Dead rows", f"{own.num_dead:,}", "Rows that no learned document uses, in any wording."),
        (
            "Unevenness",
            f"{own.unevenness:.3f} nats",
            "0 is even use; the logarithm of the number of rows is one row alone "
            "(He 2024, arXiv 2407.04153).",
        ),
        (
            "Effective documents",
            f"{own.effective_documents:.1f}",
            f"Of {own.num_documents:,} learned documents, how many a row serves, as good as; the "
            "mean over rows, by their use. Specific rows have few.",
        ),
    )
    for column, (name, value, meaning) in zip(st.columns(len(figures)), figures, strict=True):
        with column:
            st.metric(name, value, help=meaning, border=True)
    with st.expander("All versions and host layers", icon=":material/table_rows:"):
        st.dataframe(
            frames.layers_frame(found.layers),
            hide_index=True,
            column_config=_LAYERS,
            alt="Use of rows by version and host layer",
        )


_LAYERS: dict[str, Any] = {
    "label": "version",
    "host_layer": "host layer",
    "num_rows": "rows",
    "usage": st.column_config.NumberColumn("used", format="percent"),
    "unevenness": st.column_config.NumberColumn("unevenness, nats", format="%.3f"),
    "num_dead": "dead rows",
    "num_documents": "learned documents",
    "effective_documents": st.column_config.NumberColumn(
        "effective documents a row", format="%.1f"
    ),
}


def _show_grid(found: PoolUse, segment: Segment, layer: int) -> None:
    """Show the map of rows beside how their use is distributed."""
    rows = found.rows[segment.id, layer]
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Rows of layer {layer}**")
        st.caption(
            "Stronger blue: more router weight; pale orange: used by no document. Click a row to "
            "open it; it has an orange frame then."
        )
        st.altair_chart(
            charts.grid_chart(rows, _opened(len(rows))),
            key="grid",
            on_select=_pick_row,
            selection_mode=charts.ROW,
            alt=f"Heat map of the {len(rows)} rows of host layer {layer} by router weight",
        )
    with right:
        st.markdown("**How unevenly rows are used**")
        st.caption(f"Blue: layer {layer}; grey: the other host layers; dashed: even use.")
        by_layer = {number: found.rows[segment.id, number] for number in segment.host_layers}
        st.altair_chart(
            charts.sorted_chart(frames.sorted_frame(by_layer), rows_a_layer(segment), layer),
            alt="Lines of each layer's rows by their share of the router weight, busiest first",
        )
        st.markdown("**How many documents a row serves**")
        st.altair_chart(
            charts.spread_chart(frames.spread_frame(rows)),
            alt=f"Histogram of the effective documents of the rows of layer {layer}",
        )


def _opened(num_rows: int) -> int | None:
    """Return the row whose page is open: chosen before, or named by the address."""
    row = st.session_state.get("row", st.query_params.get("row"))
    try:
        number = -1 if row is None else int(row)
    except ValueError:
        return None
    return number if 0 <= number < num_rows else None


def _pick_row() -> None:
    """Take the clicked cell's row."""
    row = clicked(st.session_state["grid"])
    if row is not None:
        st.session_state["row"] = row


def clicked(event: Any) -> int | None:
    """Return the row of the cell that was clicked, or None where the click chose none."""
    points = event["selection"].get(charts.ROW) or []
    return int(points[0]["row"]) if points else None


def _choose_row(num_rows: int) -> int | None:
    kept = st.session_state.get("row")
    if kept is not None and kept >= num_rows:  # of another, larger pool
        st.session_state["row"] = None
    warn_of_unknown("row", "row", range(num_rows), f"there are 0 to {num_rows - 1}")
    return st.number_input(
        "Row",
        min_value=0,
        max_value=num_rows - 1,
        value=None,
        step=1,
        placeholder=f"click one above, or type 0 to {num_rows - 1}",
        key="row",
        bind="query-params",
    )
