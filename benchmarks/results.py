"""Figures and the files that keep them: docs/results/NAME.json, and NAME.md with the same table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from peer_cl.errors import InputError

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"

Value = float | int | str


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    figure: str
    """What was measured, with its unit: "routing efficiency, medicine (share)"."""
    value: Value
    goal: Value | None
    """What it should be: ">= 0.88". None: reported only."""
    holds: bool | None
    """Whether the value meets the goal; None where there is none."""
    command: str
    """What to type to measure it again."""

    def __post_init__(self) -> None:
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise InputError(f"{self.figure}: {self.value} is no result")


def at_least(figure: str, value: float, goal: float, command: str) -> Figure:
    """Return a figure that must reach a goal.

    Example:
        >>> at_least("routing efficiency (share)", 0.9, 0.88, "make demo").holds
        True
    """
    return Figure(figure, value, f">= {goal:g}", value >= goal, command)


def at_most(figure: str, value: float, goal: float, command: str) -> Figure:
    """Return a figure that must not exceed a goal.

    Example:
        >>> at_most("worst added loss (nats)", 0.03, 0.0203, "make demo").holds
        False
    """
    return Figure(figure, value, f"<= {goal:g}", value <= goal, command)


def reported(figure: str, value: Value, command: str) -> Figure:
    """Return a figure without a goal."""
    return Figure(figure, value, None, None, command)


def write_results(name: str, figures: Sequence[Figure], folder: Path = RESULTS) -> Path:
    """Write NAME.json and the table NAME.md; return the path of the first.

    Raises:
        InputError: when there are no figures, or two of the same name.
    """
    names = [figure.figure for figure in figures]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{name}: figures must be there and differ in name, not {names}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    rows = [asdict(figure) for figure in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(figures), encoding="utf-8")
    return path


def read_results(path: Path) -> tuple[Figure, ...]:
    """Return the figures of a result file."""
    return tuple(Figure(**row) for row in json.loads(path.read_text(encoding="utf-8")))


def table(figures: Sequence[Figure]) -> str:
    """Return figures as a Markdown table, their commands below it.

    Example:
        >>> print(table([at_least("recall (share)", 0.91234, 0.88, "make demo")]))
        | figure | value | goal | holds |
        |---|---|---|---|
        | recall (share) | 0.9123 | >= 0.88 | yes |
        <BLANKLINE>
        Measured with `make demo`.
        <BLANKLINE>
    """
    lines = ["| figure | value | goal | holds |", "|---|---|---|---|"]
    for figure in figures:
        holds = "" if figure.holds is None else "yes" if figure.holds else "**no**"
        goal = "" if figure.goal is None else shown(figure.goal)
        cells = [figure.figure, shown(figure.value), goal, holds]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    commands = dict.fromkeys(f"`{figure.command}`" for figure in figures)
    return "\n".join([*lines, "", f"Measured with {', '.join(commands)}.", ""])


def shown(value: Value) -> str:
    """Return a value as a table shows it: four significant digits, whole numbers whole.

    Example:
        >>> shown(0.0203), shown(1234567), shown(2.25512), shown("all")
        ('0.0203', '1,234,567', '2.255', 'all')
    """
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
