"""How far a long verb is: bars with the remaining time, or plain lines where there is no terminal.

Both go to stderr, so that stdout holds nothing but the verb's answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)

from app.output import make_console, say

if TYPE_CHECKING:
    from pipelines.progress import Progress

MOST_BARS = 3
"""Bars shown at a time: the newest; a long verb has dozens."""
PLAIN_STEPS = 5
"""Plain lines for one piece of work, its end included."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield what a verb is to tell its progress to."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress(lambda line: say(line, err=True))
        return
    bars = Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        # Answers that go to a file must not end on the terminal.
        redirect_stdout=sys.stdout.isatty(),
    )
    with bars:
        yield bar_progress(bars)


def bar_progress(bars: Bars) -> Progress:
    """Return a progress that draws one bar for each piece of work."""
    tasks: dict[str, tuple[TaskID, int]] = {}

    def tell(what: str, done: int, total: int, note: str) -> None:
        task, before = tasks.get(what, (None, 0))
        if task is None or done < before:  # the same work begins again: a bar of its own
            for earlier in bars.tasks:
                if earlier.total is None:  # it told no end, and has come to it
                    bars.update(earlier.id, total=1, completed=1)
            task = bars.add_task(what, total=total or None, note=note)
            for old in bars.task_ids[:-MOST_BARS]:
                bars.remove_task(old)
            for name in [name for name, (old, _) in tasks.items() if old not in bars.task_ids]:
                del tasks[name]
        tasks[what] = (task, done)
        bars.update(task, completed=done, total=total or None, note=note)

    return tell


class PlainProgress:
    """Writes a few lines for each piece of work.

    Args:
        write: gets each line.
        clock: seconds; for tests.

    Example:
        >>> tell = PlainProgress(print, clock=iter([0.0, 10.0]).__next__)
        >>> tell("training", 0, 4, "")
        training
        >>> tell("training", 2, 4, "loss 3.1")
        training: 2 of 4, loss 3.1, about 10 s left
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._what, self._step, self._done = "", 0, 0
        self._start: float | None = None
        self._heard: float | None = None

    def __call__(self, what: str, done: int, total: int, note: str) -> None:
        """Tell how far a piece of work is; see `pipelines.progress.Progress`."""
        now = self._clock()
        if what != self._what or done < self._done:
            # What is first heard of when some of it is done began when the last was heard of.
            self._what, self._step, self._start = what, 0, self._heard if done else now
            if not done or not total:
                self._write(_listed(what, [note]))
        self._done, self._heard = done, now
        step = done * PLAIN_STEPS // total if total else 0
        if step > self._step:
            self._step = step
            left = self._left(now, total)
            self._write(_listed(f"{what}: {done} of {total}", [note, left]))

    def _left(self, now: float, total: int) -> str:
        """Return how long it will take by what was done so far, if it is known when that began."""
        if self._start is None or not 0 < self._done < total:
            return ""
        seconds = (now - self._start) / self._done * (total - self._done)
        return f"about {seconds:.0f} s left"


def _listed(first: str, others: list[str]) -> str:
    return ", ".join([first, *(other for other in others if other)])
