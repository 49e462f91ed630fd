"""Freeze, disable and roll back: each is a new snapshot and a moved pointer; no bytes move."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from peer_cl.errors import StateError
from stores.chains import read_chain, resolve_version
from stores.erased import check_unerased, settle
from stores.growth import check_growth
from stores.queries import DomainState, Segment, Snapshot
from stores.schema import SnapshotDomainRow
from stores.snapshots import (
    commit_snapshot,
    find_domain,
    live_snapshot,
    live_state,
    read_snapshot,
)

_SWITCHES = {
    "freeze": ("is_frozen", True, "already frozen"),
    "unfreeze": ("is_frozen", False, "not frozen"),
    "disable": ("is_enabled", False, "already disabled"),
    "enable": ("is_enabled", True, "already enabled"),
}


def switch(session: Session, action: str, domain: str, *, who: str, why: str) -> Snapshot:
    """Freeze, unfreeze, disable or enable a live domain.

    Raises: StateError: when it is so already, or not live.
    """
    field, value, already = _SWITCHES[action]
    state = live_state(session, domain)
    if getattr(state, field) is value:
        raise StateError(f"{domain} is {already}")
    changes: dict[str, Any] = {field: value}
    changed = dataclasses.replace(state, **changes)
    return _commit_changed(session, changed, action=action, who=who, why=why)


def roll_back_domain(
    session: Session,
    domain: str,
    to_version: str | None,
    *,
    with_erased: bool = False,
    who: str,
    why: str,
) -> Snapshot:
    """Take a domain back to an earlier segment of its chain, or (None) out of the snapshot.

    Raises: StateError: when the version is not an earlier one of the live chain, or holds what was
        erased exactly since (and that is not to come back).
    """
    state = live_state(session, domain)
    if to_version is None:
        others = [other for other in live_snapshot(session).domains if other.domain != domain]
        return commit_snapshot(session, others, action="rollback", who=who, why=why, domain=domain)
    target = _earlier_segment(session, state, to_version)
    changed = dataclasses.replace(state, version=target.id, label=target.label)
    if not with_erased:
        what, command = f"{domain} {target.label}", f"peer-cl rollback {domain} --to {target.label}"
        check_unerased(session, [changed], what, command)
    snapshot = _commit_changed(session, changed, action="rollback", who=who, why=why)
    settle(session, [changed])
    return snapshot


def bring_back(session: Session, domain: str, *, capacity: int, who: str, why: str) -> Snapshot:
    """Put a domain that is out of the store back, as it was in the newest snapshot with it.

    Raises:
        UnknownError: when there never was such a domain.
        StateError: when it is live, its bytes were purged, or the store is full.
    """
    live = live_snapshot(session)
    if live.state(domain) is not None:
        raise StateError(f"{domain} is live already")
    row = find_domain(session, domain)
    newest = session.scalar(
        select(func.max(SnapshotDomainRow.snapshot_id)).where(SnapshotDomainRow.domain_id == row.id)
    )
    state = None if newest is None else read_snapshot(session, newest).state(domain)
    if state is None:
        raise StateError(f"{domain} never was live: there is nothing to bring back")
    if any(segment.is_purged for segment in read_chain(session, state.version)):
        raise StateError(f"{domain} was purged: its bytes are gone; ingest it again")
    check_growth(live, domain, None, capacity)
    states = sorted([*live.domains, state], key=lambda item: item.domain)
    return commit_snapshot(session, states, action="rollback", who=who, why=why, domain=domain)


def roll_back(
    session: Session,
    snapshot_id: int,
    *,
    without_purged: bool,
    with_erased: bool = False,
    who: str,
    why: str,
) -> Snapshot:
    """Make a new snapshot with the content of an old one.

    Raises: StateError: when it holds versions that were purged (and their domains are not to be
        left out), or documents that were erased exactly since (and those are not to come back), or
        nothing would change.
    """
    live, old = live_snapshot(session), read_snapshot(session, snapshot_id)
    purged = {
        state.domain: state.label
        for state in old.domains
        if any(segment.is_purged for segment in read_chain(session, state.version))
    }
    if purged and not without_purged:
        gone = ", ".join(f"{name} {label}" for name, label in sorted(purged.items()))
        out = [f"{s.domain}, live at {s.label}" for s in live.domains if s.domain in purged]
        also = f", which takes {'; '.join(out)}, out of the store" if out else ""
        raise StateError(
            f"snapshot {snapshot_id} holds versions that were purged ({gone}), whose bytes are "
            f"gone; restore it without them: `peer-cl rollback --to {snapshot_id} "
            f"--without-purged`{also}"
        )
    states = tuple(state for state in old.domains if state.domain not in purged)
    if states == live.domains:
        raise StateError(f"snapshot {snapshot_id} has the same content as the live one ({live.id})")
    if not with_erased:
        command = f"peer-cl rollback --to {snapshot_id}{' --without-purged' if purged else ''}"
        check_unerased(session, states, f"snapshot {snapshot_id}", command)
    snapshot = commit_snapshot(session, states, action="rollback", who=who, why=why)
    settle(session, states)
    return snapshot


def _commit_changed(
    session: Session, changed: DomainState, *, action: str, who: str, why: str
) -> Snapshot:
    """Commit the live snapshot with one domain's state changed."""
    states = [
        changed if state.domain == changed.domain else state
        for state in live_snapshot(session).domains
    ]
    return commit_snapshot(session, states, action=action, who=who, why=why, domain=changed.domain)


def _earlier_segment(session: Session, state: DomainState, version: str) -> Segment:
    """Return the segment to go back to."""
    wanted = resolve_version(session, state.domain, version)
    if wanted == state.version:
        raise StateError(f"{state.domain} is at {state.label} already")
    chain = read_chain(session, state.version)
    for segment in chain:
        if segment.id == wanted:
            return segment
    labels = ", ".join(segment.label for segment in chain[:-1]) or "none"
    raise StateError(
        f"{state.domain} is at {state.label} and {version!r} is no earlier part of it "
        f"(earlier ones: {labels}); restore a snapshot that had it with "
        "`peer-cl rollback --to SNAPSHOT`"
    )
