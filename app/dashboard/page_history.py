"""History: what was done, and the way back to an earlier snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from app.dashboard import tables
from app.dashboard.state import View, act, message_box, page, plain, say_empty
from stores.queries import Event, changes

MOST_EVENTS = 500
EVENTS = "at author action domain label snapshot_id message"


@page("history", "history", "What was done to the store, and the way back.")
def show(seen: View) -> None:
    """Show the page."""
    if not seen.domains:
        say_empty(seen)
        return
    events = seen.queries.events()
    _show_rollback(seen, events)
    st.subheader("Events", anchor=False)
    tables.show(tables.rows(events[:MOST_EVENTS], EVENTS), "What was done, the newest first")


def _show_rollback(seen: View, events: Sequence[Event]) -> None:
    st.subheader("Roll the store back", anchor=False)
    by_id = {one.id: one for one in reversed(seen.queries.snapshots()) if one.id != seen.live.id}
    labels = tables.snapshot_labels(by_id.values(), events, seen.live.id)
    left, right = st.columns(2)
    number = left.selectbox(
        "To the snapshot",
        [*by_id],
        index=None,
        format_func=labels.__getitem__,
        key="roll-back-to",
        placeholder="choose one to see what would change",
    )
    with right:
        message = message_box("roll-back")
    if number is None:
        st.button("Roll back", disabled=True, icon=":material/history:")
        return
    states, purged = by_id[number].domains, seen.queries.purged_versions()
    gone = [state.domain for state in states if state.version in purged]
    kept = tuple(state for state in states if state.version not in purged)
    found = changes(seen.live, replace(by_id[number], domains=kept))
    if not found:
        st.caption("The live snapshot holds the same: nothing would change.")
        return
    st.caption("This would change, as a new snapshot; it can be undone.")
    table = tables.rows(found, "domain change", change=lambda one: ", ".join(one.words))
    tables.show(table, "Domains that would change")
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
