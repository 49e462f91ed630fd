"""Passages as items that are learned: which questions and pieces of its text a passage reads.

In each step a passage answers some questions, in the form in which they are asked, and reads some
pieces of its text that begin with a sentence, each as if it began a text.

Where settings give passages no steps they have no experts, and are only found.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peer_cl.hooks import Hooks
from peer_cl.own import Item, OwnExperts
from pipelines.batches import Row, tokenise
from pipelines.corpora import SENTENCE_END
from pipelines.encoder import vectors_of
from pipelines.forms import question_ids
from pipelines.own_training import (
    NOTHING,
    Course,
    Lesson,
    Method,
    Reading,
    Start,
    fitting,
    learn_items,
)
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings
from pipelines.study.questions import BUILT_IN
from pipelines.units import units_of, with_title

STRETCH = 64
"""Steps and questions are counted by so many tokens of a text."""
TEXT_LENGTH, QUESTION_LENGTH = 32, 32
"""Of rows, in tokens. Longer sentences are cut; longer questions are left out where they were made,
and people's are cut at their beginning."""
ANSWER_LENGTHS = (7, 16, 32, 64)
"""Of answers' rows, in tokens. A passage's longest answer decides: those whose answers are short
need not pay for others'. Made answers that are longer than the first are left out, and people's are
cut at the last."""
TEXTS, QUESTIONS = 4, 8
"""Rows of a passage in a step."""
QUESTIONS_OF_STRETCH = 4
"""A passage learns so many made questions for each of its stretches, fewer beside people's; with
more of these it takes more steps."""
OWN_TURNS = 2
"""How often a question of people is answered where a made one is answered once."""
LEAST_QUESTIONS = 4
"""A passage with fewer made questions learns them all; of others one is kept to be asked."""
LEAST_STRETCHES = 1.25
"""A shorter passage takes as many steps as one of so many."""
BETAS = (0.7, 0.95)
"""Of Adam; shorter memories than usual, for few steps."""
NUM_HOSTS = 5
PASSAGE_RECIPE = 5
"""Part of each passage's seed, as of a fact's."""
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


@dataclass(frozen=True)
class Passage:
    """What is learned as one item of a document. All ids begin with the start token."""

    document_id: str
    ids: tuple[int, ...]
    """Of its text."""
    title: tuple[int, ...]
    """Of its title, without a start token."""
    texts: tuple[tuple[int, ...], ...]
    """What of its text is read at a time."""
    heading: str
    """Its document's title."""
    units: tuple[str, ...]
    """Of its text: what a question is compared with, and an answer quotes."""
    asked: tuple[Reading, ...]
    """Questions in the form in which they are asked, and their answers with the line's end."""
    questions: tuple[tuple[str, str, str], ...]
    """What is asked, as question, answer and who made it,"""
    kept: tuple[tuple[str, str, str], ...]
    """and what is kept to be asked, likewise."""

    @property
    def of_people(self) -> tuple[tuple[str, str, str], ...]:
        """The questions that people asked, which lead to it."""
        return tuple(one for one in self.questions if one[2] != BUILT_IN)

    @property
    def num_tokens(self) -> int:
        """Of its text."""
        return len(self.ids) - 1

    @property
    def answer_length(self) -> int:
        """Of the rows of its answers, in tokens: one of `ANSWER_LENGTHS`."""
        longest = max((len(one.ids) - 1 for one in self.asked), default=0)
        return next(length for length in ANSWER_LENGTHS if length >= longest)


def make_passage(
    tokenizer: Any, row: Row, title: str, questions: Sequence[tuple[str, str, str]]
) -> Passage:
    """Return a row of a document as a passage, with the questions that it is to answer.

    Those of people come first. One question that was made is kept to be asked, drawn by its hash.
    """
    text = str(tokenizer.decode(row.ids[1:], skip_special_tokens=True))
    most = -(-len(row.ids) // STRETCH) * QUESTIONS_OF_STRETCH
    fitting = list[tuple[tuple[str, str, str], Reading]]()
    for one in questions:
        prompt = question_ids(tokenizer, one[0])[0]
        answer = tokenise(tokenizer, [f" {one[1]}\n"])[0][1:]
        if one[2] != BUILT_IN:
            prompt = [prompt[0], *prompt[1:][1 - QUESTION_LENGTH :]]
            answer = answer[: ANSWER_LENGTHS[-1]]
        elif len(prompt) > QUESTION_LENGTH or len(answer) > ANSWER_LENGTHS[0]:
            continue
        fitting.append((one, Reading(tuple(prompt[:-1]), (prompt[-1], *answer))))
    made = [pair for pair in fitting if pair[0][2] == BUILT_IN]
    own = [pair for pair in fitting if pair[0][2] != BUILT_IN]
    kept: tuple[tuple[str, str, str], ...] = ()
    if len(made) >= LEAST_QUESTIONS:
        kept = (min((one for one, _ in made), key=_by_hash),)
        made = [pair for pair in made if pair[0] not in kept]
    learned = [*own, *made[: max(0, most - OWN_TURNS * len(own))]]
    turns = [*own * (OWN_TURNS - 1), *learned]
    return Passage(
        document_id=row.document_id,
        ids=row.ids,
        title=tuple(tokenise(tokenizer, [f"{title}\n\n"])[0][1:]) if title else (),
        # A piece may hold an end token alone.
        texts=tuple(_texts(tokenizer, text)) if text.strip() else (row.ids[:TEXT_LENGTH],),
        heading=title,
        units=units_of(text) or (title,),
        asked=tuple(asked for _, asked in turns),
        questions=tuple(one for one, _ in learned),
        kept=kept,
    )


def _by_hash(question: tuple[str, str, str]) -> bytes:
    return hashlib.sha256(question[0].encode()).digest()


def _texts(tokenizer: Any, text: str) -> list[tuple[int, ...]]:
    """Return what of a text is read at a time, as token ids: from each sentence's beginning on, and
    of a longer one from where the last ended.
    """
    begins = [0]
    for match in SENTENCE_END.finditer(text):
        if len(text[begins[-1] : match.start()].split()) >= _MIN_WORDS:
            begins.append(match.end())
    found = []
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
        (ids,) = tokenise(tokenizer, [text[begin:] or text])
        num_own = len(tokenise(tokenizer, [text[begin:end] or text])[0])
        for at in range(1, num_own, TEXT_LENGTH - 1):
            found.append((ids[0], *ids[at : at + TEXT_LENGTH - 1]))
    return found


def train_passages(
    hooks: Hooks,
    passages: Sequence[Passage],
    *,
    settings: TrainingSettings,
    encoder: str,
    checkpoints: Path,
    start: Start | None = None,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of passages, in the order given.

    Args:
        hooks: on the base.
        passages: at least one.
        settings: of the training.
        encoder: the store's, by which requests find units.
        checkpoints: a folder to which each finished passage is written. Where it holds some, these
            are not trained again.
        start: where their experts begin; default: at random.
        progress: called after each passage.

    Raises:
        DamageError: when experts are not finite.
    """
    settings = settings.begun({} if start is None else {"passages": start})
    method = passage_method(hooks, settings, start)
    weights: tuple[Tensor, Tensor] | None = None
    if settings.passage_readings:
        courses = [passage_course(one, settings) for one in passages]
        weights = learn_items(hooks, courses, method, checkpoints, progress)
    vectors = list[Tensor]()
    for number, one in enumerate(passages, start=1):
        asked = [question for question, _, _ in one.of_people]
        told = [with_title(one.heading, unit) for unit in one.units]
        vectors.append(vectors_of(encoder, [*told, *asked]))
        progress("reading sentences", number, len(passages), "")
    is_learned = weights is not None
    none = torch.zeros(len(passages), len(method.host_layers), 0, hooks.width)
    return OwnExperts(
        [
            Item(
                one.document_id,
                title=one.heading,
                units=one.units,
                questions=one.questions if is_learned else one.of_people,
                kept=one.kept,
            )
            for one in passages
        ],
        torch.empty(len(passages), 0, 0),
        [torch.tensor([one.ids[0], *one.title, *one.ids[1:]]).int() for one in passages],
        vectors,
        host_layers=method.host_layers,
        width=hooks.width,
        num_experts=method.num_experts if is_learned else 0,
        weights=weights or (none, none),
    ).to(hooks.device)


def passage_method(hooks: Hooks, settings: TrainingSettings, start: Start | None = None) -> Method:
    """Return how passages are learned, by settings and from a start that is used where it fits."""
    return Method(
        what="learning passages",
        recipe=PASSAGE_RECIPE,
        seed=settings.seed,
        host_layers=passage_host_layers(len(hooks.layers)),
        num_experts=settings.passage_experts,
        learning_rate=settings.passage_learning_rate,
        warmup_steps=2,
        betas=BETAS,
        precision=settings.precision,
        start=fitting(start, settings.passage_experts),
    )


def passage_course(passage: Passage, settings: TrainingSettings) -> Course:
    """Return what a passage reads in so many steps."""
    about = json.dumps([settings.seed, passage.texts, [one.prompt for one in passage.asked]])
    draw = random.Random(about)
    num_own = OWN_TURNS * len(passage.of_people)
    stretches = max(LEAST_STRETCHES, passage.num_tokens / STRETCH, num_own / QUESTIONS_OF_STRETCH)
    pieces = tuple(Reading((), ids) for ids in draw.sample(passage.texts, len(passage.texts)))
    asked = tuple(draw.sample(passage.asked, len(passage.asked))) or (NOTHING,)
    texts = Lesson(pieces, tuple(range(len(pieces))), TEXTS, TEXT_LENGTH, prompt_length=0)
    answers = Lesson(
        asked, tuple(range(len(asked))), QUESTIONS, passage.answer_length, QUESTION_LENGTH
    )
    num_steps = max(1, round((settings.passage_readings or 0) * stretches))
    return Course((texts, answers), num_steps)
