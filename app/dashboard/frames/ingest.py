"""Tables of the page Ingest: a job's losses, the list of jobs, and what a preview found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from app.dashboard.addresses import job_address
from app.dashboard.frames.learning import end_mean

if TYPE_CHECKING:
    from pipelines.previewing import NearDomain, Preview
    from stores import Job

UNITS = {"training": "steps", "reading documents": "rows", "recording use": "rows"}
"""What is counted, by the piece of work; elsewhere parts."""
JOB_COLUMNS = [
    *("job", "what", "domain", "state", "asked"),
    *("minutes", "loss", "snapshot", "who", "told"),
]


def losses_frame(job: Job) -> pd.DataFrame:
    """Return a job's losses: step, nats a token."""
    return pd.DataFrame(job.losses, columns=["step", "nats"]).astype({"step": int, "nats": float})


def jobs_frame(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return one row a job, in the order given; "job" is the address of its page."""
    rows = [
        {
            "job": job_address(job.id),
            "what": job.kind,
            "domain": job.domain or "all",
            "state": job.state,
            "asked": pd.Timestamp(job.created_at),
            "minutes": minutes(job.started_at, job.ended_at),
            "loss": end_mean([nats for _, nats in job.losses]),
            "snapshot": job.snapshot_id,
            "who": job.who,
            "told": job.error or job.note,
        }
        for job in jobs
    ]
    frame = pd.DataFrame(rows, columns=JOB_COLUMNS)
    return frame.astype({"snapshot": "Int64", "minutes": float, "loss": float})


def minutes(start: str | None, end: str | None) -> float | None:
    """Return the minutes between two times of the store; None where either is missing.

    Example:
        >>> minutes("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:30+00:00")
        1.5
    """
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() / 60


def preview_frame(found: Preview) -> pd.DataFrame:
    """Return what a preview counted: what, how many, and what happens with it."""
    rows = [
        ("documents in the corpus", found.num_documents, "see “new” below"),
        ("facts", found.num_facts, "learned; asked in other words afterwards"),
        ("copies within the corpus", found.num_twice, "left out"),
        (f"known to {found.domain} already", found.num_known, "left out"),
        (f"held out by {found.domain}", found.num_held_out, "left out: measured on, never learned"),
        (f"erased from {found.domain}", found.num_erased, "left out unless you say so"),
        *(
            (f"known elsewhere: {_ELSEWHERE.get(name, name)}", count, "learned all the same")
            for name, count in found.elsewhere
        ),
        ("lines that cannot be read", found.num_skipped, "left out if you say so"),
        *((f"files left out: {reason}", count, "not read") for reason, count in found.left_out),
        ("new", found.num_new, "learned, or held out"),
        (_LEARNED, found.num_to_learn, "trained on"),
        ("of these read in other words too", found.num_reworded, "trained on besides"),
        (_SET_ASIDE, found.num_to_hold_out, "never learned: to measure on, or to stop early by"),
    ]
    kept = [row for row in rows if row[1] or row[0] in ("new", _LEARNED, _SET_ASIDE)]
    return pd.DataFrame(kept, columns=["what", "number", "what happens"])


_LEARNED, _SET_ASIDE = "of these learned", "of these held out"
_ELSEWHERE = {"rolled back": "what is out or rolled back"}
"""How places that are no live domain are called here."""


def near_frame(found: Sequence[NearDomain]) -> pd.DataFrame:
    """Return the domains that a corpus looks like, the nearest first."""
    rows = [(item.domain, item.num_asking, item.num_sampled) for item in found]
    return pd.DataFrame(rows, columns=["domain", "documents that would ask it", "documents read"])


def duration(seconds: float) -> str:
    """Return a time to come as people say it.

    Example:
        >>> duration(12), duration(95), duration(4000)
        ('12 s', '2 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60} min"


def speed(job: Job) -> str:
    """Return how fast a job's piece of work goes, with its unit; a dash where it is not known."""
    if job.speed is None:
        return "–"
    unit = UNITS.get(job.what, "parts")
    if job.speed >= 0.5:
        return f"{job.speed:.1f} {unit}/s"
    return f"{60 * job.speed:.1f} {unit}/min"


def share_done(job: Job) -> float:
    """Return how much of its piece of work a job has done, 0 to 1."""
    return min(1.0, job.done / job.total) if job.total else 0.0


def said(job: Job) -> str:
    """Return what a job is at, in words."""
    unit = UNITS.get(job.what, "parts")
    return f"{job.what}: {job.done:,} of {job.total:,} {unit}" if job.total else job.what
