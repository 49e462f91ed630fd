"""Snapshots and the live pointer: reading them, and making the next one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import CTE, func, select
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, StateError, UnknownError, unknown_name
from stores.batches import batches
from stores.clock import utc_now
from stores.queries import DomainState, Snapshot
from stores.schema import (
    DomainRow,
    EventRow,
    LiveRow,
    SegmentRow,
    SnapshotDomainRow,
    SnapshotRow,
)
from stores.words import check_words

_TOO_LARGE = 2**31
"""No id of a row: a database has no room for it, and may not even look for it."""


def live_id(session: Session) -> int:
    """Return the id of the live snapshot."""
    found: int | None = session.scalar(select(LiveRow.snapshot_id))
    if found is None:
        raise DamageError("the registry has no live snapshot; restore it from a copy")
    return found


def live_snapshot(session: Session) -> Snapshot:
    """Return the live snapshot."""
    return read_snapshot(session, live_id(session))


def read_snapshot(session: Session, snapshot_id: int) -> Snapshot:
    """Return a snapshot.

    Raises: UnknownError: when there is none with this id; the ids that exist are named.
    """
    return read_snapshots(session, [snapshot_id])[0]


def read_snapshots(session: Session, ids: list[int]) -> tuple[Snapshot, ...]:
    """Return snapshots in the order of their ids as given, in two queries."""
    possible = {snapshot_id for snapshot_id in ids if 0 < snapshot_id < _TOO_LARGE}
    rows = {
        row.id: row
        for row in session.scalars(select(SnapshotRow).where(SnapshotRow.id.in_(possible)))
    }
    for snapshot_id in ids:
        if snapshot_id not in rows:
            last = session.scalar(select(SnapshotRow.id).order_by(SnapshotRow.id.desc()).limit(1))
            raise UnknownError(
                f"no snapshot {snapshot_id}; there are 1 to {last}: see `peer-cl history`"
            )
    states: dict[int, list[DomainState]] = {snapshot_id: [] for snapshot_id in ids}
    entries = session.execute(
        select(
            SnapshotDomainRow.snapshot_id,
            DomainRow.name,
            SnapshotDomainRow.segment_id,
            SegmentRow.label,
            SnapshotDomainRow.is_frozen,
            SnapshotDomainRow.is_enabled,
        )
        .join(DomainRow, DomainRow.id == SnapshotDomainRow.domain_id)
        .join(SegmentRow, SegmentRow.id == SnapshotDomainRow.segment_id)
        .where(SnapshotDomainRow.snapshot_id.in_(set(ids)))
    )
    for snapshot_id, name, version, label, is_frozen, is_enabled in entries:
        states[snapshot_id].append(DomainState(name, version, label, is_frozen, is_enabled))
    return tuple(
        Snapshot(
            id=row.id,
            parent_id=row.parent_id,
            created_at=row.created_at,
            action=row.action,
            domains=tuple(sorted(states[row.id], key=lambda state: state.domain)),
        )
        for row in (rows[snapshot_id] for snapshot_id in ids)
    )


def read_ancestry(session: Session, snapshot_id: int) -> tuple[Snapshot, ...]:
    """Return the snapshot and all before it along its parents, oldest first."""
    read_snapshot(session, snapshot_id)
    ids = sorted(session.scalars(select(line_to(snapshot_id).c.id)))
    return tuple(found for some in batches(ids) for found in read_snapshots(session, some))


def read_all_snapshots(session: Session) -> tuple[Snapshot, ...]:
    """Return every snapshot, oldest first."""
    ids = session.scalars(select(SnapshotRow.id).order_by(SnapshotRow.id))
    return tuple(found for some in batches(ids) for found in read_snapshots(session, some))


def line_to(snapshot_id: int) -> CTE:
    """Return the rows (id, parent_id) of a snapshot and of all before it along its parents."""
    line = select(SnapshotRow.id, SnapshotRow.parent_id).where(SnapshotRow.id == snapshot_id)
    tree = line.cte("line", recursive=True)
    parents = select(SnapshotRow.id, SnapshotRow.parent_id)
    return tree.union_all(parents.join(tree, SnapshotRow.id == tree.c.parent_id))


def live_state(session: Session, domain: str) -> DomainState:
    """Return the live state of a domain.

    Raises:
        UnknownError: when there never was such a domain.
        StateError: when it is not in the live snapshot.
    """
    state = live_snapshot(session).state(domain)
    if state is None:
        is_purged = not _is_kept(session, find_domain(session, domain))
        raise StateError(
            f"domain {domain!r} is not in the live snapshot: {why_out(domain, is_purged=is_purged)}"
        )
    return state


def why_out(domain: str, *, is_purged: bool) -> str:
    """Return why a domain is not live, and what makes it so again."""
    if is_purged:
        return "it was purged; ingest it again"
    return f"it was taken out; `peer-cl bring-back {domain}` puts it back"


def _is_kept(session: Session, row: DomainRow) -> bool:
    """Return whether a version of a domain is left that was not purged."""
    kept = select(SegmentRow.id).where(
        SegmentRow.domain_id == row.id, SegmentRow.purged_at.is_(None)
    )
    return session.scalar(kept.limit(1)) is not None


def askable_state(session: Session, domain: str, snapshot: Snapshot | None) -> DomainState:
    """Return a domain's state in a snapshot (default: the live one) when it may be asked.

    Raises:
        UnknownError: when there never was such a domain.
        StateError: when it is not in the snapshot, or disabled; it is said which.
    """
    snapshot = snapshot or live_snapshot(session)
    state = snapshot.state(domain)
    row = find_domain(session, domain)
    if state is None:
        is_purged = not _is_kept(session, row)
        came = session.scalar(
            select(func.min(SnapshotDomainRow.snapshot_id)).where(
                SnapshotDomainRow.domain_id == row.id
            )
        )
        if not is_purged and came is not None and came > snapshot.id:
            why = f"it came with snapshot {came}; see `peer-cl history`"
        elif live_snapshot(session).state(domain) is not None:
            why = "it was out then, and the live snapshot has it; load that"
        else:
            why = why_out(domain, is_purged=is_purged)
        raise StateError(f"domain {domain!r} is not in snapshot {snapshot.id}: {why}")
    if not state.is_enabled:
        raise StateError(
            f"domain {domain!r} is disabled and not asked; `peer-cl enable {domain}` first"
        )
    return state


def find_domain(session: Session, domain: str) -> DomainRow:
    """Return the row of a domain.

    Raises: UnknownError: when there is none; the nearest name is suggested.
    """
    row = session.scalar(select(DomainRow).where(DomainRow.name == domain))
    if row is None:
        raise unknown_name("domain", domain, session.scalars(select(DomainRow.name)))
    return row


def commit_snapshot(
    session: Session,
    states: Iterable[DomainState],
    *,
    action: str,
    who: str,
    why: str,
    domain: str | None = None,
) -> Snapshot:
    """Write a new snapshot, move the live pointer to it and add the event.

    Args:
        session: A writing session; nothing is visible to others before it commits.
        states: All domains of the new snapshot.
        action: The act, one word.
        who: Who did it.
        why: Why, in the person's words.
        domain: The domain that the act was about, if it was about one.
    """
    states = list(states)
    live = session.get(LiveRow, 1, with_for_update=True)
    row = SnapshotRow(
        parent_id=None if live is None else live.snapshot_id, action=action, created_at=utc_now()
    )
    session.add(row)
    session.flush()
    ids = {found.name: found.id for found in session.scalars(select(DomainRow))}
    session.add_all(
        SnapshotDomainRow(
            snapshot_id=row.id,
            domain_id=ids[state.domain],
            segment_id=state.version,
            is_frozen=state.is_frozen,
            is_enabled=state.is_enabled,
        )
        for state in states
    )
    if live is not None:
        live.snapshot_id = row.id
    version = next((state.version for state in states if state.domain == domain), None)
    domain_id = None if domain is None else ids[domain]
    add_event(session, row.id, domain_id, version, action=action, who=who, why=why)
    return read_snapshot(session, row.id)


def add_event(
    session: Session,
    snapshot_id: int,
    domain_id: int | None,
    version: str | None,
    *,
    action: str,
    who: str,
    why: str,
) -> None:
    """Write down what was done.

    Raises: InputError: when who or why cannot be kept; the session's transaction is undone.
    """
    session.add(
        EventRow(
            at=utc_now(),
            who=check_words("who", who),
            action=action,
            domain_id=domain_id,
            segment_id=version,
            snapshot_id=snapshot_id,
            why=check_words("why", why),
        )
    )
    session.flush()
