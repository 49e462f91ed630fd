"""Jobs: an ingest or an erasure, then its evaluation, in a process that outlives who started it.

Of several jobs one runs and the others wait, in the order in which they were asked for. Waiting and
not failing, since a person who asks for three corpora wants all three; one at a time, since a store
has one writer, and two trainings on the same cores end later than one after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer_cl.errors import CorpusError, StateError
from pipelines.corpora import check_named, whole_path
from pipelines.erasure_targets import check_texts, find_targets
from pipelines.own_process import own_module
from pipelines.quiet import QUIET
from pipelines.uploads import (
    Source,
    Upload,
    check_within,
    describe_source,
    find_source,
    unnamed_place,
)
from stores import Job, NewJob, Registry
from stores.domain_names import check_domain_name
from stores.jobs import FAILED, SOURCES, uploads_of

if TYPE_CHECKING:
    from pipelines.bad_rows import BadRowPolicy
    from pipelines.settings import TrainingSettings
    from pipelines.store import Store


def start_ingest(
    store: Store,
    domain: str,
    corpus: Source,
    *,
    facts: Source | None = None,
    rewordings: Source | None = None,
    settings: TrainingSettings | None = None,
    who: str | None = None,
    why: str = "",
    on_bad_row: BadRowPolicy = "stop",
    learn_erased: bool = False,
    evaluate: bool = True,
    background: bool = True,
) -> Job:
    """Start a process that ingests a corpus and then evaluates, and return its job.

    What can be told without reading the corpus is told at once; all else ends the job, with a line
    that says why.

    Args:
        store: an open store.
        domain: a new or known domain's name.
        corpus: an upload, or a file or folder of this machine.
        facts: learned besides; a jsonl file.
        rewordings: the corpus's documents in other words; a jsonl file.
        settings: how the segment is trained.
        who: written beside the act; default: as the store was opened.
        why: written beside the act.
        on_bad_row: "stop" or "skip", for rows of jsonl files that cannot be read.
        learn_erased: learn also what was erased exactly from the domain.
        evaluate: score held-out documents afterwards.
        background: score background sources then too.

    Raises:
        DomainNameError, CorpusError: when the name or the corpus cannot be used.
        FrozenError, StateError: when the domain may not grow now, or another job does the same.
    """
    registry = store.registry
    check_domain_name(domain)
    state = registry.live().state(domain)
    registry.check_growth(domain, state.version if state is not None else None)
    given = dict(zip(SOURCES, (corpus, facts, rewordings), strict=True))
    sources = [source for source in given.values() if source is not None]
    for source in sources:
        _check_there(source)
    request: dict[str, Any] = {
        **{
            part: None if source is None else describe_source(source, registry.layout)
            for part, source in given.items()
        },
        "settings": None if settings is None else asdict(settings),
        "on_bad_row": on_bad_row,
        "learn_erased": learn_erased,
        "evaluate": evaluate,
        "background": background,
    }
    new = NewJob(kind="ingest", domain=domain, request=request, who=who or store.who, why=why)
    return _start(registry, new, [source for source in sources if isinstance(source, Upload)])


def start_erasure(
    store: Store,
    domain: str,
    document_ids: str | Sequence[str],
    *,
    who: str | None = None,
    why: str = "",
    evaluate: bool = True,
    background: bool = True,
) -> Job:
    """Start a process that erases documents exactly and then evaluates, and return its job.

    Args:
        store: an open store.
        domain: a live domain.
        document_ids: full ids, or their first six or more digits, of documents (or of one) that
            it holds.
        who: written beside the act; default: as the store was opened.
        why: written beside the act.
        evaluate: score held-out documents afterwards.
        background: score background sources then too.

    Raises:
        InputError, UnknownError: when no document is named, or one that the domain does not hold.
        FrozenError, StateError: when the domain may not be erased from now, or another job does
            the same.
        UnsupportedError: when texts are not kept.
    """
    registry = store.registry
    (target,) = find_targets(registry, document_ids=document_ids, domain=domain)
    check_texts(target.documents)
    request = {
        "documents": [document.document_id for document in target.documents],
        "evaluate": evaluate,
        "background": background,
    }
    new = NewJob(kind="erase", domain=domain, request=request, who=who or store.who, why=why)
    return _start(registry, new, [])


def start_evaluation(store: Store, *, who: str | None = None, background: bool = True) -> Job:
    """Start a process that evaluates the live snapshot, and return its job.

    Args:
        store: an open store.
        who: written beside the job; default: as the store was opened.
        background: score background sources too.

    Raises:
        StateError: when no domain is live, or another job does the same.
    """
    if not store.registry.live().domains:
        raise StateError("no domain is live, so there is nothing to measure")
    request = {"background": background}
    new = NewJob(kind="evaluate", domain=None, request=request, who=who or store.who, why="")
    return _start(store.registry, new, [])


def start_again(
    store: Store, text: str, *, who: str | None = None, within: Sequence[Path] | None = None
) -> Job:
    """Start a job anew that did not end well, and return the new one.

    Training goes on from its last checkpoint; what is in the store already is only evaluated.

    Args:
        store: an open store.
        text: the old job's id, or its beginning.
        who: written beside the act; default: as the store was opened.
        within: folders outside which no path may lie; None: it may lie anywhere.

    Raises:
        CorpusError: when it read a path that lies elsewhere.
        StateError: when it goes on still, has ended well, what it read is kept no more, or another
            job does the same.
    """
    registry = store.registry
    old = registry.jobs.find(text)
    if old.is_open or old.state == "done":
        raise StateError(
            f"job {old.id[:12]} is {old.state}; only one that did not end well can be started again"
        )
    if not old.request:
        raise StateError(f"job {old.id[:12]} cannot be started again: what it was about was purged")
    if old.is_unmeasured:
        request = {"background": old.request["background"]}
        new = NewJob(
            kind="evaluate", domain=None, request=request, who=who or store.who, why=old.why
        )
        return _start(registry, new, [])
    for path, name in find_sources(registry, old):
        check_within(path, within if name is None else None)  # an upload has a name
    new = NewJob(
        kind=old.kind, domain=old.domain, request=old.request, who=who or store.who, why=old.why
    )
    return _start(registry, new, [])


def find_sources(registry: Registry, job: Job) -> list[tuple[Path, str | None]]:
    """Return what a job is to read, as `uploads.find_source` does.

    Raises: StateError: when an upload of it is there no more, so it cannot be started again.
    """
    told = (job.request.get(part) for part in SOURCES)
    return [find_source(about, registry.layout) for about in told if about]


def drop_uploads(registry: Registry, job: Job) -> None:
    """Remove the uploads of a job that has ended, but those that a job may still be to read.

    One that failed or is lost may be started again, unless this one has learned in its stead.
    """
    for name in set(uploads_of(job.request)) - registry.jobs.needed_uploads():
        upload = registry.layout.staging / name
        aside = unnamed_place(registry.layout, upload.suffix)
        try:
            upload.replace(aside)
        except FileNotFoundError:  # a repair or a purge was here first
            continue
        # Asked again: a job that was written down meanwhile may have staged the same file.
        if name in registry.jobs.needed_uploads():
            with suppress(FileNotFoundError):  # or behind us
                aside.replace(upload)
        else:
            aside.unlink(missing_ok=True)


def _check_there(source: Source) -> None:
    """Refuse a path at which there is nothing; an upload was looked at when it was made."""
    if isinstance(source, Upload):
        return
    check_named(source)
    path = whole_path(source)
    if not path.exists():
        raise CorpusError(f"no corpus at {path}; give a file or folder of this machine")


def _start(registry: Registry, new: NewJob, uploads: list[Upload]) -> Job:
    """Write a job down, stage its uploads, and start its process.

    Raises: StateError: when a job that waits or runs does the same: a second click asked for it.
    """
    for other in registry.jobs.listed(only_open=True):
        if (other.kind, other.domain, other.request) == (new.kind, new.domain, _kept(new.request)):
            raise StateError(
                f"job {other.id[:12]} does the same already ({other.state}); see `peer-cl jobs`"
            )
    job = registry.jobs.add(new)  # before its uploads: those of no job are leftovers
    try:
        for upload in uploads:
            upload.stage(registry.layout)
        return registry.jobs.assign(job.id, _spawn(registry, job))
    except BaseException as error:
        registry.jobs.end(job.id, FAILED, error=f"its process could not be started: {error}")
        raise


def _kept(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request as it comes back from the store: JSON knows lists and no tuples."""
    kept: dict[str, Any] = json.loads(json.dumps(request))
    return kept


def _spawn(registry: Registry, job: Job) -> int:
    """Start the process of a job and return its id; closing our terminal does not end it."""
    command = [*own_module("pipelines.run_job"), str(registry.folder.resolve()), job.id]
    with registry.layout.job_log(job.id).open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=QUIET | os.environ,
        )
    # Waited for, or it would stay in the system's list as if it were alive.
    threading.Thread(target=process.wait, name=f"job-{job.id[:12]}", daemon=True).start()
    return process.pid
