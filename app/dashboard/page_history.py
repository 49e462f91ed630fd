"""History: what was done, what differs between snapshots, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import acts, cached
from app.dashboard.charts import history as charts
from app.dashboard.frames import history as frames
from app.dashboard.frames.acts import act_in_words
from app.dashboard.links import empty_store, warn_of_unknown
from app.dashboard.outcome import ask_why, attempt, show_outcome, show_problem
from app.dashboard.page import View, page, plain
from app.dashboard.snapshot_list import choose_snapshot
from app.output import moment
from pipelines.documents import several

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores import Snapshot

_LIMITS = (50, 200, 1000)
_MOST_SNAPSHOTS = 500
"""In the chart; older ones would be hairlines."""
_WITHOUT = "restore-without-purged"
_WITH = "restore-with-erased"
_PLACE = "History: restore"


@page("History", "Everything that was done to the store; all but a purge can be taken back.")
def show(seen: View) -> None:
    """Show the page."""
    show_outcome(seen, "History")
    if not seen.domains:
        empty_store()
        _show_events(seen)
        return
    found = cached.snapshots(seen)
    _show_lanes(seen, found)
    _show_diff(seen, found)
    _show_restore(seen, found)
    show_problem(seen, _PLACE)
    _show_snapshots(seen, found)
    _show_events(seen)


def _show_lanes(seen: View, found: tuple[Snapshot, ...]) -> None:
    st.subheader("The store over time", anchor=False)
    shown = found[-_MOST_SNAPSHOTS:]
    st.caption(
        "A lane for each domain, from snapshot to snapshot. Pale: disabled. Dotted line: frozen. "
        "A gap: out of the store. Grey column: the live snapshot."
        + (f" The newest {len(shown)} of {len(found)} snapshots." * (len(shown) < len(found)))
    )
    spans = frames.spans(shown)
    if spans.empty:
        st.info("No domain was live in these snapshots.")
        return
    st.altair_chart(
        charts.lanes(spans, seen.colours, shown),
        alt="When each domain was in the store, at which version, frozen or disabled, by snapshot",
    )


def _show_diff(seen: View, found: tuple[Snapshot, ...]) -> None:
    st.subheader("What differs between two snapshots", anchor=False)
    ids = [snapshot.id for snapshot in reversed(found)]
    for name in ("a", "b"):
        _warn_of_unknown(name, ids)
    left, right = st.columns(2)
    with left:
        at = min(1, len(ids) - 1)
        before = choose_snapshot(seen, "Before (snapshot)", "a", ids, index=at)
        _tell(seen, found, before)
    with right:
        after = choose_snapshot(seen, "After (snapshot)", "b", ids)
        _tell(seen, found, after)
    by_id = {snapshot.id: snapshot for snapshot in found}
    table = frames.diff(by_id[before], by_id[after])
    if table.empty:
        st.info(f"Snapshots {before} and {after} hold the same domains in the same state.")
        return
    st.dataframe(table, hide_index=True, alt="Domains that differ, before and after")


def _warn_of_unknown(parameter: str, ids: list[int]) -> None:
    warn_of_unknown(parameter, "snapshot", ids, f"there are {ids[-1]} to {ids[0]}")


def _tell(seen: View, found: tuple[Snapshot, ...], snapshot_id: int) -> None:
    """Say in a line how a snapshot came."""
    events = cached.events(seen)
    snapshot = next(item for item in found if item.id == snapshot_id)
    event = next((item for item in reversed(events) if item.snapshot_id == snapshot_id), None)
    what = snapshot.action
    if event:
        words, _ = act_in_words(event, {item.id: item for item in found}, cached.masks(seen))
        what = f"{event.domain}: {words}" if event.domain else words
    who = f", {event.who}" if event else ""
    st.caption(plain(f"{moment(snapshot.created_at)}: {what}{who}"))


def _show_restore(seen: View, found: tuple[Snapshot, ...]) -> None:
    st.subheader("Go back to a snapshot", anchor=False)
    ids = [snapshot.id for snapshot in reversed(found) if snapshot.id != seen.live.id]
    if not ids:
        st.info("There is one snapshot alone: nothing to go back to yet.")
        return
    warn_of_unknown("restore", "snapshot to restore", ids)
    target_id = choose_snapshot(seen, "Snapshot to restore", "restore", ids)
    target = next(item for item in found if item.id == target_id)
    _tell(seen, found, target_id)
    purged = cached.purged_versions(seen)
    gone = {state.domain: state.label for state in target.domains if state.version in purged}
    table = frames.diff(seen.live, _without(target, gone))
    if table.empty:
        st.info("That snapshot holds what the live one holds: restoring it would change nothing.")
        return
    st.text("This would change, as a new snapshot; nothing is deleted and it can be undone:")
    st.dataframe(table, hide_index=True, alt="What restoring would change, domain by domain")
    if gone:
        st.warning(plain(_gone_in_words(seen.live, gone)))
        st.checkbox("Restore the rest without what was purged", key=_WITHOUT)
    _ask_erased(seen, target)
    why_key = f"restore-why: {target_id}"
    ask_why(seen, why_key)
    st.button(
        f"Restore snapshot {target_id}",
        icon=":material/restore:",
        on_click=attempt,
        args=(seen, _PLACE, lambda store: _restore(store, target_id, why_key), why_key),
    )


def _ask_erased(seen: View, target: Snapshot) -> None:
    """Say what was erased exactly and would come back, and let a person want that."""
    held = seen.store.registry.erased.held_by(target.domains)
    if not held:
        return
    told = ", ".join(f"{several(len(ids), 'document')} of {name}" for name, ids in held.items())
    st.warning(plain(f"Erased exactly since, and back with this snapshot: {told}."))
    st.checkbox("Bring back what was erased", key=f"{_WITH}-{target.id}")


def _gone_in_words(live: Snapshot, gone: Mapping[str, str]) -> str:
    """Say which versions were purged, and what becomes of their domains with the rest."""
    versions = ", ".join(f"{name} {label}" for name, label in gone.items())
    out = [
        f"{state.domain}, live at {state.label}" for state in live.domains if state.domain in gone
    ]
    also = f"Without it, {'; '.join(out)}, goes out of the store." if out else "It stays out."
    return f"Purged and gone for ever: {versions}. {also}"


def _without(snapshot: Snapshot, gone: Collection[str]) -> Snapshot:
    return replace(snapshot, domains=tuple(s for s in snapshot.domains if s.domain not in gone))


def _restore(store: Store, snapshot_id: int, why_key: str) -> acts.Done:
    without = bool(st.session_state.get(_WITHOUT))
    why = str(st.session_state.get(why_key, ""))
    erased = bool(st.session_state.get(f"{_WITH}-{snapshot_id}"))
    return acts.restore(store, snapshot_id, why, without_purged=without, with_erased=erased)


def _show_snapshots(seen: View, found: tuple[Snapshot, ...]) -> None:
    st.subheader("Snapshots", anchor=False)
    st.dataframe(
        frames.snapshots(
            found,
            cached.events(seen),
            seen.live.id,
            cached.purged_versions(seen),
            cached.masks(seen),
        ),
        hide_index=True,
        column_config={
            "at": st.column_config.TextColumn("at (UTC)"),
            "domains": st.column_config.NumberColumn("domains in it"),
            "why": st.column_config.TextColumn("why", width="large"),
        },
        alt="Every snapshot, the newest first: its act, domain, who, and why",
    )


def _show_events(seen: View) -> None:
    st.subheader("Events", anchor=False)
    left, right = st.columns([3, 1])
    names = [item.domain for item in seen.domains]
    warn_of_unknown("domain", "domain", names)
    warn_of_unknown("limit", "choice of events", _LIMITS)
    domain = left.selectbox(
        "Only of domain",
        names,
        index=None,
        placeholder="all domains",
        key="domain",
        bind="query-params",
    )
    limit = right.selectbox("At most", _LIMITS, key="limit", bind="query-params")
    found = cached.events(seen, domain)
    st.dataframe(
        frames.events(found[:limit], cached.snapshots(seen), cached.masks(seen)),
        hide_index=True,
        column_config={
            "at": st.column_config.TextColumn("at (UTC)"),
            "why": st.column_config.TextColumn("why", width="large"),
        },
        alt="What was done, the newest first: when, who, act, domain, version, why",
    )
    if len(found) > limit:
        st.caption(f"The newest {limit:,} of {len(found):,} events.")
