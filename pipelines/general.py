"""General ability, before and after: what any model makes of public tasks that no domain teaches.

Accuracies are shares, 0 to 1, higher is better; losses are nats a token, lower is better.
What is kept of each item is enough to compare two models item by item, which
`pipelines.general_changes` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from pipelines.general_tasks import CHOICE, CONTINUATION, GeneralItem
from pipelines.reading import Reader, answers, log_probs
from pipelines.recall import Question


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
        else tuple(_sum(next(values), item.num_context) for _ in item.rows)
        for item in items
    ]


def _question(item: GeneralItem) -> Question:
    return Question("", "seen", item.rows[0], item.num_context)


def _sum(values_T: np.ndarray, num_context: int) -> float:
    """Return a row's log probability after its context; nothing predicts the start token."""
    return float(values_T[num_context - 1 :].sum())


def judge(item: GeneralItem, figures: Sequence[float]) -> ItemScore:
    """Return the verdict on an item, from the figures that `read_items` gives."""
    if item.kind == CONTINUATION:
        return ItemScore(item.task, item.key, is_right=bool(figures[0]))
    if item.kind != CHOICE:
        num_tokens = len(item.rows[0]) - item.num_context
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
