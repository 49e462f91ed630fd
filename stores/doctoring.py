"""What a check of the store finds, and what it may repair: only leftovers and caches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError
from stores.claims import Claim
from stores.config import StoreConfig
from stores.database import Database, translated_errors
from stores.index_files import SIGNATURES, index_state, remove_index
from stores.jobs import LOST, end_lost, needed_jobs, needed_uploads, read_jobs, uploads_of
from stores.layout import StoreLayout
from stores.leases import Acting, read_holder, remove_files, remove_objects
from stores.objects import ObjectStore
from stores.queries import Finding
from stores.references import needed_objects
from stores.schema import SegmentRow, SnapshotDomainRow
from stores.snapshots import live_id, live_snapshot

DATABASE = "database"
"""The kind of what is found of the registry's file."""


def check_lease(database: Database) -> tuple[Finding, ...]:
    """Return what is to be said about the lease, if anything."""
    with database.reading() as session:
        holder = read_holder(session)
    if holder is None:
        return ()
    if holder.is_alive:
        what = f"the store is being written by {holder}"
        return (Finding("lease", "note", what, "leftovers are not looked for meanwhile"),)
    what = f"the writer {holder} ended without giving its lease back"
    return (Finding("lease", "warning", what, "the next writer takes it over"),)


def examine(
    database: Database,
    objects: ObjectStore,
    layout: StoreLayout,
    config: StoreConfig,
    claim: Claim,
    *,
    is_quiet: bool,
    acting: Acting | None = None,
    drops: bool = False,
) -> tuple[Finding, ...]:
    """Check rows, objects, index and leftovers.

    Args:
        database: The registry; its file is whole (see `check_registry`).
        objects: The object store.
        layout: Where things lie.
        config: What was fixed at `init`.
        claim: Whether this registry may say what of the objects is a leftover.
        is_quiet: Nobody else writes: what nothing names is a leftover.
        acting: Makes sure of the lease, to remove leftovers and unusable index files; None: nothing
            is removed.
        drops: Remove also what ingests that did not finish, and failed jobs, could go on from.

    Raises: StoreLockedError: when another writer took the lease over meanwhile.
    """
    found = list(_check_references(database))
    with database.reading() as session:
        found += _check_live(session)
        needed = needed_objects(session, config)
        live = live_snapshot(session)
    found += _check_objects(objects, needed)
    found += (shared := claim.findings())
    found += _check_index(layout, live.index_tag, bool(live.domains), acting=acting)
    found += _check_foreign(layout)
    found += _check_old_copies(database, layout, acting=acting)
    if is_quiet:
        dropping = acting if drops else None
        found += _check_checkpoints(layout, acting=dropping)
        found += _check_leftovers(layout, acting=acting)
        found += _check_jobs(database, acting=acting)
        found += _check_job_files(database, layout, acting=acting, dropping=dropping)
        if not shared:  # what a copy has learned since is no leftover
            found += _check_unreferenced(objects, set(needed), acting=acting)
    if acting is not None:
        database.compact()
    return tuple(found)


def check_registry(database: Database) -> tuple[Finding, ...]:
    """Return SQLite's own verdict on the registry's file; a server checks itself.

    Where it finds anything, no row can be relied on, and nothing is to be looked up or removed.
    """
    if not database.is_sqlite:
        return ()
    verdicts: list[str] = []
    try:
        with database.engine.connect() as connection:
            verdicts += connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars()
    except DatabaseError as error:  # a page that even the check cannot read
        verdicts.append(" ".join(str(error.orig).split()))
    return tuple(
        Finding(DATABASE, "error", f"the registry is damaged: {verdict}", _FROM_A_COPY)
        for verdict in dict.fromkeys(" ".join(verdict.split()) for verdict in verdicts)
        if verdict != "ok"
    )


def check_named_objects(objects: ObjectStore) -> tuple[Finding, ...]:
    """Return which objects are not what their own names say: all that a damaged registry leaves."""
    return tuple(_check_objects(objects, dict.fromkeys(objects.listed(), "of an unknown use")))


def _check_references(database: Database) -> Iterator[Finding]:
    """Rows that refer to nothing."""
    if not database.is_sqlite:
        return
    with translated_errors(database.name), database.engine.connect() as connection:
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        what = f"{len(broken)} rows refer to nothing, the first in {broken[0][0]}"
        yield Finding("rows", "error", what, "restore the registry from a copy")


def _check_live(session: Session) -> Iterator[Finding]:
    """The live snapshot must not hold tombstones."""
    query = (
        select(SegmentRow)
        .join(SnapshotDomainRow, SnapshotDomainRow.segment_id == SegmentRow.id)
        .where(SnapshotDomainRow.snapshot_id == live_id(session))
    )
    for row in session.scalars(query):
        if row.purged_at is not None:
            what = f"the live snapshot holds the purged segment {row.id}"
            yield Finding("snapshot", "error", what, "roll its domain back")


def _check_objects(objects: ObjectStore, needed: dict[str, str]) -> Iterator[Finding]:
    """Every object that a row names must be there with the right bytes."""
    for object_id, user in sorted(needed.items()):
        try:
            objects.verify(object_id)
        except DamageError:
            kind, what = "missing", f"object {object_id} ({user}) is missing"
            if objects.exists(object_id):
                kind = "damaged"
                what = f"object {object_id} ({user}) is damaged: its bytes have another hash"
            yield Finding(f"object {kind}", "error", what, "restore it from a copy")
        except OSError as error:
            what = f"object {object_id} ({user}) cannot be read: {error.strerror or error}"
            yield Finding("object unreadable", "error", what, _UNREADABLE)


def _check_unreferenced(
    objects: ObjectStore, needed: set[str], *, acting: Acting | None
) -> Iterator[Finding]:
    """Objects that no row names: an ingest died between writing and committing them."""
    extra = {found: size for found, size in objects.listed().items() if found not in needed}
    if not extra:
        return
    if acting is not None:
        remove_objects(objects, extra, acting)
    what = f"{len(extra)} objects ({sum(extra.values()):,} bytes) are named by nothing"
    yield Finding("object unreferenced", "note", what, _done(acting))


def _check_foreign(layout: StoreLayout) -> Iterator[Finding]:
    """What no store writes into these folders is a person's, and only a person may remove it."""
    foreign = layout.foreign()
    if foreign:
        what = f"{layout.folder} holds {layout.shown(foreign)}, not written by peer-cl"
        yield Finding("foreign file", "warning", what, "it is left alone; move it elsewhere")


def _check_old_copies(
    database: Database, layout: StoreLayout, *, acting: Acting | None
) -> Iterator[Finding]:
    """Copies made before a migration that hold what was purged since: a purge was killed."""
    with database.reading() as session:
        query = select(SegmentRow.id).where(SegmentRow.purged_at.is_not(None))
        purged = set(session.scalars(query))
    holding = [path for path in layout.old_copies() if purged & _unpurged(path, purged)]
    if not holding:
        return
    if acting is not None:
        remove_files(holding, acting)
    what = f"{layout.shown(holding)} holds what was purged; the purge did not finish"
    yield Finding("old copy", "warning", what, _done(acting))


def _unpurged(path: Path, otherwise: set[str]) -> set[str]:
    """Return the segments that a copy of the registry holds; `otherwise`, where it cannot say."""
    # Immutable: SQLite then writes no files beside the copy.
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as copy:
            found = copy.execute("SELECT id FROM segments WHERE purged_at IS NULL").fetchall()
    except sqlite3.DatabaseError:
        return otherwise
    return {segment_id for (segment_id,) in found}


def _check_checkpoints(layout: StoreLayout, *, acting: Acting | None) -> Iterator[Finding]:
    """Ingests that were killed: hours of training may lie in their checkpoints."""
    for path in layout.checkpoints():
        what = f"an ingest, or an exact erasure, did not finish; its checkpoint is {path}"
        action = _GOES_ON
        if acting is not None:
            remove_files([path], acting)
            action = _BEGINS_ANEW
        yield Finding("unfinished ingest", "note", what, action)


def _check_leftovers(layout: StoreLayout, *, acting: Acting | None) -> Iterator[Finding]:
    """Files in the making, of a writer that is no more."""
    leftovers = layout.leftovers()
    if not leftovers:
        return
    if acting is not None:
        remove_files(leftovers, acting)
    what = f"{len(leftovers)} leftovers in {layout.folder} ({layout.shown(leftovers)})"
    yield Finding("leftovers", "note", what, _done(acting))


def _check_jobs(database: Database, *, acting: Acting | None) -> Iterator[Finding]:
    """Jobs whose process is gone without an end."""
    if acting is not None:
        with acting() as session:
            lost = end_lost(session)
    else:
        with database.reading() as session:
            lost = tuple(job for job in read_jobs(session) if job.state == LOST)
    for job in lost:
        what = f"job {job.id[:12]} ({job.kind} {job.domain or ''}".rstrip() + ") has no process"
        if job.is_unmeasured:
            done = "was erased from" if job.kind == "erase" else "has learned it,"
            what += f"; {job.domain} {done} in snapshot {job.snapshot_id}, not measured"
        if acting is not None:
            action = "written down as failed"
        else:
            action = f"{'evaluate the store' if job.is_unmeasured else 'start it again'}; {_LOST}"
        yield Finding("job lost", "warning", what, action)


def _check_job_files(
    database: Database, layout: StoreLayout, *, acting: Acting | None, dropping: Acting | None
) -> Iterator[Finding]:
    """Uploads and logs of jobs that have ended; of failed and lost ones they are kept."""
    found = layout.job_files()  # before the jobs are read: a job comes before its files
    with database.reading() as session:
        needed = needed_jobs(session)
        kept = needed_uploads(session) | {layout.job_log(job.id).name for job in needed}
        waiting = {layout.job_log(job.id).name for job in needed if job.is_open}
        waiting |= {name for job in needed if job.is_open for name in uploads_of(job.request)}
    extra = [path for path in found if path.name not in kept]
    if extra:
        if acting is not None:
            remove_files(extra, acting)
        what = f"{len(extra)} uploads or logs of jobs that have ended ({layout.shown(extra)})"
        yield Finding("job files", "note", what, _done(acting))
    failed = [path for path in found if path.name in kept - waiting]
    if failed:
        if dropping is not None:
            remove_files(failed, dropping)
        what = f"{len(failed)} uploads or logs of failed or lost jobs ({layout.shown(failed)})"
        action = _KEPT if dropping is None else "removed"
        yield Finding("failed job files", "note", what, action)


def _check_index(
    layout: StoreLayout, tag: str, has_domains: bool, *, acting: Acting | None
) -> Iterator[Finding]:
    """The index is a cache: whatever is wrong with it, it is rebuilt when needed next."""
    state = index_state(layout.index, SIGNATURES, tag)
    if state == "fresh" or (state == "missing" and not has_domains):
        return
    if acting is not None:
        remove_index(layout.index, SIGNATURES)
    severity = "warning" if state == "damaged" else "note"
    yield Finding(f"index {state}", severity, f"the signature index is {state}", _REBUILT)


_FROM_A_COPY = "restore it from a copy"
_UNREADABLE = "see to its permissions and the disk, or restore it from a copy"
_LOST = "`peer-cl doctor --repair` writes it down as failed"
_REBUILT = "it is rebuilt when it is needed next"
_DROPS = "`peer-cl doctor --repair --drop-unfinished` removes"
_GOES_ON = f"the same `peer-cl` command goes on from it; {_DROPS} it"
_KEPT = f"kept, so that the jobs can be started again; {_DROPS} them"
_BEGINS_ANEW = "removed; the same `peer-cl` command begins anew"


def _done(acting: Acting | None) -> str:
    """Return what is said about leftovers."""
    return "removed" if acting is not None else "run `peer-cl doctor --repair` to remove them"
