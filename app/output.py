"""What verbs print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from peer_cl.errors import StateError

PIPE_WIDTH = 200
"""Columns where no terminal tells its width: what reads a pipe wants whole lines."""
MOST = 2**31 - 1
"""The largest number that a counting option takes: every database has room for it."""
_LEAST_FOLDED = 6
"""Columns of a terminal that a text is to have beside what stays in one piece."""
_HARMLESS = "\n\t\u00ad\u200c\u200d"
"""Not printable, and part of texts: soft hyphens, and joiners within words."""


class _Console(Console):
    """Rich's, which leaves a pipe that nobody reads any more to who runs the verb."""

    def on_broken_pipe(self) -> None:
        """Raise what other writers to the pipe raise; called where it is handled."""
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints users' words as they are, without markup."""
    console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none"
) -> None:
    """Print rows as a table; numbers stand on the right.

    Args:
        title: printed above.
        columns: their names.
        rows: one value a column.
        empty: printed instead of a table without rows.
    """
    listed = list(rows)
    if not listed:
        say(f"{title}: {empty}")
        return
    say(title)
    cells = [[cell(row[number]) for row in listed] for number in range(len(columns))]
    console = make_console()
    widths = [max(map(cell_len, (name, *told))) for name, told in zip(columns, cells, strict=True)]
    is_narrow = sum(widths) + 2 * (len(columns) - 1) > console.width
    headers, whole = _fitted(columns, cells, console.width) if is_narrow else (columns, ())
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1, 0, 0) if is_narrow else (0, 1),
    )
    for number, header in enumerate(headers):
        values = [row[number] for row in listed if row[number] is not None]
        is_number = bool(values) and all(isinstance(value, int | float) for value in values)
        table.add_column(
            header,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=number in whole,
        )
    for told in zip(*cells, strict=True):
        table.add_row(*told)
    with _written_out():
        console.print(table)


def _fitted(
    columns: Sequence[str], cells: Sequence[Sequence[str]], width: int
) -> tuple[Sequence[str], Collection[int]]:
    """Return the headers on a narrow terminal, and the columns whose cells stay in one piece.

    Texts give way before ids, dates and numbers, which cannot be read or copied in two pieces.
    Where these leave the others no room, all fold: what does not is cropped.
    """
    whole = frozenset(n for n, told in enumerate(cells) if all(len(c.split()) == 1 for c in told))
    headers = [name.replace(" ", "\n") if n in whole else name for n, name in enumerate(columns)]
    needed = sum(max(map(cell_len, (*headers[n].split("\n"), *cells[n]))) for n in whole)
    room = width - needed - (len(columns) - 1)  # a blank between
    is_enough = room >= _LEAST_FOLDED * (len(columns) - len(whole))
    return headers, whole if is_enough else frozenset()


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
    return printable(str(value))


def printable(text: str) -> str:
    """Return users' words without what a terminal would obey: escapes, and marks of direction.

    Example:
        >>> printable("a\\x1b[31m red \\u202etitle")
        'a?[31m red ?title'
    """
    return "".join(letter if _is_shown(letter) else "?" for letter in text)


def _is_shown(letter: str) -> bool:
    is_space = unicodedata.category(letter) == "Zs"  # such as one that keeps words together
    return letter.isprintable() or is_space or letter in _HARMLESS


@contextmanager
def _written_out() -> Iterator[None]:
    """Tell an output that cannot be written apart from a store that cannot.

    Raises:
        BrokenPipeError: when nobody reads the pipe any more.
        StateError: when the output cannot be written for another reason, such as a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StateError(
            f"{unwritten(error)}; send it elsewhere; what the command has done is done"
        ) from error


def unwritten(error: OSError) -> str:
    """Return what is said of an output that cannot be written."""
    return f"the output cannot be written ({error.strerror or error})"


def print_json(value: Any) -> None:
    """Print a value as JSON; what a terminal would obey, or the output cannot hold, is escaped.

    JSON knows no infinity and no NaN, which a damaged pool may say: they are null.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    is_held = _is_held(text)
    with _written_out():
        typer.echo(
            "".join(
                one if _is_shown(one) and (is_held or one.isascii()) else json.dumps(one)[1:-1]
                for one in text
            )
        )


def _is_held(text: str) -> bool:
    """Return whether the output's encoding has every letter that is shown."""
    try:
        "".join(filter(_is_shown, text)).encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    """Return a value with None for every number in it that is none.

    Example:
        >>> _finite({"rows": [1.5, math.nan]})
        {'rows': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str, *, err: bool = False) -> None:
    """Print one line for people.

    Args:
        line: it; a user's words may stand in it.
        err: on stderr.
    """
    with _written_out():
        typer.echo(printable(line), err=err)


def size(num_bytes: int) -> str:
    """Return a size in the unit that suits it.

    Example:
        >>> size(512), size(26_843_545)
        ('512 B', '26.8 MB')
    """
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def moment(iso: str) -> str:
    """Return a time without its fractions.

    Example:
        >>> moment("2026-01-02T03:04:05.678+00:00")
        '2026-01-02 03:04:05'
    """
    return iso[:19].replace("T", " ")
