"""What is wrong with a store, as the Overview says it: each line with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.bound import broken_rows
from app.dashboard.current import up_to_current
from app.output import moment
from stores.changes import changes

if TYPE_CHECKING:
    from stores import Finding, Registry, Snapshot
    from stores.queries import Evaluation, Event, Job

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_MOST_NAMES = 5


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong."""

    severity: Severity
    """"error": data is lost or a promise is broken; "warning": work is to be done again."""
    what: str
    action: str
    """What to do about it."""
    needs_measuring: bool = False
    """An evaluation of the live snapshot is what to do about it."""


def sort_troubles(troubles: Iterable[Trouble]) -> list[Trouble]:
    """Return troubles with the worst first."""
    return sorted(troubles, key=lambda trouble: ORDER.index(trouble.severity))


def of_findings(findings: Iterable[Finding]) -> list[Trouble]:
    """Return what a check of the store found as troubles."""
    severities: dict[str, Severity] = {name: name for name in ORDER}
    return [
        Trouble(severities[item.severity], _sentence(item.what), _sentence(item.action))
        for item in findings
    ]


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].removesuffix('.')}."


def of_evaluation(live: Snapshot, evaluations: Sequence[Evaluation]) -> list[Trouble]:
    """Return what is wrong with what is known of the live snapshot's quality.

    Freezing changes no figure, so an evaluation from before a domain was frozen is not stale.

    Args:
        live: the live snapshot.
        evaluations: of it and of snapshots before it, the oldest first.
    """
    if not live.domains:
        return []
    if not evaluations:
        return [_to_measure("This store has no evaluation.")]
    newest = up_to_current(evaluations, live)[-1]
    found = _broken_bound(newest)
    if newest.snapshot.index_tag != live.index_tag:
        since = _since(newest.snapshot, live)
        what = (
            f"The newest evaluation is of snapshot {newest.snapshot.id} "
            f"({moment(newest.created_at)}), not of the live one, {live.id}: {since}."
        )
        found.append(_to_measure(what))
    if not newest.report["background"]:
        what = "No foreign text was scored: the worst added loss is that of held-out documents."
        found.append(_to_measure(what, "note"))
    if not newest.report.get("with_recall", True):
        what = "The newest evaluation did not ask the facts: their recall is not known."
        found.append(_to_measure(what, "note"))
    unmeasured = [name for name in newest.report["unmeasured"] if live.state(name)]
    if unmeasured:
        what = (
            f"Nothing is measured on {_listed(unmeasured)}: no text of it is held out and unseen."
        )
        found.append(Trouble("note", what, "Ingest more documents of it."))
    return found


def of_jobs(
    jobs: Iterable[Job], evaluations: Sequence[Evaluation] = (), history: Sequence[Event] = ()
) -> list[Trouble]:
    """Return what the last job of each kind came to, where it came to no good end.

    Ingests of one domain are of a kind; an erasure is done only by another of the same documents.

    Args:
        jobs: the newest first.
        evaluations: of the live snapshot and of snapshots before it; what a job did not measure
            may have been measured since.
        history: what was done; where a domain has learned since, by whatever way, a job that did
            not is of the past. So is one whose request a purge has taken.
    """
    last: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        last.setdefault((job.domain or "", *job.request.get("documents", ())), job)
    return [
        _to_measure(_told(job))
        if job.is_unmeasured
        else Trouble("warning", _told(job), "Start it again on the page Ingest.")
        for job in last.values()
        if job.state in ("failed", "lost")
        and (job.request or job.kind == "evaluate")
        and not _is_measured(job, evaluations)
        and not _has_learned_since(job, history)
    ]


def is_erased(job: Job, registry: Registry) -> bool:
    """Return whether what a job was to erase exactly, and did not, is erased by other means."""
    if job.kind != "erase" or job.is_unmeasured or job.domain is None:
        return False
    wanted = set(job.request.get("documents", ()))
    return bool(wanted) and wanted == registry.erased.among(job.domain, wanted)


def _to_measure(what: str, severity: Severity = "warning") -> Trouble:
    return Trouble(severity, what, "The button below has it measured.", needs_measuring=True)


def _is_measured(job: Job, evaluations: Sequence[Evaluation]) -> bool:
    """Return whether what a job was to measure was measured after all."""
    if job.is_unmeasured:
        return any(item.snapshot.id >= (job.snapshot_id or 0) for item in evaluations)
    return job.kind == "evaluate" and any(item.created_at > job.created_at for item in evaluations)


def _has_learned_since(job: Job, history: Sequence[Event]) -> bool:
    is_undone = job.kind == "ingest" and not job.is_unmeasured
    return is_undone and any(
        event.action == "ingest" and event.domain == job.domain and event.at > job.created_at
        for event in history
    )


def _told(job: Job) -> str:
    what = f"The last job ({job.kind}{f' of {job.domain}' if job.domain else ''})"
    if job.is_unmeasured:
        why = _sentence(job.error or "its process is gone")
        done = "erased" if job.kind == "erase" else "learned"
        return f"{what} {done} in snapshot {job.snapshot_id}, but did not measure it. {why}"
    if job.state == "lost":
        return f"{what} ended without a word: its process is gone."
    return _sentence(f"{what} failed: {job.error}")


def _broken_bound(newest: Evaluation) -> list[Trouble]:
    """Return the documents' rows that lost more than the store promises: there must be none."""
    return [
        Trouble(
            "error",
            f"A document of {name} lost {added:.4f} nats, more than the bound of "
            f"{newest.report['bound_nats']:.4f}, in snapshot {newest.snapshot.id}.",
            "This is a fault of peer-cl: please report it, with the base's name.",
        )
        for name, added in broken_rows(newest.report)
    ]


def _since(then: Snapshot, live: Snapshot) -> str:
    """Return what changed between two snapshots, shortly."""
    told = [f"{one.domain} {', '.join(one.words)}" for one in changes(then, live)]
    return f"since then {_listed(told)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    shown = "; ".join(names[:_MOST_NAMES])
    return f"{shown}; and {more} more" if more > 0 else shown
