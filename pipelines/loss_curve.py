"""A training run's loss curve in a bounded number of points, while it is still being drawn."""

from __future__ import annotations

from statistics import fmean


class LossCurve:
    """Losses by step; neighbours are averaged where there would be too many.

    Args:
        most: points, an even number.

    Example:
        >>> curve = LossCurve(most=4)
        >>> for step in range(1, 7):
        ...     curve.add(step, float(step))
        >>> curve.points()
        ((2, 1.5), (4, 3.5), (6, 5.5))
    """

    def __init__(self, most: int = 400) -> None:
        self._most, self._stride = most, 1
        self._points: list[tuple[int, float]] = []
        self._recent: list[float] = []
        self._step = 0

    def add(self, step: int, nats: float) -> None:
        """Add the loss of the next step."""
        self._step = step
        self._recent.append(nats)
        if len(self._recent) < self._stride:
            return
        self._points.append((step, fmean(self._recent)))
        self._recent = []
        if len(self._points) < self._most:
            return
        pairs = zip(self._points[::2], self._points[1::2], strict=True)
        self._points = [(later, (a + b) / 2) for (_, a), (later, b) in pairs]
        self._stride *= 2

    def points(self) -> tuple[tuple[int, float], ...]:
        """Return the steps and their losses, oldest first."""
        last = [(self._step, fmean(self._recent))] if self._recent else []
        return (*self._points, *last)
