"""The pieces that measure general ability: of the base, and of methods at the stream's end.

Ours is read in full: where no pool is asked by an item's context, the base's own score is its
score, since its bits are the base's; the other items are read with every asked pool.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.stream.ability import ItemScore, ReaderScorer, score
from benchmarks.stream.ability_tasks import AbilityItem, tasks
from benchmarks.stream.branches import Branches, Shortlist, ask
from benchmarks.stream.mixing import mixed
from benchmarks.stream.pieces import CHAINS, places, scorer_of, state_folder
from benchmarks.stream.raw import DIGITS, Raw
from benchmarks.stream.reading import log_probs, reader_of
from benchmarks.stream.workshop import BUDGET, CAPACITY, Workshop
from peer_cl.errors import InputError
from pipelines.recall import Question


def items_of(shop: Workshop, task: str, most: int | None = None) -> tuple[AbilityItem, ...]:
    """Return a task's items.

    Raises: InputError: when no folder of public sets was named.
    """
    if shop.data is None:
        raise InputError("general ability needs the public sets: name their folder with --data")
    return tasks(shop.data, shop.base().tokenizer, most)[task]


def read_base_ability(shop: Workshop, task: str) -> Raw:
    """Read every item of a task with the bare model."""
    return _kept(score(ReaderScorer(reader_of(shop.base().model)), items_of(shop, task)))


def read_chain_ability(shop: Workshop, method: str, seed: int, task: str) -> Raw:
    """Read a task's first items with a method's model after the whole stream."""
    made = CHAINS[method](shop.base(), len(shop.names))
    last = places(method, seed, shop.names)[-1]
    made.load(state_folder(shop, last, last.number))
    return _kept(score(scorer_of(made), items_of(shop, task, shop.ability_items)))


def read_mixture_ability(
    shop: Workshop, branches: Branches, shortlist: Shortlist, task: str
) -> Raw:
    """Read every item of a task with all branches behind the mixture."""
    items = items_of(shop, task)
    before = [ItemScore.from_dict(one) for one in shop.raw.read(f"ability/base/{task}")["items"]]
    asked = shortlist.asked([item.rows[0][: item.num_context] for item in items])
    is_asked = [any(asked[name][n] for name in branches.names) for n in range(len(items))]
    scorer = MixtureScorer(branches, shortlist)
    touched = [item for item, touches in zip(items, is_asked, strict=True) if touches]
    scorer.contexts = {row: item.num_context for item in touched for row in item.rows}
    again = {one.key: one for one in score(scorer, touched)}
    scores = [again.get(one.key, one) for one in before]
    return _kept(scores) | {"num_asked": sum(is_asked)}


class MixtureScorer:
    """Branches behind the mixture as a scorer: an item's context chooses who is asked."""

    def __init__(self, branches: Branches, shortlist: Shortlist) -> None:
        self.branches, self.shortlist = branches, shortlist
        self.contexts: dict[tuple[int, ...], int] = {}
        """How many tokens of a row are context; the whole row where it does not say."""

    def answers(self, asked: Sequence[Question]) -> list[bool]:
        """Return whether the mixture writes each answer."""
        return [one.mixture for one in ask(self.branches, self.shortlist, asked, BUDGET)]

    @torch.no_grad()
    def log_probs(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the mixture's log probability of each token."""
        lengths = [self.contexts.get(tuple(row), len(row)) for row in rows]
        asked = self.shortlist.asked(rows, lengths)
        names = self.branches.names
        stacked = [log_probs(self.branches.base, rows)]
        for name in names:
            wanted = [n for n, takes in enumerate(asked[name]) if takes]
            values = [np.zeros(len(row) - 1) for row in rows]
            branch = functools.partial(self.branches.branch, name)
            for n, one in zip(wanted, log_probs(branch, [rows[n] for n in wanted]), strict=True):
                values[n] = one
            stacked.append(values)
        return [
            mixed(
                torch.from_numpy(np.stack([one[n] for one in stacked]))[:, None],
                [asked[name][n] for name in names],
                BUDGET,
                CAPACITY,
            ).numpy()
            for n in range(len(rows))
        ]


def _kept(scores: Sequence[ItemScore]) -> Raw:
    items = []
    for one in scores:
        nats = tuple(round(value, DIGITS) for value in one.log_probs)
        items.append(replace(one, log_probs=nats).to_dict())
    return {"items": items}
