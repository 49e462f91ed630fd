"""The process of a job: `python -m pipelines.run_job FOLDER JOB`, started by pipelines.jobs.

It waits for its turn, does the work, and writes how it ended. SIGTERM is a wish to cancel. Killed
outright it writes no end: whoever looks sees that the job is lost, and by its snapshot whether the
store was changed before.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peer_cl.errors import StoreLockedError
from pipelines.jobs import drop_uploads
from pipelines.quiet import get_ready
from pipelines.store import Store, open_store
from pipelines.system_errors import mendable
from pipelines.telling import JobCancelled, Teller
from pipelines.uploads import find_source
from stores import Job
from stores.jobs import CANCELLED, DONE, FAILED
from stores.patience import patiently

if TYPE_CHECKING:
    from pipelines.facts import Fact
    from pipelines.settings import TrainingSettings

WAIT_SECONDS = 1.0
"""Between two looks whether it is this job's turn."""
_log = logging.getLogger("peer_cl.job")


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: str
    note: str = ""
    error: str | None = None
    snapshot_id: int | None = None


@dataclass(frozen=True)
class Done:
    """What a job has changed in its store."""

    said: str
    snapshot_id: int


def main(arguments: Sequence[str]) -> int:
    """Run a job and return the process's exit code: 0 unless it failed.

    Args:
        arguments: the store's folder and the job's id.
    """
    folder, job_id = arguments
    get_ready()
    with open_store(folder) as store:
        job = store.registry.jobs.find(job_id)
        store.who = job.who
        teller = Teller(store.registry, job.id)
        signal.signal(signal.SIGTERM, teller.stop)
        with teller:
            outcome = attempt(store, job, teller)
        ended = _end(store, job, outcome)
        drop_uploads(store.registry, job)
        if ended.state != FAILED:
            store.registry.layout.job_log(job.id).unlink(missing_ok=True)
    return int(ended.state == FAILED)


def _end(store: Store, job: Job, outcome: Outcome) -> Job:
    """Write how a job ended, as soon as that can be: what did its work is not to look lost."""
    about = {name: getattr(outcome, name) for name in ("note", "error", "snapshot_id")}
    return patiently(
        lambda: store.registry.jobs.end(job.id, outcome.state, **about),
        lambda why: _log.warning("the end of job %s is not written yet: %s", job.id, why),
    )


def attempt(store: Store, job: Job, teller: Teller) -> Outcome:
    """Do a job's work and return how it ended, whatever went wrong."""
    try:
        with turn(store, job, teller):
            patiently(
                lambda: store.registry.jobs.start(job.id),
                lambda why: teller("waiting", 0, 0, why),
            )
            # Read again: its domain may have been purged while it waited.
            request = store.registry.jobs.find(job.id).request
            if not request:
                return Outcome(CANCELLED)
            teller.check()
            if job.kind == "evaluate":
                return evaluate(store, request, teller)
            act = erase if job.kind == "erase" else ingest
            with store.registry.jobs.doing(job.id):
                done = act(store, job, request, teller)
        return then_evaluate(store, job, request, done, teller)
    except (JobCancelled, KeyboardInterrupt):  # the latter is what Lightning makes of SIGTERM
        is_done = store.registry.jobs.find(job.id).snapshot_id is not None
        had = "it had erased" if job.kind == "erase" else "it had learned"
        return Outcome(CANCELLED, had if is_done else "the store is as it was")
    except Exception as error:
        return Outcome(FAILED, error=_why(store, job, error))


@contextmanager
def turn(store: Store, job: Job, teller: Teller) -> Iterator[None]:
    """Wait until no older job is open and, unless it only measures, the store's lease is ours.

    Raises: JobCancelled: when it is cancelled while it waits.
    """
    registry = store.registry
    with ExitStack() as stack:
        while True:
            older = [
                other for other in registry.jobs.listed(only_open=True) if _is_before(other, job)
            ]
            note = f"job {older[0].id[:12]} comes first" if older else ""
            if not older:
                try:
                    if job.kind != "evaluate":
                        stack.enter_context(registry.writing(job.who))
                    break
                except StoreLockedError as error:
                    note = str(error)
            teller("waiting", 0, 0, note)
            teller.wait(WAIT_SECONDS)
        yield


def _is_before(other: Job, job: Job) -> bool:
    return (other.created_at, other.id) < (job.created_at, job.id)


def ingest(store: Store, job: Job, request: dict[str, Any], teller: Teller) -> Done:
    """Ingest what a request names."""
    teller("loading", 0, 0, "")
    from pipelines.corpora import files_left_out, read_corpus
    from pipelines.fact_files import read_facts
    from pipelines.rewordings import Rewordings, read_rewordings

    layout, on_bad_row = store.registry.layout, request["on_bad_row"]
    path, name = find_source(request["corpus"], layout)
    corpus = read_corpus(path, on_bad_row, name=name)
    facts: Sequence[Fact] = ()
    skipped = corpus.skipped
    if request["facts"]:
        path, name = find_source(request["facts"], layout)
        facts, bad = read_facts(path, on_bad_row, name=name)
        skipped += bad
    rewordings: Rewordings | None = None
    if request.get("rewordings"):  # jobs of an earlier version do not say
        path, name = find_source(request["rewordings"], layout)
        rewordings, bad = read_rewordings(path, on_bad_row, name=name)
        skipped += bad
    report = store.ingest(
        job.domain or "",
        corpus.documents,
        facts=facts,
        rewordings=rewordings,
        settings=read_settings(request["settings"]),
        why=job.why,
        learn_erased=request.get("learn_erased", False),  # jobs of an earlier version do not say
        progress=teller,
    )
    said = f"{report.domain} is at {report.label}"
    if report.num_erased:
        said += f"; documents left out that were erased: {report.num_erased}"
    if skipped.num:
        said += f"; {skipped.counted} skipped"
    if corpus.left_out:
        said += f"; {files_left_out(corpus.left_out)}"
    return Done(said, report.snapshot_id)


def erase(store: Store, job: Job, request: dict[str, Any], teller: Teller) -> Done:
    """Erase exactly what a request names."""
    report = store.erase_exact(job.domain or "", request["documents"], teller, why=job.why)
    what = "the document" if len(report.document_ids) == 1 else "the documents"
    said = f"{report.domain} is at {report.label}, as if it had never seen {what}"
    if report.num_dropped:
        said += f"; versions dropped, with nothing left to learn: {report.num_dropped}"
    for ids, what in (
        (report.near_ids, "near-duplicates or sections of the same document stay"),
        (report.unmasked_ids, "masked documents are known again; erase them anew"),
    ):
        if ids:
            said += f"; {what}: {', '.join(one[:12] for one in ids)}"
    return Done(said, report.snapshot_id)


def read_settings(told: dict[str, Any] | None) -> TrainingSettings | None:
    """Return the settings that a request holds as plain values."""
    if told is None:
        return None
    from peer_cl.layer import PoolShape
    from pipelines.settings import TrainingSettings

    return TrainingSettings(**{**told, "shape": PoolShape(**told["shape"])})


def evaluate(store: Store, request: dict[str, Any], teller: Teller) -> Outcome:
    """Evaluate the live snapshot."""
    report = store.evaluate(teller, background=request["background"])
    return Outcome(DONE, snapshot_id=report["snapshot"])


def then_evaluate(
    store: Store, job: Job, request: dict[str, Any], done: Done, teller: Teller
) -> Outcome:
    """Evaluate after a change, where it was asked for; what was done stays whatever comes."""
    said = done.said
    if not request["evaluate"]:
        return Outcome(DONE, said, snapshot_id=done.snapshot_id)
    try:
        evaluate(store, request, teller)
    except (JobCancelled, KeyboardInterrupt):
        said += "; its evaluation was cancelled"
    except Exception as error:
        failed = f"{said}, but its evaluation failed: {_why(store, job, error)}"
        return Outcome(FAILED, error=failed, snapshot_id=done.snapshot_id)
    return Outcome(DONE, said, snapshot_id=done.snapshot_id)


def _why(store: Store, job: Job, error: Exception) -> str:
    """Return a line about what went wrong; what is our own fault goes to the process's log."""
    said = mendable(error, store.registry.folder)
    if said is not None:
        return said
    _log.exception("job %s", job.id)
    log = store.registry.layout.job_log(job.id)
    return f"{type(error).__name__}: {error} (a fault of peer-cl; {log} shows where)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
