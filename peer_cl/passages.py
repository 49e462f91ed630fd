"""Which passage a text repeats: the half of the router that finds learned passages.

A passage's key is the set of its pairs of neighbouring tokens. A text is compared with it over its
last `WINDOW` tokens: which share of what these pairs tell, in nats of background text, stands in
the passage. A passage is found by a fixed threshold on that share, so none changes whether another
is found; of those that are found at one place the nearest is active. In scored text, where every
token could begin to repeat something, more has to match than at the end of a prompt.

Shape suffixes: B rows, T tokens, X entries of all passages' keys, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 32
"""Tokens of a text that are compared with passages."""


class Bar(NamedTuple):
    """What a window has to share with a passage that it repeats."""

    share: float
    """Least share, in nats, of its pairs that stand in the passage."""
    nats: float
    """A window that tells less is compared as if it told so much."""


TEXT_BAR = Bar(0.9, 155.0)
"""In scored text: some twelve tokens of prose, nearly all of them. Phrases that many documents of a
domain have, a few words changed, find none (docs/LOG.md, "Passages in unseen text")."""
PROMPT_BAR = Bar(0.8, 40.0)
"""At a prompt's end: some three tokens. Of other articles' sentences, cut in half, 2 in 1,000 find
one of 2,067 passages (docs/LOG.md, "Half a sentence")."""
GIVEN_BAR = Bar(0.5, 1.0)
"""Of a prompt, where its domain is named."""


def bar_of(*, is_prompt: bool, is_given: bool) -> Bar:
    """Return what a scored text, a prompt, or a prompt whose domain is named has to share."""
    if not is_prompt:
        return TEXT_BAR
    return GIVEN_BAR if is_given else PROMPT_BAR


class Run(NamedTuple):
    """Tokens in a row at which one passage is the nearest of those that are found."""

    row: int
    passage: int
    at: int
    """The first of them,"""
    until: int
    """and the one behind the last."""
    score: float
    """The greatest share, 0 to 1."""


def token_pairs(ids: Tensor) -> Tensor:
    """Return a text's pairs of neighbouring tokens, the start token left out: int64, ascending.

    Example:
        >>> import torch
        >>> token_pairs(torch.tensor([0, 1, 2, 1, 2])).tolist() == [(1 << 32) + 2, (2 << 32) + 1]
        True
    """
    pairs: Tensor = _paired(ids[1:].long()).unique()
    return pairs


def _paired(ids: Tensor) -> Tensor:
    return (ids[..., :-1] << 32) + ids[..., 1:]


class PassageIndex:
    """An inverted index of passages.

    Args:
        texts: the token ids of each passage, the start token first.
    """

    def __init__(self, texts: Sequence[Tensor]) -> None:
        self.num_passages, keys = len(texts), [token_pairs(ids) for ids in texts]
        pairs_X = np.concatenate([np.empty(0, np.int64), *(one.numpy() for one in keys)])
        owners_X = np.repeat(np.arange(len(keys)), [len(one) for one in keys])
        order_X = np.argsort(pairs_X, kind="stable")
        self._pairs_X, self._owners_X = pairs_X[order_X], owners_X[order_X]

    def find(
        self, ids_BT: Tensor, counted_BT: Tensor, nats_BT: Tensor, bar: Bar = TEXT_BAR
    ) -> list[Run]:
        """Return the passages that texts repeat, at most one at a place.

        Whether one is found behind token i depends on tokens 0..i alone.

        Args:
            ids_BT: token ids.
            counted_BT: bool; which tokens are evidence.
            nats_BT: fp64; what each token tells: minus its log probability in background text.
            bar: what has to be shared.
        """
        pairs_BT = _paired(ids_BT).numpy()
        counts_BT = (counted_BT[:, 1:] & counted_BT[:, :-1]).numpy()
        both_BT = (nats_BT[:, 1:] + nats_BT[:, :-1]).numpy()
        rows = zip(pairs_BT, np.where(counts_BT, both_BT, 0.0), strict=True)
        return [run for row, (pairs_T, told_T) in enumerate(rows)
                for run in self._runs(row, pairs_T, told_T, bar)]  # fmt: skip

    def shared(self, ids_BT: Tensor, nats_BT: Tensor, bar: Bar) -> set[int]:
        """Return the passages of which some text may share enough, if all its tokens count."""
        both_BT = (nats_BT[:, 1:] + nats_BT[:, :-1]).numpy()
        found = set[int]()
        for pairs_T, told_T in zip(_paired(ids_BT).numpy(), both_BT, strict=True):
            found |= set(self._shared(pairs_T, told_T, bar)[2].tolist())
        return found

    def _shared(
        self, pairs_T: NDArray[np.int64], told_T: NDArray[np.float64], bar: Bar
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where pairs of a text stand in passages, in which, and which share enough in all.

        The newest come first: of two that are as near, it is active.
        """
        first_T = np.searchsorted(self._pairs_X, pairs_T, "left")
        nums_T = np.searchsorted(self._pairs_X, pairs_T, "right") - first_T
        nums_T[told_T <= 0] = 0
        places_X = np.repeat(np.arange(len(pairs_T)), nums_T)
        within_X = np.arange(len(places_X)) - np.repeat(nums_T.cumsum() - nums_T, nums_T)
        owners_X = self._owners_X[np.repeat(first_T, nums_T) + within_X]
        totals = np.bincount(owners_X, told_T[places_X], minlength=self.num_passages)
        return places_X, owners_X, (totals >= bar.share * bar.nats).nonzero()[0][::-1]

    def _runs(
        self, row: int, pairs_T: NDArray[np.int64], told_T: NDArray[np.float64], bar: Bar
    ) -> Iterator[Run]:
        places_X, owners_X, candidates_C = self._shared(pairs_T, told_T, bar)
        if not len(candidates_C):
            return
        hits_CT = np.zeros((len(candidates_C), len(pairs_T)))
        place_of = np.full(self.num_passages, -1)
        place_of[candidates_C] = np.arange(len(candidates_C))
        is_kept_X = place_of[owners_X] >= 0
        kept_X = places_X[is_kept_X]
        hits_CT[place_of[owners_X[is_kept_X]], kept_X] = told_T[kept_X]
        shares_CT = _windows(hits_CT) / np.maximum(_windows(told_T[None]), bar.nats)
        best_T, score_T = shares_CT.argmax(0), shares_CT.max(0)
        found_T = np.where(score_T >= bar.share, best_T, -1)
        for best, group in groupby(range(len(found_T)), found_T.__getitem__):
            if best >= 0:
                places = list(group)
                # Pair number i ends with token i + 1.
                yield Run(
                    row,
                    int(candidates_C[best]),
                    places[0] + 1,
                    places[-1] + 2,
                    float(score_T[places].max()),
                )


def _windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over the last `WINDOW` places of each row."""
    sums = np.pad(values.cumsum(1), ((0, 0), (WINDOW, 0)))
    windows: NDArray[np.float64] = sums[:, WINDOW:] - sums[:, :-WINDOW]
    return windows
