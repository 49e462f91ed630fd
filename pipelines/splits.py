"""Which texts are trained on, and which are held out for validation and test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from pipelines.corpora import SourceDocument, Split

_TEST_PARTS, _HELD_OUT_PARTS = 18, 23
"""Of the held-out documents, 18 of 23 are for test, the others for validation."""
_SIDES: tuple[Split, ...] = ("test", "validation", "train")
"""Where documents that belong together differ, the first of these wins."""
_SIGN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Chinese signs: no blanks part words in them."""
_WORD = re.compile(rf"[{_SIGN}]|[^\W{_SIGN}]+")
_SHINGLE_WORDS = 5
_JACCARD_PART, _JACCARD_WHOLE = 4, 5
"""Near-duplicates share at least 4/5 of their shingles; in whole numbers, so that it is exact."""
_BANDS, _BAND_ROWS = 21, 6
"""Of the MinHash index: a pair is looked at with probability 1 - (1 - j^6)^21 at Jaccard j: 0.998
at 0.8, and at 0.5, as documents of one form have, 0.28."""


@dataclass(frozen=True)
class Splits:
    """The division of documents; both dicts are keyed by document id.

    `near_group` names, for each document, the group of near-duplicates and sections that it
    belongs to: the smallest document id of the group.
    """

    split: dict[str, Split]
    near_group: dict[str, str]


def percentages(hold_out_percent: float) -> tuple[float, float]:
    """Return the percentages of documents for test and for validation.

    Example:
        >>> percentages(23.0), percentages(0)
        ((18.0, 5.0), (0.0, 0.0))
    """
    parts = (_TEST_PARTS, _HELD_OUT_PARTS - _TEST_PARTS)
    test, validation = (hold_out_percent * part / _HELD_OUT_PARTS for part in parts)
    return test, validation


def split_documents(
    documents: Sequence[SourceDocument],
    known: Sequence[tuple[SourceDocument, Split]] = (),
    test_percent: float = 18.0,
    validation_percent: float = 5.0,
) -> Splits:
    """Return the split of every text, decided by hashes alone.

    No seed and no order is involved: a document keeps its side when others come or go, unless it
    turns out to be a near-duplicate of one of them. In order of precedence:

    1. A document that states its own split has it.
    2. Near-duplicates, and sections of one document, stay on one side, since a held-out copy of a
       trained text measures memory, not knowledge: that of a known or stated document (where these
       differ, the held-out one), else what the group's hash says.
    3. Where hashes would hold out every text, as may happen to a single file, those that nothing
       binds are trained on: a corpus is given to be learned.

    Args:
        documents: copies of one text count once.
        known: what the domain holds already, with its side.
        test_percent: percentage of groups for test, about.
        validation_percent: percentage of groups for validation, about.
    """
    every = [*(document for document, _ in known), *documents]
    near_group = near_groups(every)
    stated: dict[str, Split] = {}
    bound: dict[str, Split] = {}
    for document in documents:
        if document.split is not None:
            _bind(stated, document.document_id, document.split)
    for key, side in [*((one.document_id, side) for one, side in known), *stated.items()]:
        _bind(bound, near_group[key], side)

    groups = {one.document_id: near_group[one.document_id] for one in documents}
    new = set(groups.values())
    sides = {group: _side(group, test_percent, validation_percent) for group in new} | bound
    if not any(sides[group] == "train" for group in new):
        sides |= dict.fromkeys(new - bound.keys(), "train")
    return Splits({key: stated.get(key) or sides[group] for key, group in groups.items()}, groups)


def _bind(sides: dict[str, Split], key: str, side: Split) -> None:
    sides[key] = min(side, sides.get(key, side), key=_SIDES.index)


def _side(group: str, test_percent: float, validation_percent: float) -> Split:
    digest = hashlib.sha256(group.encode()).digest()
    percent = int.from_bytes(digest[:8], "big") / 2**64 * 100
    if percent < test_percent:
        return "test"
    return "validation" if percent < test_percent + validation_percent else "train"


def near_groups(documents: Iterable[SourceDocument]) -> dict[str, str]:
    """Return each document's group, by id: near-duplicates and sections, linked through others too.

    A group is named by its smallest id, so that its name may change with what comes to it.
    """
    texts: dict[str, str] = {}
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    first_of: dict[str, str] = {}
    for document in documents:
        key = document.document_id
        texts[key] = document.text
        parent.setdefault(key, key)
        if document.section_of is not None:
            join(first_of.setdefault(document.section_of, key), key)
    index = _NearIndex()
    for key in sorted(texts):
        for other in index.near(texts[key]):
            join(other, key)
        index.add(key, texts[key])
    return {node: root(node) for node in parent}


def near_copies(held_out: Mapping[str, str], learned: Iterable[str]) -> frozenset[str]:
    """Return the keys of held-out texts that are near-duplicates of any learned text.

    The learned ones are read one by one, and never held in memory together.

    Example:
        >>> sea = "The sea is cold and the wind is strong in the north"
        >>> sorted(near_copies({"a": sea, "b": "All else is told elsewhere"}, [sea.lower() + "!"]))
        ['a']
    """
    index = _NearIndex()
    for key, text in held_out.items():
        index.add(key, text)
    return frozenset(key for text in learned for key in index.near(text))


class _NearIndex:
    """Texts by key, and which of them are near-duplicates of another text.

    MinHash finds candidates; each is compared exactly, so that a pair may be missed at the border,
    but none is invented.
    """

    def __init__(self) -> None:
        self._index = MinHashLSH(num_perm=_BANDS * _BAND_ROWS, params=(_BANDS, _BAND_ROWS))
        self._shingles: dict[str, frozenset[bytes]] = {}

    def add(self, key: str, text: str) -> None:
        self._shingles[key] = _shingles(text)
        self._index.insert(key, _min_hash(self._shingles[key]), check_duplication=False)

    def near(self, text: str) -> Iterator[str]:
        """Yield the keys of the near-duplicates of a text."""
        own = _shingles(text)
        for key in self._index.query(_min_hash(own)):
            other = self._shingles[key]
            if _JACCARD_WHOLE * len(own & other) >= _JACCARD_PART * len(own | other):
                yield key


def _shingles(text: str) -> frozenset[bytes]:
    words = _WORD.findall(text.lower()) or [text.strip()]
    num = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[n : n + _SHINGLE_WORDS]).encode() for n in range(num))


def _min_hash(shingles: frozenset[bytes]) -> MinHash:
    sketch = MinHash(num_perm=_BANDS * _BAND_ROWS, seed=1, scheme="affine32")
    sketch.update_batch(shingles)
    return sketch
