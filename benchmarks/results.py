"""Figures and the files that keep them: docs/results/NAME.json, and NAME.md with the same table."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from peer_cl.errors import InputError

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"

Value = float | int | str


@dataclass(frozen=True)
class Figure:
    """One measured figure, and the goal that it should reach, if any."""

    figure: str
    """What was measured, with its unit."""
    value: Value
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise InputError(f"{self.figure}: {self.value} is no result")

    @property
    def goal(self) -> str | None:
        """What the value should be; None: it is only reported."""
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most is not None else None

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the goal; None where there is none."""
        if self.goal is None or isinstance(self.value, str):
            return None
        if self.least is not None:
            return self.value >= self.least
        return self.most is None or self.value <= self.most


def store_options(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a benchmark of a store: `store`, and the domains, if only some."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}")
    parser.add_argument("--store", default="knowledge")
    parser.add_argument("--domain", action="append")
    return parser.parse_args(list(arguments))


def write_results(
    name: str, figures: Sequence[Figure], command: str, folder: Path = RESULTS
) -> Path:
    """Write NAME.json and the table NAME.md; return the path of the first."""
    names = [figure.figure for figure in figures]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: figures must differ in name, not {names}")
    path = folder / f"{name}.json"
    columns = ("figure", "value", "goal", "holds")
    rows = [{c: getattr(one, c) for c in columns} | {"command": command} for one in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(figures, command), encoding="utf-8")
    return path


def table(figures: Sequence[Figure], command: str) -> str:
    """Return figures as a Markdown table, the command below it."""
    lines = ["| figure | value | goal | holds |", "|---|---|---|---|"]
    for figure in figures:
        holds = "" if figure.holds is None else "yes" if figure.holds else "**no**"
        cells = [figure.figure, shown(figure.value), figure.goal or "", holds]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", f"Measured with `{command}`.", ""])


def shown(value: Value) -> str:
    """Return a value as a table shows it: four significant digits, whole numbers whole.

    Example:
        >>> shown(0.0203), shown(1234567), shown(2.25512), shown("all")
        ('0.0203', '1,234,567', '2.255', 'all')
    """
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def share_above_half(weights: Collection[float]) -> float:
    """Return the share of weights above a half."""
    return sum(weight > 0.5 for weight in weights) / max(1, len(weights))
