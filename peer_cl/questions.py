"""Which passages a question asks about: the half of the router for questions declared so.

A question and a passage are compared in two ways. By their *terms*: tokens, whatever their case,
and pairs of neighbouring ones. A term weighs what it tells in background text; as in BM25
(Robertson and Zaragoza, 2009) one that comes again tells less, and less in a long passage. And by
their *meaning*: a sentence encoder's vectors of the question, and of each sentence and each of
people's questions that the passage learned, which find what is asked in other words. A passage's
score depends on the question, the background and itself alone.

Shape suffixes: V vocabulary, X terms of a text, P passages, S sentences, E width of the encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_TERM = -1
COMMON_NATS = 4.5
"""A word that tells no more, in nats of background text, tells nothing of what is asked."""
NUMBER_NATS = 9.0
"""What a piece of a number tells beside its neighbour; alone it tells nothing."""
PAIR_WEIGHT = 0.3
SATURATION, LENGTH_SHARE, USUAL_LENGTH = 0.7, 0.5, 170
"""k1, b and the average length, in tokens, of BM25."""
LEAST_NATS = 25.0
"""A question whose terms tell less is compared as if they told so much."""
MEANING_SHARE = 2 / 3
"""Of a score; the rest is words'."""
QUESTION_NORM = 2.0
"""Of the vector of a question that a passage learned; sentences' have length one. Questions are
near to each other, whatever they ask: of these 2 cos - 1 counts."""
THRESHOLD = 0.475
"""Least score of a passage that a question is taken to ask about: among some 2,000 passages about
other things, 5 of 100 questions find one (docs/LOG.md, "Which passage")."""


@dataclass(frozen=True)
class Terms:
    """What a base's tokens are to questions."""

    terms_V: NDArray[np.int64]
    """One number for all tokens that differ in case or blanks; `NO_TERM` for marks."""
    alone_V: NDArray[np.float64]
    """What each token tells, in nats,"""
    paired_V: NDArray[np.float64]
    """and what beside a neighbour."""

    @staticmethod
    def weighed(terms_V: Tensor, ids_X: Tensor, counts_X: Tensor, marks_M: Tensor) -> Terms:
        """Return terms with what they tell.

        Args:
            terms_V: as `make_terms` gives them.
            ids_X, counts_X: how often tokens stand in background text, those without a letter left
                out.
            marks_M: the tokens without a letter. A term among them is of a number.
        """
        terms, ids = terms_V.numpy(), ids_X.numpy()
        is_term_V = terms != NO_TERM
        known = ids[is_term_V[ids]]
        counts_V = np.bincount(
            terms[known], counts_X.numpy()[is_term_V[ids]].astype(float), minlength=len(terms)
        )
        likely_V = (counts_V[terms] + 0.5) / max(1.0, float(counts_X.sum()))
        alone_V = np.where(is_term_V, np.maximum(0.0, -np.log(likely_V) - COMMON_NATS), 0.0)
        is_number_V = is_term_V & np.isin(np.arange(len(terms)), marks_M.numpy())
        return Terms(
            terms,
            np.where(is_number_V, 0.0, alone_V),
            np.where(is_number_V, NUMBER_NATS, alone_V),
        )

    def told(self, ids: Sequence[int]) -> dict[int, tuple[float, int]]:
        """Return the terms of a text: what each tells, and how often it stands there."""
        kept = [one for one in ids if one < len(self.terms_V) and self.terms_V[one] != NO_TERM]
        terms = [int(self.terms_V[one]) for one in kept]
        counts = Counter(terms)
        found = {
            term: (float(self.alone_V[one]), counts[term])
            for one, term in zip(kept, terms, strict=True)
        }
        pairs = [((a + 1) << 32) + b for a, b in pairwise(terms)]
        numbers = Counter(pairs)
        for pair, (one, other) in zip(pairs, pairwise(kept), strict=True):
            nats = PAIR_WEIGHT * float(self.paired_V[one] + self.paired_V[other])
            found[pair] = (nats, numbers[pair])
        return {term: about for term, about in found.items() if about[0] > 0}


@dataclass(frozen=True)
class QuestionSpace:
    """What questions and passages are compared by."""

    terms: Terms
    encode: Callable[[tuple[int, ...]], Tensor]
    """The vector of a question, given as the base's token ids: fp32 (E,), of length one."""


class ChatQuestion(NamedTuple):
    """The question of a chat's last user turn, in the form in which questions are learned."""

    ids_BT: Tensor
    """int64, (1, T)."""
    counted_BT: Tensor
    """bool; which tokens are the question's own."""
    line_end: int
    """The token with which an answer ends."""


FindQuestion = Callable[[Sequence[int]], ChatQuestion | None]
"""Finds the question in a prompt's token ids; None where no chat template made the prompt."""


class QuestionIndex:
    """An inverted index of passages, and their sentences' vectors, for questions.

    Args:
        space: of the base and the encoder.
        passages: their token ids, titles included.
        vectors: each passage's sentences, (S, E), of length one, and questions, of length
            `QUESTION_NORM`.
    """

    def __init__(
        self, space: QuestionSpace, passages: Sequence[Sequence[int]], vectors: Sequence[Tensor]
    ) -> None:
        self.space, self.num_passages = space, len(passages)
        terms = space.terms
        rows = [terms.told(ids) for ids in passages]
        terms_X = np.array([term for row in rows for term in row], np.int64)
        counts_X = np.array([num for row in rows for _, num in row.values()], np.float64)
        owners_X = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        lengths_P = np.array([len(ids) for ids in passages]) / USUAL_LENGTH
        slack_X = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths_P[owners_X])
        order_X = np.argsort(terms_X, kind="stable")
        self._terms_X, self._owners_X = terms_X[order_X], owners_X[order_X]
        self._factors_X = (counts_X * (SATURATION + 1) / (counts_X + slack_X))[order_X]

        self._vectors_SE = torch.cat([one.float() for one in vectors])
        self._offsets_S = 1 - self._vectors_SE.norm(dim=1).round()
        self._passages_S = np.repeat(np.arange(len(vectors)), [len(one) for one in vectors])

    def scores(self, question: Sequence[int]) -> NDArray[np.float64]:
        """Return each passage's score: (P,), about 1 where all that a question tells stands in it.

        Args:
            question: token ids, without special tokens.
        """
        words_P, meaning_P = self._shared_words(question), np.zeros(self.num_passages)
        near_S = self._vectors_SE @ self.space.encode(tuple(question)) + self._offsets_S
        np.maximum.at(meaning_P, self._passages_S, near_S.numpy())
        return MEANING_SHARE * meaning_P + (1 - MEANING_SHARE) * words_P

    def _shared_words(self, question: Sequence[int]) -> NDArray[np.float64]:
        told = self.space.terms.told(question)
        scores_P = np.zeros(self.num_passages)
        for term, (nats, _) in told.items():
            first, last = np.searchsorted(self._terms_X, [term, term + 1])
            np.add.at(scores_P, self._owners_X[first:last], nats * self._factors_X[first:last])
        return scores_P / max(LEAST_NATS, sum(nats for nats, _ in told.values()))


def make_terms(texts: Sequence[str]) -> Tensor:
    """Return the terms of a base whose tokens read so, each alone: int64 (V,).

    Example:
        >>> make_terms([" Quartz", "quartz", ".", " 7"]).tolist()
        [0, 0, -1, 3]
    """
    first: dict[str, int] = {}
    terms = []
    for number, text in enumerate(texts):
        plain = text.strip().casefold()
        is_term = any(sign.isalnum() or sign == "\N{REPLACEMENT CHARACTER}" for sign in plain)
        terms.append(first.setdefault(plain, number) if is_term else NO_TERM)
    return torch.tensor(terms)
