"""What verbs print: tables and lines for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from pipelines.progress import Progress

Read = Callable[[Any], object]
"""What a column of a table reads of an object."""
PIPE_WIDTH = 200
"""Columns of a table where no terminal sets its width: what reads a pipe wants whole lines."""
SHOWN_LINES = 10
"""Of what may have many: files that were not read, documents that stay."""
PLAIN_STEPS = 5
"""Progress lines for one piece of work where there is no terminal."""
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "?")
"""Characters that a terminal would obey; a document's title may hold any of them."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints users' words as they are, without markup."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def say(line: str, *, err: bool = False) -> None:
    """Print one line for people."""
    typer.echo(line.translate(_CONTROLS), err=err)


def say_some(lines: Sequence[object], before: str = "") -> None:
    """Print the first lines for people, each behind some words, and of more the number."""
    for line in lines[:SHOWN_LINES]:
        say(f"{before}{line}")
    if len(lines) > SHOWN_LINES:
        say(f"{before}{len(lines) - SHOWN_LINES:,} more")


def print_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none"
) -> None:
    """Print rows under a title and headings, numbers on the right; `empty` where there are none."""
    listed = list(rows)
    if not listed:
        say(f"{title}: {empty}")
        return
    say(title)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name, values in zip(headings, zip(*listed, strict=True), strict=True):
        is_number = all(value is None or isinstance(value, int | float) for value in values)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        table.add_row(*map(cell, row))
    make_console().print(table)


def print_objects(
    title: str, objects: Iterable[Any], columns: str, *, empty: str = "none", **computed: Read
) -> None:
    """Print a table with a row for each object.

    `columns` names attributes, each after its heading where that has another name: "version=label
    num_tokens". In a heading "_" stands for a blank. `computed` has what is no attribute.
    """
    pairs = [word.partition("=")[::2] for word in columns.split()]
    readers = [computed.get(name) or _reader(attribute or name) for name, attribute in pairs]
    headings = [name.replace("_", " ") for name, _ in pairs]
    print_table(title, headings, [[read(one) for read in readers] for one in objects], empty=empty)


def _reader(attribute: str) -> Read:
    read, shorten = attrgetter(attribute), _SHORTENED.get(re.split(r"[._]", attribute)[-1])
    return read if shorten is None else lambda one: shorten(read(one))


def cell(value: object) -> str:
    """Return a value as people read it.

    Example:
        >>> cell(12345), cell(6.0), cell(0.00003), cell(None), cell(True)
        ('12,345', '6.0000', '3.0e-05', '-', 'yes')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
    return str(value).translate(_CONTROLS)


def print_json(value: Any) -> None:
    """Print a value as JSON. Infinities and NaN, which JSON lacks, become null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def size(num_bytes: int) -> str:
    """Return a size in the unit that suits it.

    Example:
        >>> size(512), size(26_843_545)
        ('512 bytes', '26.8 MB')
    """
    return decimal(num_bytes)


def moment(iso: str) -> str:
    """Return a time as 2026-01-02 03:04:05, without its fractions."""
    return iso[:19].replace("T", " ")


def short_id(value: str | int) -> str | int:
    """Return the first digits of a hash; other ids are numbers."""
    return value[:12] if isinstance(value, str) else value


_SHORTENED: dict[str, Read] = {"bytes": size, "at": moment, "seconds": round, "id": short_id}
"""By the last word of an attribute's name, how a table shows it."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield what a verb reports its progress to: bars on a terminal, else a few plain lines."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines()
        return
    from rich import progress  # a tenth of what the quick verbs take

    with progress.Progress(
        progress.SpinnerColumn(finished_text="✓"),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        redirect_stdout=sys.stdout.isatty(),  # answers that go to a file stay off the terminal
    ) as bars:
        yield _bars(bars)


def _bars(bars: Bars) -> Progress:
    """Return a progress that draws one bar for each piece of work, the latest three at a time."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int, note: str) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, note=note)
        bars.update(tasks[what], completed=done, total=total or None, note=note)
        for name in [*tasks][:-3]:
            bars.remove_task(tasks.pop(name))

    return report


def _plain_lines() -> Progress:
    """Return a progress that prints a few lines for each piece of work."""
    steps: dict[str, int] = {}

    def report(what: str, done: int, total: int, note: str) -> None:
        step = done * PLAIN_STEPS // total if total else 0
        if step != steps.get(what):
            steps[what] = step
            count = f": {done:,} of {total:,}" if total else ""
            say(f"{what}{count}{', ' if note else ''}{note}", err=True)

    return report
