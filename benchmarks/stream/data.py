"""A domain of the stream, ready to be learned: every method reads the same rows in the same steps.

The rows, their order and the weights of their tokens are those of `peer-cl ingest`, so that methods
differ in what they train and in nothing else.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.stream.domains import StreamDomain
from peer_cl.bases import Base
from pipelines.batches import Batch, Row, pad, target_weights, tokenise
from pipelines.evaluate import stock_tokens
from pipelines.preparing import Chain, prepare
from pipelines.questions import Question, questions
from pipelines.settings import TrainingSettings
from pipelines.token_scores import MAX_TOKENS, Item
from pipelines.training_rows import planned_steps, training_rows

TEST_TOKENS = 2_500
"""Of each domain's unseen documents, about so many tokens are scored: every method reads those of
all domains after each one."""


@dataclass(frozen=True)
class Prepared:
    """A domain as token ids."""

    name: str
    rows: tuple[Row, ...]
    """Trained on: texts, facts, facts in changed wordings, and documents in other words."""
    steps: tuple[tuple[int, ...], ...]
    """Numbers of the rows that each optimiser step reads."""
    validation: tuple[Item, ...]
    """Unseen texts for choosing learning rates."""
    test: tuple[Item, ...]
    """Unseen texts for every figure; each is scored alone."""
    spare: tuple[Item, ...]
    """Unseen texts that no figure reads, the validation ones among them: for choosing settings."""
    questions: tuple[Question, ...]
    """Facts asked in the trained wording ("seen") and in others ("reworded")."""
    stock: frozenset[int]
    """Tokens that stand in more than a fifth of the training texts."""

    @property
    def num_tokens(self) -> int:
        """Return how many tokens are read in training, padding left out."""
        return sum(len(self.rows[number].ids) - 1 for step in self.steps for number in step)

    def batch(self, step: Sequence[int], settings: TrainingSettings, pad_id: int) -> Batch:
        """Return the rows of a step, padded, with the weight of each token."""
        rows = [self.rows[number] for number in step]
        ids_BT, mask_BT = pad([row.ids for row in rows], pad_id)
        weights_BT = target_weights(rows, ids_BT.shape[1], settings.answer_weight)
        return Batch(ids_BT, mask_BT, weights_BT, tuple(step))


def prepare_domain(
    domain: StreamDomain,
    base: Base,
    settings: TrainingSettings,
    *,
    most_questions: int = 100,
    test_tokens: int = TEST_TOKENS,
) -> Prepared:
    """Return a domain's rows, steps, unseen texts and questions.

    Args:
        domain: documents and facts.
        base: whose tokenizer counts.
        settings: how often texts and facts are read, and in which order.
        most_questions: facts that are asked, each in the seen wording and in one other; and
            people's questions on learned documents.
        test_tokens: about how many tokens of unseen documents are kept.
    """
    learned = prepare(
        Chain(domain.name, None),
        domain.documents,
        domain.facts,
        base,
        domain.rewordings,
        settings.hold_out_percent,
    )
    own, others = training_rows(base.tokenizer, learned, settings)
    rows = [*own, *others]
    texts_read = learned.of("train", ("text",))
    validation = _items(learned.of("validation", ("text",)), learned.ids)
    held_out = _items(learned.of("test", ("text",)), learned.ids)
    test = _first(held_out, test_tokens)
    steps = planned_steps(rows, settings)
    return Prepared(
        name=domain.name,
        rows=tuple(rows),
        steps=tuple(tuple(step) for step in steps),
        validation=validation,
        test=test,
        spare=(*validation, *_first([one for one in held_out if one not in test], test_tokens)),
        questions=(
            *_ask(base.tokenizer, domain, most_questions),
            *_ask_for_people(base.tokenizer, domain, {d.document_id for d in texts_read})[
                :most_questions
            ],
        ),
        stock=frozenset(
            stock_tokens(tokenise(base.tokenizer, [document.text for document in texts_read]))
        ),
    )


def _items(documents: Sequence[Any], ids: dict[str, list[int]]) -> tuple[Item, ...]:
    return tuple(Item(tuple(ids[d.document_id][:MAX_TOKENS]), d.document_id) for d in documents)


def _first(items: Sequence[Item], most: int) -> tuple[Item, ...]:
    """Return whole documents, in the order of their ids, until so many tokens are reached."""
    chosen: list[Item] = []
    for item in sorted(items, key=lambda item: item.document_id or ""):
        if sum(len(one.ids) for one in chosen) >= most:
            break
        chosen.append(item)
    return tuple(chosen)


def _ask(tokenizer: Any, domain: StreamDomain, most: int) -> list[Question]:
    """Ask each fact as trained and in one other wording, which goes round with its number."""
    facts = [
        replace(fact, reworded_prompts=(fact.reworded_prompts[n % len(fact.reworded_prompts)],))
        for n, fact in enumerate(domain.facts[:most])
    ]
    return questions(tokenizer, domain.name, facts)


def _ask_for_people(
    tokenizer: Any, domain: StreamDomain, learned: Collection[str]
) -> list[Question]:
    """Ask what people asked about documents that are learned, one question a document in turn."""
    asked = sorted(
        (one for one in domain.asked if one.document_id in learned),
        key=lambda one: (one.turn, one.document_id),
    )
    prompts = tokenise(tokenizer, [one.prompt for one in asked])
    wholes = tokenise(tokenizer, [f"{one.prompt} {one.answer}" for one in asked])
    return [
        Question(domain.name, "people", tuple(whole), len(prompt))
        for prompt, whole in zip(prompts, wholes, strict=True)
    ]


def joined(domains: Sequence[Prepared], seed: int) -> Prepared:
    """Return domains as one, their steps shuffled; it has neither unseen texts nor questions."""
    rows: list[Row] = []
    steps: list[tuple[int, ...]] = []
    for domain in domains:
        first = len(rows)
        rows += domain.rows
        steps += [tuple(first + number for number in step) for step in domain.steps]
    random.Random(seed).shuffle(steps)
    name = "+".join(domain.name for domain in domains)
    return Prepared(name, tuple(rows), tuple(steps), (), (), (), (), frozenset())
