"""Facts as items that are learned: which rows a fact reads, and what it costs then.

In turn a fact reads its statement and the same in changed words, which are background text's. Its
experts are active from its subject's end on, and foresee its answer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from peer_cl.errors import StateError
from peer_cl.hooks import Hooks
from peer_cl.items import RelationSpace
from peer_cl.own import NO_ITEM, Item, OwnExperts
from peer_cl.router import Background
from pipelines.batches import group_by_length, num_shared, pad, pieces, tokenise
from pipelines.encoder import vectors_of
from pipelines.facts import Fact, changed_prompt
from pipelines.keys import READ_TOKENS, is_text, text_nats
from pipelines.own_training import Course, Lesson, Method, Reading, Start, fitting, learn_items
from pipelines.progress import Progress, no_progress
from pipelines.relations import relation_keys, subject_spellings
from pipelines.settings import TrainingSettings, reading

LENGTHS, PROMPT_LENGTHS = 16, 32
"""Rows and prompts are padded to a multiple of so many tokens."""
FACT_RECIPE = 6
"""Part of each fact's seed: raised when the same settings would teach facts in another way."""
NUM_HOSTS = 9


def own_host_layers(depth: int) -> tuple[int, ...]:
    """Return the decoder layers that carry own experts: nine, evenly spread.

    Example:
        >>> own_host_layers(30)
        (3, 6, 9, 12, 15, 18, 21, 24, 27)
        >>> own_host_layers(4)
        (0, 1, 2, 3)
    """
    places = range(1, NUM_HOSTS + 1)
    return tuple(sorted({min(depth - 1, round(depth * n / (NUM_HOSTS + 1))) for n in places}))


@dataclass(frozen=True)
class _Taught:
    """A fact, and what it reads: by this fact alone."""

    spellings: tuple[tuple[int, ...], ...]
    """Of its subject, as token ids."""
    course: Course

    @property
    def num_answer(self) -> int:
        """The most tokens of its answer."""
        (lesson,) = self.course.lessons
        return max(len(one.ids) - 1 - one.first for one in lesson.readings)


def train_facts(
    hooks: Hooks,
    facts: Mapping[str, Fact],
    *,
    tokenizer: Any,
    space: RelationSpace,
    words: Sequence[str],
    settings: TrainingSettings,
    encoder: str,
    checkpoints: Path,
    start: Start | None = None,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of facts, in the order given.

    Args:
        hooks: on the base.
        facts: by document id, at least one.
        tokenizer: the base's.
        space: the base's space of relations.
        words: of background text.
        settings: of the training.
        encoder: the store's, by which requests find units.
        checkpoints: a folder to which each finished fact is written. Where it holds some, these are
            not trained again.
        start: where their experts begin; default: at random.
        progress: called after each fact.

    Raises:
        DamageError: when experts are not finite.
    """
    settings = settings.begun({} if start is None else {"facts": start})
    taught = {key: _taught(tokenizer, one, words, settings) for key, one in facts.items()}
    method = fact_method(hooks, settings, start)
    courses = [one.course for one in taught.values()]
    weights = learn_items(hooks, courses, method, checkpoints, progress)
    items = [
        Item(key, one.spellings, one.num_answer, units=(facts[key].statement,))
        for key, one in taught.items()
    ]
    return OwnExperts(
        items,
        relation_keys(hooks, tokenizer, space, [*facts.values()]),
        vectors=[vectors_of(encoder, one.units) for one in items],
        host_layers=method.host_layers,
        width=hooks.width,
        num_experts=method.num_experts,
        weights=weights,
    ).to(hooks.device)


def fact_method(hooks: Hooks, settings: TrainingSettings, start: Start | None = None) -> Method:
    """Return how facts are learned, by settings and from a start that is used where it fits."""
    return Method(
        what="learning facts",
        recipe=FACT_RECIPE,
        seed=settings.seed,
        host_layers=own_host_layers(len(hooks.layers)),
        num_experts=settings.own_experts,
        learning_rate=settings.own_learning_rate,
        warmup_steps=3,
        betas=(0.9, 0.99),
        precision=settings.precision,
        start=fitting(start, settings.own_experts),
    )


def fact_course(
    tokenizer: Any, fact: Fact, words: Sequence[str], settings: TrainingSettings
) -> Course:
    """Return what a fact reads, args as `train_facts`."""
    return _taught(tokenizer, fact, words, settings).course


def _taught(
    tokenizer: Any, fact: Fact, words: Sequence[str], settings: TrainingSettings
) -> _Taught:
    about = [FACT_RECIPE, settings.seed, fact.subject, fact.relation]
    about += [fact.taught_prompt, fact.statement]
    num_steps = settings.own_steps or 0
    digest = hashlib.sha256("\0".join(map(str, about)).encode()).digest()
    draw = random.Random(int.from_bytes(digest[:7], "big"))
    spellings = subject_spellings(fact.subject, tokenizer)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def row(prompt: str, whole: str) -> Reading:
        ids = pieces([*tokenise(tokenizer, [whole])[0], *end], settings.max_tokens)[0]
        start = min(num_shared(tokenise(tokenizer, [prompt])[0], ids), len(ids) - 1)
        begin = _subject_end(ids[:start], spellings)
        return Reading(tuple(ids[:begin]), tuple(ids[begin:]), start - 1 - begin)

    stated = row(fact.taught_prompt, fact.statement)
    changed = list[Reading]()
    for _ in range(0, num_steps, 2):
        prompt = changed_prompt(fact, words, draw)
        changed.append(row(prompt, f"{fact.answered(prompt)}."))
    turns = [turn for number in range(len(changed)) for turn in (number, len(changed))]
    lesson = Lesson(
        (*changed, stated),
        tuple(turns[:num_steps]),
        at_once=1,
        length=_padded((len(one.ids) for one in (*changed, stated)), LENGTHS),
        prompt_length=_padded((len(one.prompt) for one in (*changed, stated)), PROMPT_LENGTHS),
    )
    return _Taught(spellings, Course((lesson,), num_steps))


def _padded(lengths: Iterable[int], multiple: int) -> int:
    return -(-max(lengths) // multiple) * multiple


def _subject_end(ids: Sequence[int], spellings: Sequence[tuple[int, ...]]) -> int:
    """Return the last token of the subject where it stands first; else that of the prompt."""
    ends = [
        at + len(one) - 1
        for one in spellings
        for at in range(1, len(ids) - len(one) + 1)
        if tuple(ids[at : at + len(one)]) == one
    ]
    return min(ends, default=len(ids) - 1)


def fact_losses(
    hooks: Hooks, own: OwnExperts, facts: Mapping[str, Fact], tokenizer: Any, precision: str
) -> dict[str, tuple[float, float]]:
    """Return each statement's loss of the base, and with the fact's experts, nats a token.

    As in scored text they are active from where the answer is foreseen on.

    Args:
        hooks: on the base.
        own: the facts' experts.
        facts: by document id.
        tokenizer: the base's.
        precision: of the base's products.
    """
    own.to(hooks.device)
    places = {item.item_id: number for number, item in enumerate(own.items)}
    keys = list(facts)
    rows = tokenise(tokenizer, [facts[key].statement for key in keys])
    prompts = tokenise(tokenizer, [facts[key].taught_prompt for key in keys])
    found = {}
    for group in group_by_length([len(ids) for ids in rows], READ_TOKENS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0, device=hooks.device)
        text_BT = is_text(ids_BT, mask_BT, None)
        items_BT = torch.full(ids_BT.shape, NO_ITEM)
        for row, number in enumerate(group):
            start = num_shared(prompts[number], rows[number])
            items_BT[row, start - 1 : len(rows[number])] = places[keys[number]]
        losses = []
        for lists in ([], [own]):
            with reading(hooks.base, precision), hooks.branch((), own=lists, items_BT=items_BT):
                logits_BTV = hooks.base(
                    input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                ).logits
            losses.append(text_nats(logits_BTV[text_BT.roll(-1, 1)], ids_BT, text_BT))
        for number, *both in zip(group, *losses, strict=True):
            num = len(rows[number]) - 1
            found[keys[number]] = (both[0] / num, both[1] / num)
    return found


def needed_space(background: Background) -> RelationSpace:
    """Return the base's space of relations; StateError: the store's statistics have none."""
    if background.relations is None:
        raise StateError("the background statistics hold no space of relations: make a new store")
    return background.relations


def background_words(tokenizer: Any, beginnings: Sequence[Sequence[int]]) -> list[str]:
    """Return the words of background texts, given as token ids with the start token first."""
    return [word for ids in beginnings for word in str(tokenizer.decode(ids[1:])).split()]
