"""What was done to the store, as tables: events, snapshots, what differs, stretches of time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from app.dashboard.frames.acts import Mask, act_in_words
from app.output import moment
from app.reading import OUT
from stores.changes import changes

if TYPE_CHECKING:
    from stores import DomainState, Event, Snapshot


def events(
    found: Iterable[Event], of_snapshots: Iterable[Snapshot], masks: Mapping[str, Mask]
) -> pd.DataFrame:
    """Return one row an event, in the order given.

    Args:
        found: the events.
        of_snapshots: every snapshot; they tell what a rollback was.
        masks: of `read_masks`; they tell what an erasure was.
    """
    by_id = {snapshot.id: snapshot for snapshot in of_snapshots}
    return pd.DataFrame(
        [
            (
                item.id,
                item.snapshot_id,
                moment(item.at),
                item.who,
                words,
                item.domain or "",
                label,
                item.why,
            )
            for item in found
            for words, label in [act_in_words(item, by_id, masks)]
        ],
        columns=["event", "snapshot", "at", "who", "action", "domain", "version", "why"],
    )


def snapshots(
    found: Sequence[Snapshot],
    of_events: Iterable[Event],
    live_id: int,
    purged: Collection[str],
    masks: Mapping[str, Mask],
) -> pd.DataFrame:
    """Return one row a snapshot, the newest first.

    Args:
        found: every snapshot, oldest first.
        of_events: every event, the newest first; the oldest of a snapshot is the act that made it.
        live_id: of the live snapshot.
        purged: ids of the versions whose bytes are gone: what holds one cannot come back whole.
        masks: as of `events`.
    """
    made = {event.snapshot_id: event for event in of_events}
    by_id = {snapshot.id: snapshot for snapshot in found}
    rows = []
    for snapshot in reversed(found):
        event = made.get(snapshot.id)
        gone = sum(state.version in purged for state in snapshot.domains)
        rows.append(
            (
                snapshot.id,
                "live" if snapshot.id == live_id else f"{gone} purged" if gone else "",
                moment(snapshot.created_at),
                act_in_words(event, by_id, masks)[0] if event else snapshot.action,
                (event.domain if event else None) or "",
                event.who if event else "",
                len(snapshot.domains),
                event.why if event else "",
            )
        )
    columns = ["snapshot", "state", "at", "action", "domain", "who", "domains", "why"]
    return pd.DataFrame(rows, columns=columns)


def snapshot_labels(
    found: Sequence[Snapshot], of_events: Iterable[Event], live_id: int, masks: Mapping[str, Mask]
) -> dict[int, str]:
    """Return what a list says of each snapshot: what happened and when.

    Args:
        found: every snapshot, oldest first.
        of_events: every event, the newest first; the oldest of a snapshot is the act that made it.
        live_id: of the live snapshot.
        masks: as of `events`.

    Returns: by number, such as "5: law, ingest, 2026-11-27 12:28, live".
    """
    made = {event.snapshot_id: event for event in of_events}
    by_id = {snapshot.id: snapshot for snapshot in found}
    told = {}
    for number, snapshot in by_id.items():
        event = made.get(number)
        words = act_in_words(event, by_id, masks)[0] if event else snapshot.action
        parts = [words, moment(snapshot.created_at)[:16]]
        parts = [event.domain, *parts] if event and event.domain else parts
        told[number] = f"{number}: {', '.join(parts + ['live'] * (number == live_id))}"
    return told


def diff(before: Snapshot, after: Snapshot) -> pd.DataFrame:
    """Return one row a domain that two snapshots hold differently."""
    return pd.DataFrame(
        [
            (
                change.domain,
                state_in_words(change.before),
                state_in_words(change.after),
                ", ".join(change.words),
            )
            for change in changes(before, after)
        ],
        columns=["domain", "before", "after", "what changed"],
    )


def state_in_words(state: DomainState | None) -> str:
    """Return a domain's version and switches within a snapshot.

    Example:
        >>> state_in_words(None)
        'out'
    """
    if state is None:
        return OUT
    return ", ".join([state.label, *_switches(state)])


def _switches(state: DomainState) -> list[str]:
    return ["frozen"] * state.is_frozen + ["disabled"] * (not state.is_enabled)


def spans(found: Sequence[Snapshot], domain: str | None = None) -> pd.DataFrame:
    """Return for how long each domain was in each state, one row a stretch of snapshots.

    Args:
        found: snapshots in a row, oldest first.
        domain: only this one.

    Returns: domain, version (its label), state, is_frozen, is_enabled, the first snapshot of the
        stretch and the end (the first after it), and when it began and ended; a stretch that lasts
        until now ends one after the last snapshot, and `until` is empty.
    """
    open_: dict[str, list[object]] = {}
    states: dict[str, DomainState] = {}
    rows: list[list[object]] = []
    for snapshot in found:
        now = {s.domain: s for s in snapshot.domains if domain is None or s.domain == domain}
        for name in [name for name, state in states.items() if now.get(name) != state]:
            rows.append([*open_.pop(name), snapshot.id, moment(snapshot.created_at)])
            del states[name]
        for name, state in now.items():
            if name not in states:
                states[name] = state
                open_[name] = _opening(state, snapshot)
    end = found[-1].id + 1 if found else 0
    rows += [[*opening, end, ""] for opening in open_.values()]
    columns = ["domain", "version", "state", "is_frozen", "is_enabled", "first", "since"]
    table = pd.DataFrame(rows, columns=[*columns, "end", "until"])
    return table.sort_values(["domain", "first"], ignore_index=True)


def _opening(state: DomainState, snapshot: Snapshot) -> list[object]:
    return [
        state.domain,
        state.label,
        ", ".join(_switches(state)) or "live",
        state.is_frozen,
        state.is_enabled,
        snapshot.id,
        moment(snapshot.created_at),
    ]
