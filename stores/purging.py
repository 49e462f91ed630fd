"""Purge: a domain's bytes are deleted, and looked for afterwards.

First one transaction turns the segments into tombstones; from then on nothing names the bytes, and
whatever a crash leaves of them is unreferenced, which `doctor` removes. Then the files go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Result, delete, func, select, update
from sqlalchemy.orm import Session

from peer_cl.durable import read_chunks
from peer_cl.errors import DamageError, StateError
from stores.batches import batches
from stores.chains import read_chain
from stores.clock import utc_now
from stores.config import StoreConfig
from stores.database import Database
from stores.erased import forget_domain
from stores.jobs import (
    blank_jobs,
    blank_mentions,
    count_unblanked,
    doomed_jobs,
    has_named,
    needed_jobs,
    needed_uploads,
    uploads_of_others,
)
from stores.layout import StoreLayout
from stores.leases import Acting, remove_objects
from stores.objects import ObjectStore
from stores.queries import PurgeResult
from stores.references import needed_objects
from stores.schema import (
    DocumentRow,
    DocumentUseRow,
    DomainRow,
    EvaluationRow,
    ExpertUseRow,
    JobRow,
    RunRow,
    ScoreRow,
    SegmentDocumentRow,
    SegmentRow,
    SnapshotDomainRow,
)
from stores.snapshots import add_event, find_domain, live_id, live_snapshot

_HEX_RUN = re.compile(rb"[0-9a-f]{64,}")


@dataclass(frozen=True)
class Grave:
    """What a committed purge has taken out of the registry, and is now to be erased."""

    domain: str
    segment_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    object_ids: frozenset[str] = frozenset()
    uploads: frozenset[str] = frozenset()
    job_ids: tuple[str, ...] = ()
    num_scores: int = 0
    num_evaluations: int = 0
    snapshots: tuple[int, ...] = ()


def bury(
    session: Session,
    domain: str,
    layout: StoreLayout,
    *,
    who: str,
    why: str,
    retired: bool = False,
) -> Grave:
    """Turn a domain's segments into tombstones within the session's transaction.

    Of a domain that is purged already none are left, and `erase` goes on where a kill ended it. Of
    one that never came, since its ingest failed, only jobs and files are there.

    Args:
        session: a writing session.
        domain: the domain's name.
        layout: where checkpoints lie.
        who: who purges.
        why: in the person's words.
        retired: of a live domain, the segments that are in no live version.

    Raises: StateError: when the domain is live (with `retired`: is not), or nothing was ever purged
        and nothing is to be.
    """
    if not retired and _never_came(session, domain, layout):
        job_ids = doomed_jobs(session, domain, with_open=True)
        uploads = blank_jobs(session, job_ids)
        return Grave(domain, uploads=frozenset(uploads), job_ids=job_ids)
    row = find_domain(session, domain)
    segments = _doomed(session, row, retired=retired, again=True)
    ids = [segment.id for segment in segments]
    objects = {segment.pool_object for segment in segments}
    objects |= {segment.signature_object for segment in segments}
    objects |= {segment.use_object for segment in segments if segment.use_object}
    objects |= set(_text_objects(session, ids))
    _remove_uses(session, ids)
    removed = _remove_documents(session, ids)
    if not retired:
        forget_domain(session, row.id)
    snapshots = _snapshots_with(session, ids)
    job_ids = doomed_jobs(session, domain, with_open=not retired)
    uploads = blank_jobs(session, job_ids)
    blank_mentions(session, removed)
    _mark(session, segments)
    if segments:
        add_event(session, live_id(session), row.id, None, action="purge", who=who, why=why)
    return Grave(
        domain=domain,
        segment_ids=tuple(ids),
        document_ids=tuple(removed),
        object_ids=frozenset(objects),
        uploads=frozenset(uploads),
        job_ids=job_ids,
        num_scores=_remove_scores(session, ids, removed, foreign=bool(removed) or not retired),
        num_evaluations=_remove_evaluations(session, snapshots),
        snapshots=snapshots,
    )


def check_purgeable(
    session: Session,
    domain: str,
    layout: StoreLayout,
    *,
    retired: bool = False,
    again: bool = False,
) -> tuple[str, ...]:
    """Return the labels of the versions that `bury` would take, or raise what it would raise.

    Before anybody is asked whether it shall be done.

    Args:
        session: any session.
        domain: the domain's name.
        layout: where checkpoints lie.
        retired: as for `bury`.
        again: whether what was purged may be purged again, to finish it; else that is refused too.
    """
    if not retired and _never_came(session, domain, layout):
        if again or layout.has_checkpoint(domain) or has_named(session, domain):
            return ()
        raise StateError(f"domain {domain!r} never came, and nothing of it is left to delete")
    doomed = _doomed(session, find_domain(session, domain), retired=retired, again=again)
    return tuple(segment.label for segment in sorted(doomed, key=lambda one: one.ordinal))


def _never_came(session: Session, domain: str, layout: StoreLayout) -> bool:
    """Return whether all that is left of a name are jobs and checkpoints: no ingest ended well."""
    if session.scalar(select(DomainRow.id).where(DomainRow.name == domain)) is not None:
        return False
    job = session.scalar(select(JobRow.id).where(JobRow.domain == domain).limit(1))
    return job is not None or layout.has_checkpoint(domain)


def _doomed(session: Session, row: DomainRow, *, retired: bool, again: bool) -> list[SegmentRow]:
    """Return the segments that are to become tombstones; none where a purge is only finished."""
    domain, state = row.name, live_snapshot(session).state(row.name)
    if state is not None and not retired:
        raise StateError(
            f"domain {domain!r} is live; roll it back first with `peer-cl rollback {domain} "
            f"--out`, or delete what no live version holds with `peer-cl purge {domain} --retired`"
        )
    if state is None and retired:
        raise StateError(
            f"domain {domain!r} is not live, so all of it is retired: `peer-cl purge {domain}`"
        )
    ever = session.scalars(select(SegmentRow).where(SegmentRow.domain_id == row.id)).all()
    unpurged = [segment for segment in ever if segment.purged_at is None]
    kept = {segment.id for segment in read_chain(session, state.version)} if state else set()
    segments = [segment for segment in unpurged if segment.id not in kept]
    if segments or (again and len(unpurged) < len(ever)):
        return segments
    if not unpurged:
        raise StateError(f"domain {domain!r} is purged already; nothing of it is left to delete")
    raise StateError(
        f"every segment of domain {domain!r} that is left is live; there is nothing to delete"
    )


def _mark(session: Session, segments: Sequence[SegmentRow]) -> None:
    """Turn segments into tombstones, and empty what their runs say of the corpus."""
    runs = [segment.run_id for segment in segments]
    session.execute(update(RunRow).where(RunRow.id.in_(runs)).values(config={}, losses=[]))
    for segment in segments:
        segment.purged_at = utc_now()


def erase(
    grave: Grave,
    database: Database,
    objects: ObjectStore,
    layout: StoreLayout,
    config: StoreConfig,
    acting: Acting,
) -> PurgeResult:
    """Delete the bytes that no row needs any more, and prove that they are gone.

    Raises:
        StoreLockedError: when another writer took the lease over meanwhile.
        StateError: when a reader keeps the registry's old pages alive, or the objects cannot be
            reached.
        DamageError: when something is left; the message says what.
    """
    with database.reading() as session:
        needed = needed_objects(session, config)
    doomed = {found: size for found, size in objects.listed().items() if found not in needed}
    remove_objects(objects, doomed, acting)
    # Listed before the jobs are read: a server lets a new job in meanwhile, whose files come later.
    of_jobs = layout.job_files()
    with acting() as session:
        kept = needed_uploads(session) | uploads_of_others(session, grave.domain)
        # Of the domain's own jobs those that were left alone still have their request.
        others = [j for j in needed_jobs(session) if j.domain != grave.domain or j.request]
        logs = {layout.job_log(job.id).name for job in others}
        layout.forget(grave.domain, [path for path in of_jobs if path.name not in kept | logs])
    database.compact()
    _prove(grave, database, objects, layout, set(needed) | kept)
    return PurgeResult(
        domain=grave.domain,
        num_segments=len(grave.segment_ids),
        num_documents=len(grave.document_ids),
        num_scores=grave.num_scores,
        num_evaluations=grave.num_evaluations,
        num_objects=len(doomed),
        num_shared_objects=len(grave.object_ids & set(needed)),
        size_bytes=sum(doomed.values()),
        snapshots=grave.snapshots,
    )


def _prove(
    grave: Grave,
    database: Database,
    objects: ObjectStore,
    layout: StoreLayout,
    needed: set[str],
) -> None:
    """Look for what was to be deleted: among the objects, the rows, and in the raw file."""
    doomed = grave.object_ids - needed
    left = sorted(doomed - objects.missing(doomed))
    left += [name for name in grave.uploads - needed if (layout.staging / name).exists()]
    with database.reading() as session:
        links = select(SegmentDocumentRow.document_id)
        for batch in batches(grave.segment_ids):
            found = session.scalars(links.where(SegmentDocumentRow.segment_id.in_(batch)))
            left.extend(found)
        groups = set(session.scalars(select(SegmentDocumentRow.near_group)))
        left.extend(["a job's request"] * count_unblanked(session, grave.job_ids))
        num_scores = _count_scores(session, grave.segment_ids, grave.document_ids)
        left.extend(["a score"] * num_scores)
    if database.is_sqlite:
        wanted = {found.encode() for found in set(grave.document_ids) - groups}
        for path in sorted(layout.folder.glob(f"{layout.database.name}*")):
            left.extend(f"{found} in {path.name}" for found in find_traces(path, wanted))
    if left:
        raise DamageError(
            f"the purge of {grave.domain} left {len(left)} traces ({left[0]}, ...); close all "
            "readers and run `peer-cl doctor --repair`"
        )


def find_traces(path: Path, wanted: set[bytes]) -> list[str]:
    """Return which of some ids (64 hex digits each) stand anywhere in a file's raw bytes."""
    found: set[bytes] = set()
    tail = b""
    for chunk in read_chunks(path):
        for run in _HEX_RUN.findall(tail + chunk):
            starts = range(len(run) - 63)
            found |= {run[at : at + 64] for at in starts} & wanted
        tail = chunk[-63:]
    return sorted(item.decode() for item in found)


def _text_objects(session: Session, segment_ids: list[str]) -> Iterator[str]:
    """Yield the objects with the texts of the segments' documents."""
    query = select(SegmentDocumentRow.text_object)
    for object_id in session.scalars(query.where(SegmentDocumentRow.segment_id.in_(segment_ids))):
        if object_id is not None:
            yield object_id


def _remove_uses(session: Session, segment_ids: list[str]) -> None:
    """Remove which rows of the segments hold which documents."""
    for table in (DocumentUseRow, ExpertUseRow):
        for batch in batches(segment_ids):
            session.execute(delete(table).where(table.segment_id.in_(batch)))


def _remove_documents(session: Session, segment_ids: list[str]) -> list[str]:
    """Remove the links of the segments and the documents that nothing else links."""
    mine = SegmentDocumentRow.segment_id.in_(segment_ids)
    linked = set(session.scalars(select(SegmentDocumentRow.document_id).where(mine)))
    session.execute(delete(SegmentDocumentRow).where(mine))
    kept: set[str] = set()
    for batch in batches(linked):
        others = select(SegmentDocumentRow.document_id)
        kept |= set(session.scalars(others.where(SegmentDocumentRow.document_id.in_(batch))))
    removed = sorted(linked - kept)
    for batch in batches(removed):
        session.execute(delete(DocumentRow).where(DocumentRow.id.in_(batch)))
    return removed


def _remove_scores(
    session: Session, segment_ids: list[str], document_ids: list[str], *, foreign: bool
) -> int:
    """Remove the scores of the segments and those of the removed documents.

    With `foreign`, also all scores of background text: one may be of a removed document's text,
    from before it came, and which that is stands nowhere. The next evaluation computes them again.
    """
    conditions = _of_either(segment_ids, document_ids)
    if foreign:
        conditions.append(ScoreRow.document_id.is_(None))
    return sum(_count(session.execute(delete(ScoreRow).where(where))) for where in conditions)


def _count_scores(session: Session, segment_ids: Sequence[str], document_ids: Sequence[str]) -> int:
    """Return how many scores of segments or documents are there."""
    query = select(func.count()).select_from(ScoreRow)
    wheres = _of_either(segment_ids, document_ids)
    return sum(session.scalar(query.where(where)) or 0 for where in wheres)


def _of_either(
    segment_ids: Sequence[str], document_ids: Sequence[str]
) -> list[ColumnElement[bool]]:
    subjects = (ScoreRow.subject.in_(batch) for batch in batches(segment_ids))
    return [*subjects, *(ScoreRow.document_id.in_(batch) for batch in batches(document_ids))]


def _remove_evaluations(session: Session, snapshots: tuple[int, ...]) -> int:
    """Remove the reports of snapshots that held the domain: they may quote its texts."""
    return sum(
        _count(session.execute(delete(EvaluationRow).where(EvaluationRow.snapshot_id.in_(batch))))
        for batch in batches(snapshots)
    )


def _snapshots_with(session: Session, segment_ids: list[str]) -> tuple[int, ...]:
    """Return the snapshots that hold one of the segments as a version."""
    query = select(SnapshotDomainRow.snapshot_id).distinct()
    query = query.where(SnapshotDomainRow.segment_id.in_(segment_ids))
    return tuple(session.scalars(query.order_by(SnapshotDomainRow.snapshot_id)))


def _count(result: Result[Any]) -> int:
    """Return how many rows a statement touched."""
    return int(getattr(result, "rowcount", 0))
