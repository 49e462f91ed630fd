"""Training the own experts of passages: each alone, on the frozen base, several in one batch.

As with facts (`pipelines.own_training`), a passage's experts are a function of the base, the
settings and the passage, to the last bit: the shape of its batch follows from the passage alone.

In each step a passage reads some short rows: questions that it answers, in the form in which they
are asked, and its sentences, so that each may begin a text; in some steps also its whole text. Its
experts lie in the upper two thirds of the layers: what lower ones make of a row is computed once.

Shape suffixes: G passages of a group, T tokens, X places of a group that predict a token.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, Item, OwnExperts
from pipelines.batches import Row, pad, tokenise
from pipelines.own_training import Group, fit, in_groups
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings, fast_training

LENGTHS, SHORT_LENGTHS = 32, 16
"""Whole texts are padded to a multiple of so many tokens, short rows to so many."""
MAX_SHORT = 64
"""Tokens of a short row, the start token included."""
SHORT_ROWS = 8
"""Short rows that a passage reads in a step."""
WHOLE_EVERY = 3
"""Steps from one reading of the whole text to the next."""
GROUP_TOKENS = 1536
"""Padded tokens of a step; a smaller one is filled up with copies of its last passage."""
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


class _Reading(NamedTuple):
    """Token ids, and the first of them that is to be foreseen."""

    ids: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Passage:
    """What is learned as one item of a document."""

    document_id: str
    ids: tuple[int, ...]
    """Of its text, the start token first."""
    title: tuple[int, ...]
    """Token ids of its title, without a start token."""
    questions: tuple[tuple[str, str, str], ...]
    """Question, answer and who made it."""
    short: tuple[_Reading, ...]
    """What it reads beside its whole text: at least one."""

    @property
    def shape(self) -> tuple[int, int]:
        """The tokens of its padded text, and of a padded short row."""
        longest = max(len(one.ids) for one in self.short)
        return (
            -(-len(self.ids) // LENGTHS) * LENGTHS,
            -(-longest // SHORT_LENGTHS) * SHORT_LENGTHS,
        )


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
    short = [_Reading(ids, 1) for ids in _parts(tokenizer, text)]
    for question, answer, _ in questions:
        prompt = question_ids(tokenizer, question)[0]
        ids = [*prompt, *tokenise(tokenizer, [f" {answer}\n"])[0][1:]]
        if len(ids) <= MAX_SHORT:
            short.append(_Reading(tuple(ids), len(prompt)))
    titled = tuple(tokenise(tokenizer, [f"{title}\n\n"])[0][1:]) if title else ()
    return Passage(row.document_id, row.ids, titled, tuple(questions), tuple(short))


def _parts(tokenizer: Any, text: str) -> list[tuple[int, ...]]:
    """Return a text's sentences as token ids, cut to `MAX_SHORT`; short ones with the next."""
    parts = [""]
    for sentence in SENTENCE_END.split(text):
        if len(parts[-1].split()) >= _MIN_WORDS:
            parts.append("")
        parts[-1] = f"{parts[-1]} {sentence}".strip()
    rows = tokenise(tokenizer, [part for part in parts if part] or [text])
    return [tuple(ids[:MAX_SHORT]) for ids in rows]


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
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, one in enumerate(passages):
        by_shape[one.shape].append(number)

    def groups() -> Iterator[Group[int]]:
        for shape, numbers in sorted(by_shape.items()):
            size = max(1, GROUP_TOKENS // (shape[0] + SHORT_ROWS * shape[1]))
            for at in range(0, len(numbers), size):
                chosen = [passages[number] for number in numbers[at : at + size]]
                about = [PASSAGE_RECIPE, settings.seed, *map(_read, chosen)]
                work = partial(train, chosen, size, shape)
                yield Group(numbers[at : at + size], about, work)

    def train(chosen: Sequence[Passage], size: int, shape: tuple[int, int]) -> dict[str, Tensor]:
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        down, up = _train(hooks, filled, shape, settings)
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
    """Rows of a group's passages as one batch: what the base's lower layers make of them, and the
    loss of what is to be foreseen in them.

    Args:
        rows: of each passage equally many, one passage after the other.
        length: to which they are padded.
        size: the number of passages.
    """

    def __init__(
        self, hooks: Hooks, rows: Sequence[_Reading], length: int, size: int, own: OwnExperts
    ) -> None:
        self._hooks, self._own = hooks, own
        self._ids_RT, self._mask_RT = pad([one.ids for one in rows], pad_id=0, length=length)
        places_T = torch.arange(length)
        firsts_R1 = torch.tensor([[one.first] for one in rows])
        lasts_R1 = self._mask_RT.sum(1, keepdim=True)
        self._counted_RT = (places_T >= firsts_R1 - 1) & (places_T < lasts_R1 - 1)
        self._targets_X = self._ids_RT.roll(-1, 1)[self._counted_RT]
        num_each, shape = len(rows) // size, self._counted_RT.shape
        weights_R1 = 1 / (num_each * self._counted_RT.sum(1, keepdim=True))
        self._weights_X = weights_R1.expand(shape)[self._counted_RT]
        numbers_R1 = torch.arange(size).repeat_interleave(num_each)[:, None]
        self._items_RT = numbers_R1.where(self._mask_RT.bool(), NO_ITEM)
        self._first = own.host_layers[0]
        with (
            torch.no_grad(),
            hooks.bare(keep_states=[max(0, self._first - 1)]) as seen,
            hooks.head_at(torch.zeros_like(self._counted_RT)),
        ):
            self._read()
        self._states_RTD = seen.states[max(0, self._first - 1)]

    def _read(self) -> Tensor:
        output = self._hooks.base(
            input_ids=self._ids_RT, attention_mask=self._mask_RT, use_cache=False
        )
        logits_XV: Tensor = output.logits[0]
        return logits_XV

    def loss(self) -> Tensor:
        """Return the sum over passages of the mean over their rows of nats a token."""
        with (
            self._hooks.branch((), own=[self._own], items_BT=self._items_RT),
            self._hooks.above(self._first, self._states_RTD),
            self._hooks.head_at(self._counted_RT),
        ):
            logits_XV = self._read()
        nats_X = functional.cross_entropy(logits_XV.float(), self._targets_X, reduction="none")
        return (nats_X * self._weights_X).sum()


def _train(
    hooks: Hooks, passages: Sequence[Passage], shape: tuple[int, int], settings: TrainingSettings
) -> tuple[Tensor, Tensor]:
    """Return what a group's passages learn: down and up (G, L, R, D), bf16."""
    own, size = _empty(hooks, passages, settings), len(passages)
    seeds = [_seed(one, settings) for one in passages]
    own.reset(seeds)
    chunks = [_chunks(one.short, seed) for one, seed in zip(passages, seeds, strict=True)]
    device = next(hooks.base.parameters()).device.type
    with (
        hooks.frozen(),
        fast_training(hooks.base, settings.precision),
        torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"),
    ):
        wholes = [_Reading(one.ids, 1) for one in passages]
        whole = _Rows(hooks, wholes, shape[0], size, own)
        short: dict[tuple[int, ...], _Rows] = {}

        def loss(step: int) -> Tensor:
            turn = tuple(step % len(one) for one in chunks)
            if turn not in short:
                rows = [row for one, at in zip(chunks, turn, strict=True) for row in one[at]]
                short[turn] = _Rows(hooks, rows, shape[1], size, own)
            total = short[turn].loss()
            return total if step % WHOLE_EVERY else total + whole.loss()

        return fit(own, loss, settings.passage_steps, settings.passage_learning_rate)


def _chunks(rows: Sequence[_Reading], seed: int) -> list[list[_Reading]]:
    """Return a passage's short rows in an order of its own, `SHORT_ROWS` a step; the last step's
    are filled up from the first's."""
    order = [*rows]
    random.Random(seed).shuffle(order)
    num = -(-len(order) // SHORT_ROWS) * SHORT_ROWS
    filled = (order * -(-num // len(order)))[:num]
    return [filled[at : at + SHORT_ROWS] for at in range(0, num, SHORT_ROWS)]


def _read(passage: Passage) -> list[Any]:
    return [passage.ids, passage.short]


def _seed(passage: Passage, settings: TrainingSettings) -> int:
    about = json.dumps([PASSAGE_RECIPE, settings.seed, _read(passage)])
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:7], "big")
