"""What verbs print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 200
"""Columns where no terminal tells its width: what reads a pipe wants whole lines."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints users' words as they are, without markup."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
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
        typer.echo(f"{title}: {empty}")
        return
    typer.echo(title)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        is_number = all(isinstance(row[number], int | float) for row in listed)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(cell(value) for value in row))
    make_console().print(table)


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
    return str(value)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(line: str) -> None:
    """Print one line for people."""
    typer.echo(line)


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
