"""Training the own experts of passages: each alone, on the frozen base, several in one batch.

As with facts (`pipelines.own_training`), a passage's experts are a function of the base, the
settings and the passage, to the last bit: the shape of its batch follows from the passage alone.

In each step a passage answers some questions, in the form in which they are asked, and reads some
of its sentences, so that each may begin a text; in some steps also its whole text. What experts
cannot change is computed once: what the base's lower layers make of a row, and all that it makes of
a question, since experts are active from its last token on.

Shape suffixes: G passages of a group, R rows of a group, T tokens, X places that predict a token.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, Item, OwnExperts
from pipelines.batches import Row, pad, predicts, tokenise
from pipelines.own_training import Group, fit, in_groups
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings, fast_training

LENGTHS = 64
"""Whole texts are padded to a multiple of so many tokens, a *stretch*."""
SENTENCE_LENGTH, QUESTION_LENGTH, ANSWER_LENGTH = 32, 32, 10
"""To which sentences, questions and answers are padded, in tokens. Longer sentences are cut; longer
questions and answers are left out."""
SENTENCES, QUESTIONS = 3, 12
"""Of a passage in a step."""
QUESTIONS_OF_STRETCH = 6
"""A passage learns so many questions for each of its stretches."""
WHOLE_EVERY = 3
"""Steps from one reading of the whole text to the next."""
LEAST_STEPS = 12
GROUP_TOKENS = 1024
"""Padded tokens of a step; a smaller one is filled up with copies of its last passage."""
T = TypeVar("T")
NUM_HOSTS = 5
PASSAGE_RECIPE = 2
"""Part of each passage's seed, as of a fact's."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_MIN_WORDS = 5
"""Of a part of a text that is read alone; shorter ones go on to the next end."""


def passage_host_layers(depth: int) -> tuple[int, ...]:
    """Return the decoder layers that carry passages' experts: five in the upper two thirds.

    Example:
        >>> passage_host_layers(30)
        (10, 14, 18, 22, 26)
        >>> passage_host_layers(4)
        (1, 2, 3)
    """
    places = range(NUM_HOSTS)
    return tuple(sorted({min(depth - 1, round(depth * (5 + 2 * n) / 15)) for n in places}))


class _Asked(NamedTuple):
    """A question in the form in which it is asked, and its answer with the line's end."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Passage:
    """What is learned as one item of a document. All ids begin with the start token."""

    document_id: str
    ids: tuple[int, ...]
    """Of its text."""
    title: tuple[int, ...]
    """Of its title, without a start token."""
    sentences: tuple[tuple[int, ...], ...]
    asked: tuple[_Asked, ...]
    questions: tuple[tuple[str, str, str], ...]
    """What is asked, as question, answer and who made it."""

    @property
    def num_stretches(self) -> int:
        """Its length in units of `LENGTHS`: the shape of its batch follows from it alone."""
        return _num_stretches(self.ids)


def _num_stretches(ids: Sequence[int]) -> int:
    return -(-len(ids) // LENGTHS)


def question_ids(tokenizer: Any, question: str) -> tuple[list[int], int, int]:
    """Return a question in the form in which it is learned and asked: token ids, the start token
    first, and the question's own first token and the one behind its last.
    """
    before, own, after = (
        tokenise(tokenizer, [text])[0] for text in ("Question:", f" {question}", "\nAnswer:")
    )
    return [*before, *own[1:], *after[1:]], len(before), len(before) + len(own) - 1


def make_passage(
    tokenizer: Any, row: Row, title: str, questions: Sequence[tuple[str, str, str]]
) -> Passage:
    """Return a row of a document as a passage, with the questions that it is to answer."""
    text = str(tokenizer.decode(row.ids[1:], skip_special_tokens=True))
    most = _num_stretches(row.ids) * QUESTIONS_OF_STRETCH
    asked, learned = list[_Asked](), []
    for one in questions:
        prompt = question_ids(tokenizer, one[0])[0]
        answer = tokenise(tokenizer, [f" {one[1]}\n"])[0][1:]
        fits = len(prompt) <= QUESTION_LENGTH and len(answer) <= ANSWER_LENGTH
        if fits and len(asked) < most:
            asked.append(_Asked(tuple(prompt), tuple(answer)))
            learned.append(one)
    return Passage(
        document_id=row.document_id,
        ids=row.ids,
        title=tuple(tokenise(tokenizer, [f"{title}\n\n"])[0][1:]) if title else (),
        # A piece may hold an end token alone.
        sentences=tuple(_sentences(tokenizer, text)) or (row.ids[:SENTENCE_LENGTH],),
        asked=tuple(asked),
        questions=tuple(learned),
    )


def _sentences(tokenizer: Any, text: str) -> list[tuple[int, ...]]:
    """Return a text's sentences as token ids, cut to a length; very short ones with the next."""
    parts = [""]
    for sentence in SENTENCE_END.split(text):
        if len(parts[-1].split()) >= _MIN_WORDS:
            parts.append("")
        parts[-1] = f"{parts[-1]} {sentence}".strip()
    rows = tokenise(tokenizer, [part for part in parts if part])
    return [tuple(ids[:SENTENCE_LENGTH]) for ids in rows]


def train_passages(
    hooks: Hooks,
    passages: Sequence[Passage],
    *,
    settings: TrainingSettings,
    checkpoints: Path,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of passages, in the order given.

    Args:
        hooks: on the base.
        passages: at least one.
        settings: of the training.
        checkpoints: a folder to which each finished group is written. Where it holds some, these
            are not trained again.
        progress: called after each group.

    Raises:
        DamageError: when experts are not finite.
    """
    by_shape: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, one in enumerate(passages):
        by_shape[one.num_stretches, bool(one.asked)].append(number)

    def groups() -> Iterator[Group[int]]:
        for (stretches, _), numbers in sorted(by_shape.items()):
            step = stretches * LENGTHS + SENTENCES * SENTENCE_LENGTH + QUESTIONS * ANSWER_LENGTH
            size = max(1, GROUP_TOKENS // step)
            for at in range(0, len(numbers), size):
                chosen = [passages[number] for number in numbers[at : at + size]]
                about = [PASSAGE_RECIPE, settings.seed, *map(_read, chosen)]
                yield Group(numbers[at : at + size], about, partial(train, chosen, size))

    def train(chosen: Sequence[Passage], size: int) -> dict[str, Tensor]:
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        down, up = _train(hooks, filled, settings)
        return {"down": down[: len(chosen)], "up": up[: len(chosen)]}

    order = range(len(passages))
    learned = in_groups(groups(), order, checkpoints, "learning passages", progress)
    return _empty(hooks, passages, settings).holding(learned["down"], learned["up"])


def _empty(hooks: Hooks, passages: Sequence[Passage], settings: TrainingSettings) -> OwnExperts:
    return OwnExperts(
        [Item(one.document_id, questions=one.questions) for one in passages],
        torch.empty(len(passages), 0, 0),
        [torch.tensor([one.ids[0], *one.title, *one.ids[1:]]).int() for one in passages],
        host_layers=passage_host_layers(len(hooks.layers)),
        width=hooks.width,
        num_experts=settings.passage_experts,
    )


class _Rows:
    """Rows of a group's passages as one batch, equally many of each, one passage after the other.

    Args:
        rows: their token ids; the start token first.
        length: to which they are padded.
        past: what the base has made of questions before them, on whose answers these rows go on.
        before_RP: int64; 1 where the past holds a token, 0 for padding.
    """

    def __init__(
        self,
        hooks: Hooks,
        rows: Sequence[Sequence[int]],
        length: int,
        own: OwnExperts,
        past: Any = None,
        before_RP: Tensor | None = None,
    ) -> None:
        self._hooks, self._own, self._past = hooks, own, past
        self._ids_RT, mask_RT = pad(rows, pad_id=0, length=length)
        if before_RP is None:
            self._given = {"attention_mask": mask_RT}
        else:
            whole_RT = torch.cat([before_RP, mask_RT], 1)
            positions_RT = (whole_RT.cumsum(1) - 1)[:, -length:]
            self._given = {"attention_mask": whole_RT, "position_ids": positions_RT}
        self._counted_RT = predicts(mask_RT)
        self._targets_X = self._ids_RT.roll(-1, 1)[self._counted_RT]
        num_each = len(rows) // len(own.items)
        weights_R1 = 1 / (num_each * self._counted_RT.sum(1, keepdim=True))
        self._weights_X = weights_R1.expand(self._counted_RT.shape)[self._counted_RT]
        numbers_R1 = torch.arange(len(own.items)).repeat_interleave(num_each)[:, None]
        self._items_RT = numbers_R1.where(mask_RT.bool(), NO_ITEM)
        self._first = own.host_layers[0]
        below = max(0, self._first - 1)
        with (
            torch.no_grad(),
            hooks.bare(keep_states=[below]) as seen,
            hooks.below(below + 1),
            hooks.head_at(torch.zeros_like(self._counted_RT)),
        ):
            self._read()
        self._states_RTD = seen.states[below]

    def _read(self) -> Tensor:
        # What is read is added to the past: a copy's.
        past = None if self._past is None else copy.deepcopy(self._past)
        output = self._hooks.base(
            input_ids=self._ids_RT,
            cache=past,
            use_cache=past is not None,
            **self._given,
        )
        logits_XV: Tensor = output.logits[0]
        return logits_XV

    def loss(self) -> Tensor:
        """Return the sum over passages of the mean over their rows of nats a token."""
        with (
            self._hooks.branch((), own=[self._own], items_BT=self._items_RT, alike=True),
            self._hooks.above(self._first, self._states_RTD),
            self._hooks.head_at(self._counted_RT),
        ):
            logits_XV = self._read()
        nats_X = functional.cross_entropy(logits_XV.float(), self._targets_X, reduction="none")
        return (nats_X * self._weights_X).sum()


@torch.no_grad()
def _answers(hooks: Hooks, asked: Sequence[_Asked], own: OwnExperts) -> _Rows:
    """Return the answers to questions as rows; what the base makes of the questions is their past.

    Questions are padded on the left, so that answers stand side by side.
    """
    prompts = [one.prompt[:-1] for one in asked]
    turned_RP, mask_RP = pad([ids[::-1] for ids in prompts], pad_id=0, length=QUESTION_LENGTH)
    ids_RP, mask_RP = turned_RP.flip(1), mask_RP.flip(1)
    with hooks.bare(), hooks.head_at(torch.zeros_like(mask_RP).bool()):
        past = hooks.base(
            input_ids=ids_RP,
            attention_mask=mask_RP,
            position_ids=(mask_RP.cumsum(1) - 1).clamp_min(0),
            use_cache=True,
        ).cache
    rows = [(one.prompt[-1], *one.answer) for one in asked]
    return _Rows(hooks, rows, 1 + ANSWER_LENGTH, own, past, mask_RP)


def _train(
    hooks: Hooks, passages: Sequence[Passage], settings: TrainingSettings
) -> tuple[Tensor, Tensor]:
    """Return what a group's passages learn: down and up (G, L, R, D), bf16."""
    own = _empty(hooks, passages, settings)
    seeds = [_seed(one, settings) for one in passages]
    own.reset(seeds)
    num_stretches = passages[0].num_stretches
    device = next(hooks.base.parameters()).device.type
    with (
        hooks.frozen(),
        fast_training(hooks.base, settings.precision),
        torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"),
    ):
        whole = _Rows(hooks, [one.ids for one in passages], num_stretches * LENGTHS, own)
        sentences = [
            _Rows(hooks, rows, SENTENCE_LENGTH, own)
            for rows in _turns([one.sentences for one in passages], seeds, SENTENCES, num_stretches)
        ]
        num_turns = -(-num_stretches * QUESTIONS_OF_STRETCH // QUESTIONS)
        answers = [
            _answers(hooks, rows, own)
            for rows in _turns([one.asked for one in passages], seeds, QUESTIONS, num_turns)
        ]

        def loss(step: int) -> Tensor:
            read = [sentences[step % len(sentences)]]
            if answers:
                read.append(answers[step % len(answers)])
            if not step % WHOLE_EVERY:
                read.append(whole)
            return torch.stack([rows.loss() for rows in read]).sum()

        num_steps = max(LEAST_STEPS, settings.passage_readings * num_stretches)
        return fit(own, loss, num_steps, settings.passage_learning_rate)


def _turns(
    rows: Sequence[Sequence[T]], seeds: Sequence[int], num: int, turns: int
) -> list[list[T]]:
    """Return which rows the passages of a group read in turn, `num` of each passage, in an order of
    its own; the last are filled up with the first."""
    orders = []
    for own, seed in zip(rows, seeds, strict=True):
        if not own:
            return []
        order = [*own]
        random.Random(seed).shuffle(order)
        orders.append((order * -(-num * turns // len(order)))[: num * turns])
    return [
        [row for order in orders for row in order[at : at + num]]
        for at in range(0, num * turns, num)
    ]


def _read(passage: Passage) -> list[Any]:
    return [passage.ids, passage.sentences, passage.asked]


def _seed(passage: Passage, settings: TrainingSettings) -> int:
    about = json.dumps([PASSAGE_RECIPE, settings.seed, _read(passage)])
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:7], "big")
