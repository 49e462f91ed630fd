"""What became of general ability: two models' verdicts compared item by item.

Accuracy: the p value is that of McNemar's exact test. The 95 % interval of the difference is the
score interval for paired shares (Tango 1998, Statistics in Medicine 17:891), which turns the same
test round. A bootstrap would give an interval of no width where no verdict changed, as if that were
certain beyond the items that were asked; this one does not.
Loss: a bootstrap over texts, since no test of shares applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from peer_cl.errors import InputError
from pipelines.general import ItemScore

_Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
_DRAWS = 2000


@dataclass(frozen=True)
class Change:
    """One task before and after."""

    num_items: int
    num_changed: int
    """Items whose verdict or choice differs; of texts, those whose loss differs at all."""
    gains: int
    """Wrong before, right after; of texts, those with a smaller loss."""
    losses: int
    """Right before, wrong after; of texts, those with a larger loss."""
    difference: float
    """After less before. Accuracy (share): negative = forgot. Loss (nats): positive = forgot."""
    low: float
    high: float
    """The 95 % interval of the difference."""
    p_value: float | None
    """Of no difference, two-sided, by McNemar's exact test; None for texts."""


def changed(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> dict[str, Change]:
    """Return, by task, what changed between two models' scores of the same items.

    Raises:
        InputError: when the items are not the same.
    """
    earlier, later = _by_key(before), _by_key(after)
    if earlier.keys() != later.keys():
        num = len(earlier.keys() ^ later.keys())
        raise InputError(f"{num} items were scored by one model only: score both on the same ones")
    pairs: dict[str, list[tuple[ItemScore, ItemScore]]] = {}
    for (task, key), one in earlier.items():
        pairs.setdefault(task, []).append((one, later[task, key]))
    return {
        task: _verdicts(found) if found[0][0].num_tokens is None else _texts(found)
        for task, found in pairs.items()
    }


def _by_key(scores: Sequence[ItemScore]) -> dict[tuple[str, str], ItemScore]:
    return {(one.task, one.key): one for one in scores}


def _verdicts(pairs: Sequence[tuple[ItemScore, ItemScore]]) -> Change:
    gains = sum(bool(after.is_right) > bool(before.is_right) for before, after in pairs)
    losses = sum(bool(after.is_right) < bool(before.is_right) for before, after in pairs)
    low, high = paired_interval(gains, losses, len(pairs))
    return Change(
        num_items=len(pairs),
        num_changed=sum((a.is_right, a.choice) != (b.is_right, b.choice) for a, b in pairs),
        gains=gains,
        losses=losses,
        difference=(gains - losses) / len(pairs),
        low=low,
        high=high,
        p_value=mcnemar(gains, losses),
    )


def _texts(pairs: Sequence[tuple[ItemScore, ItemScore]]) -> Change:
    """Return the difference of mean losses a token, and its interval over draws of whole texts."""
    added_N = np.array([before.log_probs[0] - after.log_probs[0] for before, after in pairs])
    tokens_N = np.array([before.num_tokens for before, _ in pairs], dtype=float)
    draw = np.random.default_rng(0)
    drawn_RN = draw.integers(0, len(pairs), (_DRAWS, len(pairs)))
    means_R = added_N[drawn_RN].sum(1) / tokens_N[drawn_RN].sum(1)
    low, high = np.quantile(means_R, [0.025, 0.975])
    gains, losses = int((added_N < 0).sum()), int((added_N > 0).sum())
    return Change(
        num_items=len(pairs),
        num_changed=gains + losses,
        gains=gains,
        losses=losses,
        difference=float(added_N.sum() / tokens_N.sum()),
        low=float(low),
        high=float(high),
        p_value=None,
    )


def mcnemar(gains: int, losses: int) -> float:
    """Return the two-sided p value of no difference, by McNemar's exact test.

    Example:
        >>> mcnemar(0, 5), mcnemar(3, 3), mcnemar(0, 0)
        (0.0625, 1.0, 1.0)
    """
    num = gains + losses
    tail = sum(math.comb(num, k) for k in range(min(gains, losses) + 1))
    return min(1.0, float(2 * tail / 2**num))


def paired_interval(gains: int, losses: int, num_items: int) -> tuple[float, float]:
    """Return the 95 % score interval of a difference of paired shares (Tango 1998).

    Args:
        gains: items right only after.
        losses: items right only before.
        num_items: all items, those with the same verdict twice included.

    Example:
        >>> [round(end, 4) for end in paired_interval(0, 0, 1000)]
        [-0.0038, 0.0038]
    """

    def score(difference: float) -> float:
        return _score(difference, gains, losses, num_items)

    middle = (gains - losses) / num_items
    # The score falls as the difference that is tried rises.
    return _root(lambda d: score(d) - _Z, -1.0, middle), _root(lambda d: score(d) + _Z, middle, 1.0)


def _score(difference: float, gains: int, losses: int, num: int) -> float:
    """Return how far the counts are from a difference, in its standard errors."""
    # The likeliest share of losses, were this the true difference, solves a quadratic.
    b = (2 * num - gains + losses) * difference - gains - losses
    c = -losses * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 8 * num * c)) - b) / (4 * num)
    variance = num * (2 * share + difference * (1 - difference))
    distance = gains - losses - num * difference
    return math.copysign(math.inf, distance) if variance <= 0 else distance / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
