"""Jobs: work in processes of their own, whose state is in the store and survives all who look.

Writing needs no lease, as a job tells of itself while another writer may be at work. That a job is
lost is never written by its process: it is seen by whoever looks, from the process that is gone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from peer_cl.errors import StateError, UnknownError
from stores.batches import batches
from stores.chains import MIN_PREFIX
from stores.clock import utc_now
from stores.leases import goes_on, is_recent, this_host
from stores.processes import process_birth
from stores.queries import Job, RunSpeed
from stores.records import ROWS, JobProgress, NewJob
from stores.schema import DocumentRow, JobRow, RunRow, SegmentDocumentRow, SegmentRow

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
LOST = "lost"
OPEN = (WAITING, RUNNING)
ENDS = (DONE, FAILED, CANCELLED)
SOURCES = ("corpus", "facts", "rewordings")
"""Parts of a request that name what an ingest reads: an upload, or a path."""
PURGED = "what it was about was purged meanwhile"
NAMED = "its error named a document that was purged since"
_SHORT = 12
"""Digits of a document's id that messages show at least."""
_ID = re.compile(rf"[0-9a-f]{{{_SHORT},64}}")


def add_job(session: Session, new: NewJob) -> Job:
    """Write a job that waits for its process and its turn."""
    row = JobRow(
        id=new.job_id,
        kind=new.kind,
        domain=new.domain,
        request=new.request,
        who=new.who,
        why=new.why,
        state=WAITING,
        host=this_host(),
        born="",
        created_at=utc_now(),
        heartbeat=time.time(),
        what="",
        done=0,
        total=0,
        note="",
        since=0.0,
        done_at_first=0,
        losses=[],
    )
    session.add(row)
    session.flush()
    return to_job(row)


def assign_job(session: Session, job_id: str, pid: int) -> Job:
    """Write which process of this machine does a job, if it has not come to its end already."""
    row = find_row(session, job_id)
    if row.state in OPEN:
        row.pid, row.host, row.born = pid, this_host(), process_birth(pid) or ""
        row.heartbeat = time.time()
    return to_job(row)


def start_job(session: Session, job_id: str) -> Job:
    """Write that a job's turn has come."""
    row = _open_row(session, job_id)
    row.state, row.started_at, row.heartbeat = RUNNING, utc_now(), time.time()
    return to_job(row)


def tell_job(session: Session, job_id: str, progress: JobProgress | None) -> bool:
    """Write how far a job is, and return whether it is to stop.

    Args:
        session: a writing session.
        job_id: its whole id.
        progress: None where there is nothing new: its process says that it is alive.
    """
    row = _open_row(session, job_id)
    row.heartbeat = time.time()
    if progress is not None and row.request:
        row.what, row.done, row.total = progress.what, progress.done, progress.total
        row.note, row.since = progress.note, progress.since
        row.done_at_first = progress.done_at_first
        row.losses = [list(item) for item in progress.losses]
    return row.cancel_asked_at is not None


def end_job(
    session: Session,
    job_id: str,
    state: str,
    *,
    note: str = "",
    error: str | None = None,
    snapshot_id: int | None = None,
) -> Job:
    """Write how a job ended.

    Args:
        session: a writing session.
        job_id: its whole id.
        state: done, failed or cancelled.
        note: said beside it.
        error: what went wrong, in one line.
        snapshot_id: what it made, or evaluated; None: what was recorded before.
    """
    if state not in ENDS:
        raise StateError(f"a job ends as one of {', '.join(ENDS)}, not as {state!r}")
    row = _open_row(session, job_id)
    row.state, row.ended_at, row.heartbeat = state, utc_now(), time.time()
    row.note, row.snapshot_id = note, snapshot_id or row.snapshot_id
    row.error = " ".join(error.split()) if error is not None else None
    if not row.request:  # purged: an error may name a file, a note what was in it
        row.note, row.error = "", PURGED if error is not None else None
    return to_job(row)


def ask_cancel(session: Session, text: str) -> Job:
    """Ask a job to stop; it does at its next step.

    Raises: StateError: when it has ended, or is lost.
    """
    row = find_row(session, text)
    job = to_job(row)
    if not job.is_open:
        told = "its process is gone" if job.state == LOST else f"it is {job.state}"
        raise StateError(f"job {job.id[:12]} cannot be cancelled: {told}; see `peer-cl jobs`")
    row.cancel_asked_at = row.cancel_asked_at or utc_now()
    return to_job(row)


def read_job(session: Session, text: str) -> Job:
    """Return the job that an id, or its beginning, means."""
    return to_job(find_row(session, text))


def read_jobs(
    session: Session, limit: int | None = None, *, only_open: bool = False
) -> tuple[Job, ...]:
    """Return jobs, the newest first.

    Args:
        session: a reading session.
        limit: at most so many.
        only_open: those that wait or run; no lost one.
    """
    query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
    if only_open:
        query = query.where(JobRow.state.in_(OPEN))
    found = (to_job(row) for row in session.scalars(query))
    return tuple(job for job in found if job.is_open or not only_open)


def read_run_speeds(session: Session, limit: int) -> tuple[RunSpeed, ...]:
    """Return how long the last training runs took, the newest first; purged ones tell nothing."""
    facts = (
        select(func.coalesce(func.sum(DocumentRow.num_tokens), 0))
        .join(SegmentDocumentRow, SegmentDocumentRow.document_id == DocumentRow.id)
        .where(SegmentDocumentRow.segment_id == SegmentRow.id, SegmentDocumentRow.kind == "fact")
        .scalar_subquery()
    )
    query = (
        select(RunRow.config, RunRow.seconds, SegmentRow.num_tokens, facts)
        .join(SegmentRow, SegmentRow.run_id == RunRow.id)
        .where(
            SegmentRow.kind == ROWS,
            SegmentRow.purged_at.is_(None),
            SegmentRow.num_tokens > 0,
            RunRow.seconds > 0,
        )
        .order_by(SegmentRow.created_at.desc())
        .limit(limit)
    )
    return tuple(
        RunSpeed(
            num_tokens=num_tokens,
            num_fact_tokens=int(num_fact_tokens),
            seconds=seconds,
            text_passes=float(config.get("text_passes", 1.0)),
            fact_passes=float(config.get("fact_passes", 1.0)),
            least_steps=int(config.get("least_steps", 1)),
            tokens_per_step=int(config.get("tokens_per_step", 1)),
        )
        for config, seconds, num_tokens, num_fact_tokens in session.execute(query)
    )


def end_lost(session: Session) -> tuple[Job, ...]:
    """End the jobs whose process is gone as failed, and return them as they were."""
    rows = session.scalars(select(JobRow).where(JobRow.state.in_(OPEN))).all()
    lost = [(row, job) for row in rows if (job := to_job(row)).state == LOST]
    for row, _ in lost:
        row.state, row.ended_at = FAILED, utc_now()
        row.error = "its process was gone before it ended"
    return tuple(job for _, job in lost)


def doomed_jobs(session: Session, domain: str, *, with_open: bool) -> tuple[str, ...]:
    """Return the ids of a domain's jobs out of which a purge takes what names its corpus.

    Args:
        session: any session.
        domain: the domain's name.
        with_open: also those that wait or run.
    """
    rows = session.scalars(select(JobRow).where(JobRow.domain == domain))
    return tuple(row.id for row in rows if with_open or not to_job(row).is_open)


def blank_jobs(session: Session, job_ids: Iterable[str]) -> tuple[str, ...]:
    """Take out of jobs what names a corpus; return the uploads that they named.

    Args:
        session: a writing session.
        job_ids: of `doomed_jobs`; those that wait or run then stop.
    """
    uploads: list[str] = []
    for row in _rows(session, job_ids):
        if to_job(row).is_open:
            row.cancel_asked_at = row.cancel_asked_at or utc_now()
        uploads += uploads_of(row.request)
        row.request, row.note, row.losses = {}, "", []
        row.error = None if row.error is None else PURGED
    return tuple(uploads)


def blank_mentions(session: Session, document_ids: Iterable[str]) -> None:
    """Take out of all jobs what names some documents, in full or in short.

    A job that is to erase one of them stops: it is gone.

    Args:
        session: a writing session.
        document_ids: full ids of documents that are purged.
    """
    gone = {document_id[:_SHORT] for document_id in document_ids}
    for row in session.scalars(select(JobRow)):
        if any(named[:_SHORT] in gone for named in row.request.get("documents", ())):
            if to_job(row).is_open:
                row.cancel_asked_at = row.cancel_asked_at or utc_now()
            row.request = {}
        if _names_any(row.note, gone):
            row.note = ""
        if row.error is not None and _names_any(row.error, gone):
            row.error = NAMED


def _names_any(text: str, gone: Collection[str]) -> bool:
    return any(found[:_SHORT] in gone for found in _ID.findall(text))


def count_unblanked(session: Session, job_ids: Iterable[str]) -> int:
    """Return how many of some jobs still name a corpus, those apart that wait or run."""
    return sum(_names_corpus(row) for row in _rows(session, job_ids) if not _is_open(row))


def _rows(session: Session, job_ids: Iterable[str]) -> Iterator[JobRow]:
    for batch in batches(job_ids):
        yield from session.scalars(select(JobRow).where(JobRow.id.in_(batch)))


def has_named(session: Session, domain: str) -> bool:
    """Return whether any job of a domain, ended or not, names its corpus."""
    rows = session.scalars(select(JobRow).where(JobRow.domain == domain))
    return any(_names_corpus(row) for row in rows)


def _names_corpus(row: JobRow) -> bool:
    return bool(row.request or row.note or row.losses)


def needed_jobs(session: Session) -> tuple[Job, ...]:
    """Return the jobs whose uploads and logs are kept: open ones, and those to be started again.

    A failed or lost one is done with where its domain was purged, or a later one did its work.
    """
    jobs = read_jobs(session)
    return tuple(
        job
        for job in jobs
        if job.is_open
        or (
            job.state in (FAILED, LOST)
            and job.request
            and not any(_does_work_of(other, job) for other in jobs)
        )
    )


def needed_uploads(session: Session) -> set[str]:
    """Return the names of the uploads that a job is still to read, or may be started again from."""
    needed = (job for job in needed_jobs(session) if not job.is_unmeasured)
    return {name for job in needed for name in uploads_of(job.request)}


def _does_work_of(job: Job, failed: Job) -> bool:
    """Return whether a job has done what one that was asked for earlier did not."""
    if (job.created_at, job.id) <= (failed.created_at, failed.id):
        return False
    if failed.kind == "evaluate" or failed.is_unmeasured:
        return job.kind == "evaluate" and job.state == DONE
    has_learned = job.state == DONE or job.is_unmeasured
    same = (job.kind, job.domain) == (failed.kind, failed.domain)
    return has_learned and same and _sources(failed.request) <= _sources(job.request)


def _sources(request: dict[str, Any]) -> set[str]:
    """Return what a request is about: names of uploads, paths, and documents to erase."""
    told = (request.get(part) or {} for part in SOURCES)
    read = {place for about in told for key in ("upload", "path") if (place := about.get(key))}
    return read.union(request.get("documents", ()))


def uploads_of_others(session: Session, domain: str) -> set[str]:
    """Return the names of the uploads of other domains' jobs: a failed one may be started again."""
    rows = session.scalars(select(JobRow).where(JobRow.domain != domain))
    return {name for row in rows for name in uploads_of(row.request)}


def uploads_of(request: dict[str, Any]) -> Iterator[str]:
    """Yield the names, in staging, of the uploads that a request is about."""
    for part in SOURCES:
        source = request.get(part)
        if source is not None and source.get("upload"):
            yield source["upload"]


def find_row(session: Session, text: str) -> JobRow:
    """Return the row that a job's id, or the first six or more digits of it, means.

    Raises: UnknownError: when none fits, or several do.
    """
    wanted = text.strip().lower()
    query = select(JobRow).where(JobRow.id.startswith(wanted, autoescape=True)).limit(2)
    found = session.scalars(query).all() if len(wanted) >= MIN_PREFIX else []
    if len(found) > 1:
        raise UnknownError(f"several jobs' ids begin with {text!r}; write more of it")
    if not found:
        raise UnknownError(
            f"no job {text[:80]!r}; its first {MIN_PREFIX} digits or more are enough: see "
            "`peer-cl jobs`"
        )
    return found[0]


def _open_row(session: Session, job_id: str) -> JobRow:
    """Return the row of a job that has not ended."""
    row = find_row(session, job_id)
    if row.state not in OPEN:
        raise StateError(f"job {row.id[:12]} has ended ({row.state})")
    return row


def _is_open(row: JobRow) -> bool:
    return row.state in OPEN and _is_alive(row)


def _is_alive(row: JobRow) -> bool:
    """Return whether a job's process must be believed to go on."""
    if row.pid is None:
        return is_recent(row.heartbeat)
    return goes_on(row.host, row.pid, row.born, row.heartbeat)


def to_job(row: JobRow) -> Job:
    """Return a job as readers get it; this is where a lost one is told."""
    is_lost = row.state in OPEN and not _is_alive(row)
    return Job(
        id=row.id,
        kind=row.kind,
        domain=row.domain,
        request=row.request,
        who=row.who,
        why=row.why,
        state=LOST if is_lost else row.state,
        pid=row.pid,
        host=row.host,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        is_cancel_asked=row.cancel_asked_at is not None,
        heartbeat=row.heartbeat,
        what=row.what,
        done=row.done,
        total=row.total,
        note=row.note,
        since=row.since,
        done_at_first=row.done_at_first,
        losses=tuple((int(step), float(nats)) for step, nats in row.losses),
        error=row.error,
        snapshot_id=row.snapshot_id,
    )
