"""Figures of several seeds as one: their mean, or the worst of them where it is held to a bound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import Figure, at_least, at_most, reported, shown

COMMAND = "python -m benchmarks stream --data FOLDER"


@dataclass(frozen=True)
class Measured:
    """What one seed says."""

    name: str
    value: float
    at_least: float | None = None
    """The goal, where the value must reach it."""
    at_most: float | None = None
    """The goal, where the value must not exceed it."""
    is_worst: bool = False
    """Of several seeds the largest is told, not the mean: no seed may exceed the goal."""


def over_seeds(found: Iterable[Iterable[Measured]], command: str = COMMAND) -> list[Figure]:
    """Return the figures of seeds by name, in the order of the first seed that has them.

    Example:
        >>> one, other = Measured("loss (nats)", 2.0, at_most=3.0), Measured("loss (nats)", 2.5)
        >>> over_seeds([[one]])[0].figure, over_seeds([[one], [other]])[0].figure
        ('loss (nats)', 'loss (nats) (mean of 2 seeds, 2-2.5)')
    """
    groups: dict[str, list[Measured]] = {}
    for seed in found:
        for one in seed:
            groups.setdefault(one.name, []).append(one)
    return [_figure(name, group, command) for name, group in groups.items()]


def _figure(name: str, group: Sequence[Measured], command: str) -> Figure:
    values, first = [one.value for one in group], group[0]
    value: float = max(values) if first.is_worst else sum(values) / len(values)
    if all(isinstance(one, int) for one in values):
        value = round(value)
    if len(group) > 1:
        how = "worst" if first.is_worst else "mean"
        span = f"{shown(min(values))}-{shown(max(values))}"
        name = f"{name} ({how} of {len(group)} seeds, {span})"
    least = [one.at_least for one in group if one.at_least is not None]
    most = [one.at_most for one in group if one.at_most is not None]
    if least:
        return at_least(name, value, sum(least) / len(least), command)
    if most:
        return at_most(name, value, sum(most) / len(most), command)
    return reported(name, value, command)
