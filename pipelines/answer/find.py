"""The finder of requests: which unit answers a question, and how probably.

Of each domain a shortlist is made by itself: the units nearest in meaning, by FAISS; those of the
passages that share most words; and facts whose subject is named. What is measured of a unit depends
on the question, background text and the unit with its passage alone, so no domain and no other
document changes its score.

Shape suffixes: U units, E width of the encoder, X terms of passages, P passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from peer_cl.items import ItemIndex
from peer_cl.terms import Terms
from pipelines.answer.calibration import Calibration, Features, Logistic
from pipelines.batches import tokenise
from pipelines.encoder import vector_of
from pipelines.study.questions import BUILT_IN, plain_words, stands
from pipelines.units import with_title
from stores.index import NearestVectors

NUM_NEAR, NUM_PASSAGES = 48, 4
"""Of a domain: units by meaning, and passages by words, all of whose units are measured."""
NUM_READ = 8
"""Units that the reader reads, of all domains together."""
SATURATION, LENGTH_SHARE, USUAL_LENGTH = 0.7, 0.5, 170
"""k1, b and the average length, in tokens, of BM25 (Robertson and Zaragoza, 2009)."""


@dataclass(frozen=True)
class Unit:
    """A unit of a live item."""

    domain: str
    item: int
    """Its item's number in its pool."""
    document_id: str
    title: str
    text: str
    is_passage: bool


class Reads(Protocol):
    """What finds out whether units answer: `pipelines.answer.reader.UnitReader`."""

    def relevance(self, question: str, units: Sequence[tuple[str, str]]) -> list[float]:
        """Return for each unit, a title and a text, the log odds that it answers a question."""


@dataclass(frozen=True)
class Found:
    """A unit, and how probably it answers a question."""

    unit: Unit
    features: Features
    probability: float


class Question:
    """A question, as it is compared with units."""

    def __init__(self, text: str, encoder: str, terms: Terms, tokenizer: Any) -> None:
        self.text, self._terms, self._tokenizer = text, terms, tokenizer
        self.vector_E: NDArray[np.float32] = vector_of(encoder, text).numpy()
        self.told = terms.told(self.ids(text))
        self.nats = sum(nats for nats, _ in self.told.values())

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        return tokenise(self._tokenizer, [f" {text}"])[0][1:]

    def share_in(self, ids: Iterable[int]) -> float:
        """Return the share of what the question tells that stands in a text."""
        if not self.nats:
            return 0.0
        there = self._terms.told([*ids])
        return sum(nats for term, (nats, _) in self.told.items() if term in there) / self.nats


class UnitIndex:
    """The units of one domain."""

    def __init__(self, domain: str, items: ItemIndex, terms: Terms) -> None:
        self._items, self._terms = items, terms
        self.units: list[Unit] = []
        self._rows: list[int] = []
        """Of each vector, the unit that it leads to: its own, or a learned question's answer."""
        self._is_question: list[bool] = []
        self._of_item: dict[int, list[int]] = {}
        for number, item in enumerate(items.items):
            is_passage = items.text(number) is not None
            first = len(self.units)
            self.units += [
                Unit(domain, number, item.item_id, item.title, text, is_passage)
                for text in item.units
            ]
            own = [*range(first, len(self.units))]
            self._of_item[number] = own
            asked = [answer for _, answer, source in item.questions if source != BUILT_IN]
            led = [
                next((n for n in own if stands(answer, self.units[n].text)), first)
                for answer in asked
            ]
            self._rows += [*own, *led]
            self._is_question += [False] * len(own) + [True] * len(led)
        vectors = [one.float().numpy() for one in items.vectors]
        self._nearest = NearestVectors(np.concatenate(vectors))

    def measured(self, question: Question) -> list[tuple[Unit, Features]]:
        """Return the units on the shortlist, with what can be measured without reading them."""
        found = {self._rows[row] for row in self._nearest.find(question.vector_E, NUM_NEAR)}
        by_words = self._passages_by_words(question)
        for item in sorted(by_words, key=lambda one: (-by_words[one], one))[:NUM_PASSAGES]:
            found |= {*self._of_item[item]}
        for item in self._items.named_in(question.ids(question.text)):
            found |= {*self._of_item[item]}
        return [(self.units[n], self._features(question, n, by_words)) for n in sorted(found)]

    def _features(self, question: Question, number: int, by_words: Mapping[int, float]) -> Features:
        unit = self.units[number]
        rows = self._rows_of_item[unit.item]
        near = {row: float(self._nearest.vectors_VE[row] @ question.vector_E) for row in rows}
        own = [near[row] for row in rows if not self._is_question[row]]
        # Questions are near to each other, whatever they ask.
        meaning = max(
            2 * near[row] - 1 if self._is_question[row] else near[row]
            for row in rows
            if self._rows[row] == number
        )
        text = self._items.text(unit.item)
        ids = question.ids(with_title(unit.title, unit.text))
        words = question.share_in(ids)
        return Features(
            meaning=meaning,
            passage_meaning=sum(own) / len(own),
            words=words,
            passage_words=2 * words
            if text is None
            else question.share_in(text[1:].tolist()) + by_words.get(unit.item, 0.0),
            told=question.nats / 100,
            is_fact=float(not unit.is_passage),
        )

    @cached_property
    def _rows_of_item(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, number in enumerate(self._rows):
            found.setdefault(self.units[number].item, []).append(row)
        return found

    @cached_property
    def _postings(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Terms of passages in order, the item that holds each, and how much it counts there."""
        items = [n for n in self._of_item if self._items.text(n) is not None]
        texts = [self._items.text(n)[1:].tolist() for n in items]  # type: ignore[index]
        rows = [self._terms.told(ids) for ids in texts]
        terms_X = np.array([term for row in rows for term in row], np.int64)
        counts_X = np.array([num for row in rows for _, num in row.values()], np.float64)
        places_X = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        lengths_P = np.array([len(ids) for ids in texts]) / USUAL_LENGTH
        slack_X = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths_P[places_X])
        order_X = np.argsort(terms_X, kind="stable")
        factors_X = (counts_X * (SATURATION + 1) / (counts_X + slack_X))[order_X]
        return terms_X[order_X], np.array(items, np.int64)[places_X[order_X]], factors_X

    def _passages_by_words(self, question: Question) -> dict[int, float]:
        """Return BM25 of the passages that share words, a nat that the question tells."""
        if not any(self._items.text(n) is not None for n in self._of_item):
            return {}
        terms_X, items_X, factors_X = self._postings
        scores_P = np.zeros(len(self._of_item))
        for term, (nats, _) in question.told.items():
            first, last = np.searchsorted(terms_X, [term, term + 1])
            np.add.at(scores_P, items_X[first:last], nats * factors_X[first:last])
        return {int(n): float(scores_P[n]) / question.nats for n in scores_P.nonzero()[0]}


_INDEXES: WeakKeyDictionary[ItemIndex, UnitIndex] = WeakKeyDictionary()


def unit_index(domain: str, items: ItemIndex, terms: Terms) -> UnitIndex:
    """Return the units of a pool, made once for its items."""
    found = _INDEXES.get(items)
    if found is None:
        found = _INDEXES[items] = UnitIndex(domain, items, terms)
    return found


def find(
    question: str,
    measured: Sequence[tuple[Unit, Features]],
    calibration: Calibration,
    reader: Reads | None,
) -> list[Found]:
    """Return the units that answer a question most probably, the best first.

    Args:
        question: that is asked.
        measured: what the indexes of domains measure (`UnitIndex.measured`).
        calibration: of the encoder and the reader.
        reader: of the base; None: units are not read.
    """
    kept = shortlist(measured, calibration.cheap)
    if reader is not None:
        units = [(unit.title, unit.text) for unit, _ in kept]
        told = reader.relevance(question, units)
        kept = [
            (unit, replace(features, relevance=log_odds))
            for (unit, features), log_odds in zip(kept, told, strict=True)
        ]
    found = [Found(unit, one, calibration.whole.probability(one)) for unit, one in kept]
    return sorted(found, key=lambda one: (-one.probability, _order(one.unit)))


def shortlist(
    measured: Sequence[tuple[Unit, Features]], cheap: Logistic
) -> list[tuple[Unit, Features]]:
    """Return the units that are read: the most probable before that."""
    order = sorted(measured, key=lambda pair: (-cheap.log_odds(pair[1]), _order(pair[0])))
    return order[:NUM_READ]


def _order(unit: Unit) -> tuple[str, str, str]:
    """Return what decides between units that are as probable, whatever the order of ingests."""
    return unit.domain, unit.document_id, plain_words(unit.text)
