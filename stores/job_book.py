"""A store's book of jobs; writing into it needs no lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session

from stores import jobs
from stores.database import Database
from stores.queries import Job, RunSpeed
from stores.records import JobProgress, NewJob


class JobBook:
    """What work in processes of its own was asked for, and how far it is.

    Args:
        database: the registry's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._doing: str | None = None

    def add(self, new: NewJob) -> Job:
        """Write a job that waits for its process and its turn."""
        with self._database.writing() as session:
            return jobs.add_job(session, new)

    def assign(self, job_id: str, pid: int) -> Job:
        """Write which process of this machine does a job."""
        with self._database.writing() as session:
            return jobs.assign_job(session, job_id, pid)

    def start(self, job_id: str) -> Job:
        """Write that a job's turn has come."""
        with self._database.writing() as session:
            return jobs.start_job(session, job_id)

    def tell(self, job_id: str, progress: JobProgress | None) -> bool:
        """Write how far a job is (None: that it is alive); return whether it is to stop."""
        with self._database.writing() as session:
            return jobs.tell_job(session, job_id, progress)

    @contextmanager
    def doing(self, job_id: str) -> Iterator[None]:
        """Have what this registry commits meanwhile written down as a job's, in one transaction.

        However its process ends then, it is known whether the job has learned.
        """
        self._doing = job_id
        try:
            yield
        finally:
            self._doing = None

    def note(self, session: Session, before: int, after: int) -> None:
        """Write which snapshot the job that is being done has made, where one is and it made one.

        Args:
            session: the act's own.
            before: the live snapshot when the act began.
            after: the live snapshot now.
        """
        if self._doing is not None and after != before:
            jobs.find_row(session, self._doing).snapshot_id = after

    def end(self, job_id: str, state: str, **outcome: Any) -> Job:
        """Write how a job ended; see `jobs.end_job`."""
        with self._database.writing() as session:
            return jobs.end_job(session, job_id, state, **outcome)

    def ask_cancel(self, job: str) -> Job:
        """Ask a job (an id, or its beginning) to stop at its next step."""
        with self._database.writing() as session:
            return jobs.ask_cancel(session, job)

    def find(self, job: str) -> Job:
        """Return the job that an id, or its beginning, means."""
        with self._database.reading() as session:
            return jobs.read_job(session, job)

    def listed(self, limit: int | None = None, *, only_open: bool = False) -> tuple[Job, ...]:
        """Return jobs, the newest first; with `only_open`, those that wait or run."""
        with self._database.reading() as session:
            return jobs.read_jobs(session, limit, only_open=only_open)

    def run_speeds(self, limit: int) -> tuple[RunSpeed, ...]:
        """Return how long the last training runs took, the newest first."""
        with self._database.reading() as session:
            return jobs.read_run_speeds(session, limit)

    def needed_uploads(self) -> set[str]:
        """Return the names of the uploads that are kept for jobs; see `jobs.needed_uploads`."""
        with self._database.reading() as session:
            return jobs.needed_uploads(session)
