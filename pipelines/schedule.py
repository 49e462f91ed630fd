"""The learning rate over a run: warmed up, then falling linearly to nothing."""

from __future__ import annotations


def rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the factor on the learning rates at a step.

    A short run warms up for a fifth of it at most.

    Example:
        >>> [round(rate_factor(step, 20, 4), 2) for step in (0, 3, 4, 12, 19)]
        [0.25, 1.0, 1.0, 0.5, 0.06]
    """
    warm = min(warmup_steps, max(1, total_steps // 5))
    if step < warm:
        return (step + 1) / warm
    return max(0.0, (total_steps - step) / max(1, total_steps - warm))
