"""General ability: what a model makes of sets that no domain teaches, and two models compared.

Accuracies are shares, 0 to 1, higher is better; losses are nats a token, lower is better.

Compared item by item: the p value of accuracy is that of McNemar's exact test. The 95 % interval of
the difference is the score interval for paired shares (Tango 1998, Statistics in Medicine 17:891),
which turns the same test round. A bootstrap would give an interval of no width where no verdict
changed, as if that were certain beyond the items that were asked; this one does not. The interval
of losses is a bootstrap over texts, since no test of shares applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from peer_cl.errors import InputError
from pipelines.general_tasks import CHOICE, CONTINUATION, GeneralItem
from pipelines.questions import Question
from pipelines.reading import Reader, answers, log_probs

_Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
_DRAWS = 2000


class Scorer(Protocol):
    """What scoring needs of a model, whether it is one network, a mixture or a retriever."""

    def log_probs(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the log probability of each token after the start token, nats, a row each."""

    def answers(self, asked: Sequence[Question]) -> list[bool]:
        """Return for each question whether greedy decoding after its prompt writes the answer."""


@dataclass(frozen=True)
class ReaderScorer:
    """A reader as a scorer: each row is read alone and whole."""

    reader: Reader

    def log_probs(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the log probability of each token after the start token, nats, a row each."""
        return log_probs(self.reader, rows)

    def answers(self, asked: Sequence[Question]) -> list[bool]:
        """Return for each question whether greedy decoding after its prompt writes the answer."""
        return answers(self.reader, asked)


@dataclass(frozen=True)
class ItemScore:
    """What a model made of one item. Fields that a task has no use for are None or empty."""

    task: str
    key: str
    """The item's, by which two models' scores are paired."""
    log_probs: tuple[float, ...] = ()
    """Nats: of each choice, or of a whole text; empty for a continuation, which is decoded only."""
    num_tokens: int | None = None
    """Of a text."""
    choice: int | None = None
    """With the largest log probability a character; the first of equal ones."""
    plain_choice: int | None = None
    """With the largest log probability, whatever its length."""
    is_right: bool | None = None
    """Of a continuation: each of its tokens is the likeliest. Else: the choice is the right one."""
    is_plain_right: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that say something, as plain values for a result file."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> ItemScore:
        """Return the score that `to_dict` gave."""
        return cls(**{**about, "log_probs": tuple(about.get("log_probs", ()))})


def score(scorer: Scorer, items: Sequence[GeneralItem]) -> tuple[ItemScore, ...]:
    """Return what a model makes of each item, in their order; tasks may be mixed."""
    return tuple(map(judge, items, read_items(scorer, items)))


def read_items(scorer: Scorer, items: Sequence[GeneralItem]) -> list[tuple[float, ...]]:
    """Return the figures that a verdict on each item needs: all that a model has to be run for.

    Nats of each row after its context; of a continuation 1 where it is written exactly, else 0.
    All rows go to the scorer together, which groups them by length: the choices of one item mostly
    share a pass, and little is padded.
    """
    asked = [item for item in items if item.kind == CONTINUATION]
    said = iter(scorer.answers([_question(item) for item in asked]))
    read = [item for item in items if item.kind != CONTINUATION]
    values = iter(scorer.log_probs([row for item in read for row in item.rows]))
    return [
        (float(next(said)),)
        if item.kind == CONTINUATION
        else tuple(_sum(next(values), item) for _ in item.rows)
        for item in items
    ]


def _question(item: GeneralItem) -> Question:
    return Question("", "seen", item.rows[0], item.num_context)


def _sum(values_T: np.ndarray, item: GeneralItem) -> float:
    """Return a row's log probability after its context; nothing predicts the start token."""
    if item.uncounted:
        values_T = np.delete(values_T, [place - 1 for place in item.uncounted])
    return float(values_T[item.num_context - 1 :].sum())


def judge(item: GeneralItem, figures: Sequence[float]) -> ItemScore:
    """Return the verdict on an item, from the figures that `read_items` gives."""
    if item.kind == CONTINUATION:
        return ItemScore(item.task, item.key, is_right=bool(figures[0]))
    if item.kind != CHOICE:
        num_tokens = len(item.rows[0]) - item.num_context - len(item.uncounted)
        return ItemScore(item.task, item.key, tuple(figures), num_tokens)
    each = [nats / length for nats, length in zip(figures, item.num_characters, strict=True)]
    choice, plain = int(np.argmax(each)), int(np.argmax(figures))
    return ItemScore(
        item.task,
        item.key,
        tuple(figures),
        choice=choice,
        plain_choice=plain,
        is_right=choice == item.gold,
        is_plain_right=plain == item.gold,
    )


@dataclass(frozen=True)
class TaskResult:
    """One task in figures; those that it does not have are None."""

    num_items: int
    accuracy: float | None = None
    """Share right, 0 to 1; a choice is the one that is likeliest a character."""
    plain_accuracy: float | None = None
    """Share right where a choice is the likeliest one, whatever its length."""
    loss_nats: float | None = None
    """Mean loss a token over all texts, each scored alone."""


def results(scores: Sequence[ItemScore]) -> dict[str, TaskResult]:
    """Return each task's figures.

    Example:
        >>> right, wrong = (ItemScore("LAMBADA", key, is_right=key == "a") for key in "ab")
        >>> text = ItemScore("WikiText", "c", (-6.0,), num_tokens=2)
        >>> found = results([right, wrong, text])
        >>> found["LAMBADA"].accuracy, found["WikiText"].loss_nats
        (0.5, 3.0)
    """
    groups: dict[str, list[ItemScore]] = {}
    for one in scores:
        groups.setdefault(one.task, []).append(one)
    return {task: _result(group) for task, group in groups.items()}


def _result(group: Sequence[ItemScore]) -> TaskResult:
    num_tokens = sum(one.num_tokens or 0 for one in group)
    nats = -sum(sum(one.log_probs) for one in group if one.num_tokens)
    return TaskResult(
        num_items=len(group),
        accuracy=_share([one.is_right for one in group]),
        plain_accuracy=_share([one.is_plain_right for one in group]),
        loss_nats=nats / num_tokens if num_tokens else None,
    )


def _share(verdicts: Sequence[bool | None]) -> float | None:
    given = [verdict for verdict in verdicts if verdict is not None]
    return sum(given) / len(given) if given else None


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
    means_R = added_N[drawn_RN].sum(1) / tokens_N[drawn_RN].sum(1).clip(1)
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
