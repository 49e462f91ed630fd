"""History: what was done, and the way back to an earlier snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.columns import show_table
from app.dashboard.state import View, act, message_box, page, plain, say_empty
from stores.queries import Event, Snapshot

MOST_SNAPSHOTS = 300
"""Drawn in the chart."""
MOST_EVENTS = 500


@page(
    "history",
    "History",
    ":material/history:",
    "What was done to the store, and the way back.",
)
def show(seen: View) -> None:
    """Show the page."""
    if not seen.domains:
        say_empty(seen)
        return
    snapshots, events = seen.queries.snapshots(), seen.queries.events()
    spans = tables.spans_table(snapshots[-MOST_SNAPSHOTS:])
    if not spans.empty:
        st.caption("Which version of each domain was live, snapshot by snapshot. Pale: disabled.")
        st.altair_chart(
            charts.spans_chart(spans, seen.colours),
            alt="Lanes of each domain's live versions by snapshot",
        )
    _show_rollback(seen, snapshots, events)
    st.subheader("Events", anchor=False)
    names = [one.domain for one in seen.domains]
    domain = st.selectbox("Domain", names, index=None, placeholder="all domains", key="of")
    shown = [one for one in events if domain in (None, one.domain)][:MOST_EVENTS]
    show_table(tables.events_table(shown), "What was done, the newest first")


def _show_rollback(seen: View, snapshots: Sequence[Snapshot], events: Sequence[Event]) -> None:
    st.subheader("Roll the store back", anchor=False)
    by_id = {one.id: one for one in snapshots}
    ids = [number for number in sorted(by_id, reverse=True) if number != seen.live.id]
    if not ids:
        st.caption("There is one snapshot only.")
        return
    labels = tables.snapshot_labels(snapshots, events, seen.live.id)
    left, right = st.columns(2)
    number = left.selectbox(
        "To the snapshot", ids, format_func=labels.__getitem__, key="roll-back-to"
    )
    target, gone = without_purged(by_id[number], seen.queries.purged_versions())
    with right:
        message = message_box("roll-back")
    changes = tables.changes_table(seen.live, target)
    if changes.empty:
        st.caption("The live snapshot holds the same: nothing would change.")
        return
    st.caption("This would change, as a new snapshot; it can be undone.")
    show_table(changes, "Domains that would change")
    if gone:
        st.warning(plain(f"Purged, so left out: {', '.join(gone)}."))
    act(
        f"Roll back to snapshot {number}",
        lambda store: store.roll_back_to(number, message(), without_purged=bool(gone)),
        seen,
        done=f"The store is as it was at snapshot {number}.",
        icon=":material/history:",
        key="roll-back",
    )


def without_purged(snapshot: Snapshot, purged: frozenset[str]) -> tuple[Snapshot, list[str]]:
    """Return a snapshot without purged versions, and the names of the domains left out."""
    kept = tuple(state for state in snapshot.domains if state.version not in purged)
    gone = [state.domain for state in snapshot.domains if state.version in purged]
    return replace(snapshot, domains=kept), gone
