"""Progress of the verbs: shown to whoever called, and written into the store's table of runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stores.registry import Registry

Progress = Callable[[str, int, int, str], None]
"""Called with (what runs, done, total, a note such as the loss)."""

_SECONDS_BETWEEN_WRITES = 0.5


def no_progress(what: str, done: int, total: int, note: str) -> None:
    """Show nothing."""


class LossNote(str):
    """A note with a step's loss in words, which also holds the number, for charts.

    The weighted loss has no unit: answers of facts count more, and it varies with what is read.

    Example:
        >>> note = LossNote(2.82813)
        >>> str(note), note.loss
        ('weighted loss 2.828', 2.82813)
    """

    loss: float

    def __new__(cls, loss: float) -> LossNote:
        """Return the note of a loss."""
        note = super().__new__(cls, f"weighted loss {loss:.3f}")
        note.loss = loss
        return note


class RecordedRun:
    """A run of the store's table, while it goes on."""

    def __init__(self, registry: Registry, run_id: str, shown: Progress) -> None:
        self.run_id = run_id
        self.snapshot_id: int | None = None
        """What it made or evaluated; to be set before it ends."""
        self._registry, self._shown = registry, shown
        self._losses: list[tuple[int, float]] = []
        self._written_at = float("-inf")

    def progress(self, what: str, done: int, total: int, note: str) -> None:
        """Show, and write into the run's row, at most twice a second and at the last step.

        So the dashboard and `peer-cl runs` see it from another process.
        """
        self._shown(what, done, total, note)
        if isinstance(note, LossNote):
            if self._losses and done <= self._losses[-1][0]:  # another segment of the same run
                self._losses = []
            self._losses.append((done, note.loss))
        now = time.monotonic()
        if done >= total or now - self._written_at >= _SECONDS_BETWEEN_WRITES:
            self._written_at = now
            self._registry.update_run(
                self.run_id, what=what, done=done, total=total, note=str(note), losses=self._losses
            )


@contextmanager
def recorded_run(
    registry: Registry,
    kind: str,
    domain: str | None,
    author: str,
    message: str = "",
    progress: Progress = no_progress,
) -> Iterator[RecordedRun]:
    """Record what happens inside in the store's table of runs: that it goes on, and how it ended.

    `kind` is ingest, evaluate or erase; `domain` the one that it changes, None: it is about all.
    """
    run = RecordedRun(registry, registry.start_run(kind, domain, author, message), progress)
    try:
        yield run
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            registry.end_run(run.run_id, "cancelled")
        else:
            line = " ".join((str(error) or type(error).__name__).split())[:500]
            registry.end_run(run.run_id, "failed", error=line)
        raise
    registry.end_run(run.run_id, "done", snapshot_id=run.snapshot_id)
