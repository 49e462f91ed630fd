"""The verbs about work in processes of their own: jobs, cancel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from app.output import MOST, moment, print_json, print_table, say
from app.reading import tell_more
from app.request import Request, verb

if TYPE_CHECKING:
    from stores import Job


@verb("json")
def jobs(
    request: Request,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="How many.")] = 20,
) -> None:
    """List ingests, erasures and evaluations that the dashboard started, the newest first."""
    with request.store() as store:
        every = store.registry.jobs.listed()
    found = every[:limit]
    if request.as_json:
        print_json([dataclasses.asdict(item) for item in found])
        return
    print_table(
        "jobs",
        ("job", "kind", "domain", "state", "progress", "snapshot", "who", "asked", "told"),
        (
            (
                item.id[:12],
                item.kind,
                item.domain,
                item.state,
                progress_in_words(item),
                item.snapshot_id,
                item.who,
                moment(item.created_at),
                item.error or item.note,
            )
            for item in found
        ),
        empty="none yet; the dashboard starts them",
    )
    tell_more(len(every) - len(found))


def progress_in_words(item: Job) -> str:
    """Return how far a job is: what it is at, and for how long still, where that can be told."""
    if not item.is_open or not item.what:
        return ""
    if not item.total:
        return item.what
    left = item.seconds_left
    told = f"{item.what} {item.done:,} of {item.total:,}"
    return told if left is None else f"{told}, about {left:.0f} s left"


@verb()
def cancel(
    request: Request,
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="The job's id, or its first six digits or more."),
    ],
) -> None:
    """Ask a job to stop; the store stays as it was.

    The same again goes on from the last checkpoint (every 50 steps), else from the start.
    """
    with request.store() as store:
        asked = store.registry.jobs.ask_cancel(job)
    say(f"job {asked.id[:12]} was asked to stop; it does at its next step")
