"""General ability behind the mixture: an item's context decides which pools are asked.

Where none is, the base's own score is the score, since its bits are the base's; only the other
items are read again, by every pool that they ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipelines.asking import ask, hear
from pipelines.batches import group_by_length, pad
from pipelines.branches import Branches, Shortlist
from pipelines.general import ItemScore, score
from pipelines.general_tasks import TEXT, GeneralItem
from pipelines.progress import Progress, no_progress
from pipelines.questions import Question
from pipelines.token_scores import TOKENS_PER_PASS

CHUNK = 32
"""Items that are read together."""


@dataclass(frozen=True)
class MixtureRead:
    """What the mixture made of items."""

    scores: tuple[ItemScore, ...]
    num_asked: Counter[str]
    """By task, how many of its items ask any pool."""


def read_mixture(
    branches: Branches,
    shortlist: Shortlist,
    items: Sequence[GeneralItem],
    before: Sequence[ItemScore],
    progress: Progress = no_progress,
) -> MixtureRead:
    """Return what a store's pools make of items, each behind the shortlist of its context.

    Args:
        branches: the base and the pools.
        shortlist: decides which of them are asked.
        items: of any tasks.
        before: the base's score of each item, in the same order.
        progress: told how far it is.
    """
    scores: list[ItemScore] = []
    num_asked: Counter[str] = Counter()
    # A text that is scored whole has no context that could name anybody.
    nameless = replace(shortlist, name_odds=0.0)
    progress("general ability, with pools", 0, len(items), "")
    for start in range(0, len(items), CHUNK):
        some = items[start : start + CHUNK]
        again: dict[tuple[str, str], ItemScore] = {}
        for chooses, is_text in ((shortlist, False), (nameless, True)):
            kind = [item for item in some if (item.kind == TEXT) == is_text]
            touched = _touched(branches, chooses, kind)
            num_asked.update(item.task for item in touched)
            for part in _apart(touched):
                read = score(MixtureScorer(branches, chooses, part), part)
                again |= {(one.task, one.key): one for one in read}
        known = before[start : start + CHUNK]
        scores += [again.get((one.task, one.key), one) for one in known]
        progress("general ability, with pools", len(scores), len(items), some[-1].task)
    return MixtureRead(tuple(scores), num_asked)


def _touched(
    branches: Branches, shortlist: Shortlist, items: Sequence[GeneralItem]
) -> list[GeneralItem]:
    asked = shortlist.asked([item.context for item in items])
    return [
        item for number, item in enumerate(items) if any(asked[n][number] for n in branches.names)
    ]


def _apart(items: Sequence[GeneralItem]) -> list[list[GeneralItem]]:
    """Divide items so that within a part a row has one context: two items may be the same text,
    divided at another place."""
    parts: list[tuple[dict[tuple[int, ...], int], list[GeneralItem]]] = []
    for item in items:
        own = dict.fromkeys(item.rows, len(item.context))
        for known, part in parts:
            if all(known.get(row, length) == length for row, length in own.items()):
                known.update(own)
                part.append(item)
                break
        else:
            parts.append((own, [item]))
    return [part for _, part in parts]


class MixtureScorer:
    """Branches behind the mixture as a `pipelines.general.Scorer`.

    Args:
        branches: the base and the pools.
        shortlist: decides which of them are asked.
        items: whose rows are to be scored; each row has one context.
    """

    def __init__(
        self, branches: Branches, shortlist: Shortlist, items: Sequence[GeneralItem]
    ) -> None:
        self.branches, self.shortlist = branches, shortlist
        self.contexts = {row: len(item.context) for item in items for row in item.rows}

    def answers(self, asked: Sequence[Question]) -> list[bool]:
        """Return for each question whether the mixture writes its answer."""
        told = ask(self.branches, self.shortlist, asked, self.shortlist.model.budget)
        return [one.mixture for one in told]

    @torch.no_grad()
    def log_probs(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the mixture's log probability of each token after the start token."""
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        share = self.shortlist.model.share
        for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
            lengths_B = torch.tensor([self.contexts[tuple(rows[number])] for number in group])
            heard = hear(self.branches, self.shortlist, ids_BT, mask_BT, lengths_B)
            for number, mixed_T in zip(group, heard.mixture_log_probs(share), strict=True):
                found[number] = mixed_T[1 : len(rows[number])].numpy()
        return found
