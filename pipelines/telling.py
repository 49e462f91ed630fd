"""How the process of a job tells the store how far it is, and hears that it is to stop."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from types import TracebackType

from peer_cl.errors import PeerError
from pipelines.loss_curve import LossCurve
from pipelines.progress import LossNote
from stores import Registry
from stores.records import JobProgress

EVERY_SECONDS = 0.5
_BEATS_WITHOUT_NEWS = 4
"""While there is nothing new, it says that it is alive only every so many times."""
_log = logging.getLogger(__name__)


class JobCancelled(Exception):  # noqa: N818
    """A person, or the system by SIGTERM, wants the job to stop."""


class Teller:
    """A Progress that is written to a job's row about twice a second, from a thread of its own.

    The work itself never waits for the disk. Where the job is to stop, the work's next word of
    progress raises a JobCancelled.

    Args:
        registry: an open store.
        job_id: whose progress it is.
        every: seconds between two writes.
    """

    def __init__(self, registry: Registry, job_id: str, *, every: float = EVERY_SECONDS) -> None:
        self._registry, self._job_id, self._every = registry, job_id, every
        self._lock = threading.Lock()
        self._now = JobProgress(what="starting", done=0, total=0, since=time.time())
        self._is_told = False
        self._curve = LossCurve()
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="job-teller", daemon=True)

    def __call__(self, what: str, done: int, total: int, note: str) -> None:
        """Note how far a piece of work is; see `pipelines.progress.Progress`.

        Raises: JobCancelled: when the job is to stop.
        """
        self.check()
        with self._lock:
            before = self._now
            is_new = what != before.what or done < before.done
            if isinstance(note, LossNote):
                self._curve.add(done, note.nats)
            self._now = JobProgress(
                what=what,
                done=done,
                total=total,
                note=str(note),
                since=time.time() if is_new else before.since,
                done_at_first=done if is_new else before.done_at_first,
            )
            self._is_told = False

    def check(self) -> None:
        """Raise a JobCancelled when the job is to stop."""
        if self._stopped.is_set():
            raise JobCancelled

    def stop(self, *_: object) -> None:
        """Make the job stop at its next word of progress; serves as a signal handler."""
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Wait, or raise a JobCancelled as soon as the job is to stop."""
        self._stopped.wait(seconds)
        self.check()

    def __enter__(self) -> Teller:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._tell(is_forced=True)

    def _beat(self) -> None:
        """Tell until the work has ended."""
        silent = 0
        while not self._ended.wait(self._every):
            silent = 0 if self._tell(is_forced=silent >= _BEATS_WITHOUT_NEWS) else silent + 1

    def _tell(self, *, is_forced: bool) -> bool:
        """Write what is new, or that the process is alive; return whether anything was written."""
        with self._lock:
            news = None if self._is_told else replace(self._now, losses=self._curve.points())
            self._is_told = True
        if news is None and not is_forced:
            return False
        try:
            if self._registry.jobs.tell(self._job_id, news):
                self._stopped.set()
        except PeerError as error:
            _log.warning("progress could not be written once: %s", error)
        return True
