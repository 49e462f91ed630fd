"""Which documents are trained on, and which are held out for validation and test."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from peer_cl.errors import InputError
from pipelines.documents import SourceDocument

Split = Literal["train", "validation", "test"]
_Piece = TypeVar("_Piece", int, str)

HOLD_OUT_PERCENT = 23.0
"""Of documents, where nobody says otherwise (`pipelines.settings`)."""
_TEST_SHARE, _SHARES = 18, 23
"""Of what is held out, so many parts of so many are to measure on, the others to stop early by."""
_SIDES: tuple[Split, ...] = ("test", "validation", "train")
_SIGN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Chinese signs: no blanks part words in them."""
_WORD = re.compile(rf"[{_SIGN}]|[^\W{_SIGN}]+")
_SHINGLE_WORDS = 5
_NEAR_JACCARD = (4, 5)
"""Near-duplicates share so many parts of so many; whole numbers, so that a border is one."""


@dataclass(frozen=True)
class Splits:
    """The division of documents; both dicts are keyed by document id.

    `near_group` names, for each document, the group of near-duplicates and sections that it
    belongs to: the smallest document id of the group.
    """

    split: dict[str, Split]
    near_group: dict[str, str]


def percentages(hold_out_percent: float) -> tuple[float, float]:
    """Return how many of a hundred documents are for test and for validation.

    Args:
        hold_out_percent: how many of a hundred are held out in all.

    Example:
        >>> percentages(23.0), percentages(0)
        ((18.0, 5.0), (0.0, 0.0))
    """
    parts = (_TEST_SHARE, _SHARES - _TEST_SHARE)
    test, validation = (hold_out_percent * part / _SHARES for part in parts)
    return test, validation


def split_documents(
    documents: Sequence[SourceDocument],
    *,
    known: Sequence[tuple[SourceDocument, Split]] = (),
    test_percent: float = 18.0,
    validation_percent: float = 5.0,
) -> Splits:
    """Return the split of every document, decided by hashes alone.

    No seed and no order is involved: a document keeps its side when others come or go, unless it
    turns out to be a near-duplicate of one of them. Near-duplicates (Jaccard of word 5-shingles at
    least 0.8) and sections of one document are kept on one side, since a held-out copy of a
    trained text measures memory, not knowledge. Facts are always trained on, probes never, and a
    text that is near to a fact, a new one or a known one, goes with it. What else is near to a
    document that the domain holds already, or is a section of the same one, takes its side, the
    held-out one where they differ. Where chance would hold out every text, as it may where there is
    one file, none is held out but what known documents bind: a corpus is given to be learned.

    Args:
        documents: The documents; copies of one text count once.
        known: What the domain holds already, with its side.
        test_percent: About how many of a hundred groups are test.
        validation_percent: About how many of a hundred groups are validation.

    Raises:
        InputError: when the percentages leave nothing to train on.
    """
    _check_percentages(test_percent, validation_percent)
    every = [*(document for document, _ in known), *documents]
    near_group = near_groups(every)
    fact_groups = {near_group[d.document_id] for d in every if d.kind == "fact"}
    held: dict[str, Split] = {}
    for document, side in known:
        group = near_group[document.document_id]
        held[group] = min(side, held.get(group, side), key=_SIDES.index)
    sides: dict[str, Split] = {
        group: "train"
        if group in fact_groups
        else held.get(group) or _side(group, test_percent, validation_percent)
        for group in (near_group[d.document_id] for d in documents if d.kind != "probe")
    }
    texts = {near_group[d.document_id] for d in documents if d.kind == "text"}
    if not any(sides[group] == "train" for group in texts):
        sides |= dict.fromkeys(texts - held.keys(), "train")
    split: dict[str, Split] = {
        d.document_id: "test" if d.kind == "probe" else sides[near_group[d.document_id]]
        for d in documents
    }
    return Splits(
        split, {document.document_id: near_group[document.document_id] for document in documents}
    )


def near_groups(documents: Sequence[SourceDocument]) -> dict[str, str]:
    """Return each document's group, by id: near-duplicates and sections, linked through others too.

    A group is named by its smallest id, so that its name may change with what comes to it.

    Args:
        documents: copies of one text count once.
    """
    parent = {document.document_id: document.document_id for document in documents}

    def root(node: str) -> str:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    for first, second in _section_links(documents):
        join(first, second)
    for first, second in _near_pairs(documents, root):
        join(first, second)
    return {node: root(node) for node in parent}


class _Divided(Protocol):
    """A document, stored or to be stored, with its side."""

    @property
    def document_id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def split(self) -> str: ...


def held_out_ids(documents: Sequence[_Divided]) -> frozenset[str]:
    """Return the ids of a chain's texts that no segment of it was trained on.

    Args:
        documents: of all its segments; one that is given again stands in two of them.
    """
    trained = {document.document_id for document in documents if document.split == "train"}
    texts = {document.document_id for document in documents if document.kind == "text"}
    return frozenset(texts - trained)


def is_learned_anew(
    document: SourceDocument,
    known: Collection[str],
    held_out: Collection[str],
    hold_out_percent: float,
) -> bool:
    """Return whether an ingest looks at a document, or leaves it out since its domain has it.

    What a domain holds out stays so, but for statements of facts, which are always trained on, and
    where nothing is to be held out.

    Args:
        document: given to a domain.
        known: ids of what the domain has.
        held_out: of these, what it holds out.
        hold_out_percent: of the ingest.
    """
    key, is_asked = document.document_id, document.kind == "fact" or hold_out_percent == 0
    return key not in known or (is_asked and key in held_out)


def _check_percentages(test_percent: float, validation_percent: float) -> None:
    if min(test_percent, validation_percent) < 0 or test_percent + validation_percent >= 100:
        raise InputError(
            f"test {test_percent} % and validation {validation_percent} % must be at least 0 "
            "and together below 100"
        )


def _side(group: str, test_percent: float, validation_percent: float) -> Split:
    digest = hashlib.sha256(group.encode()).digest()
    percent = int.from_bytes(digest[:8], "big") / 2**64 * 100
    if percent < test_percent:
        return "test"
    return "validation" if percent < test_percent + validation_percent else "train"


def _section_links(documents: Iterable[SourceDocument]) -> list[tuple[str, str]]:
    first_of: dict[str, str] = {}
    return [
        (first_of.setdefault(document.section_of, document.document_id), document.document_id)
        for document in documents
        if document.section_of is not None
    ]


def _near_pairs(
    documents: Iterable[SourceDocument], root: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Yield near-duplicates that are not joined yet, each pair before the next is looked for.

    Which pairs can be near is told exactly, by prefixes: of two sets in one order that share c
    members, the first |set| - c + 1 of each share one. With the rarest shingles first, documents
    that have only a form in common never meet. Source: Bayardo et al. 2007, Scaling up all pairs
    similarity search.

    Those that hold a shingle are kept by the group that they are in by now, and a group is left at
    the first of them that is near: n copies of a form cost about n looks, not n * n / 2.

    Args:
        documents: copies of one text count once.
        root: names the group that a document is in by now.
    """
    sets = _placed_shingles(documents)
    copies = _copies(sets)
    yield from copies
    for _, copy in copies:
        del sets[copy]
    part, whole = _NEAR_JACCARD
    holders: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for one, own in sets.items():
        ordered, compared = sorted(own), set[str]()
        # With a smaller one it shares part / whole of its own at the least, with a larger one more.
        asked = [p for p in ordered[: _prefix(len(own), part, whole)] if p in holders]
        for place in asked:
            _regroup(holders[place], root)
            for group, others in holders[place].items():
                if root(group) == root(one):
                    continue
                for other in others:
                    if other not in compared:
                        compared.add(other)
                        if _is_near(sets[other], own):
                            yield other, one
                            break
        for place in ordered[: _prefix(len(own), 2 * part, part + whole)]:
            if place >= 0:
                holders[place].setdefault(root(one), []).append(one)


def _placed_shingles(documents: Iterable[SourceDocument]) -> dict[str, frozenset[int]]:
    """Return the shingles of each document as places in one order, the smallest document first.

    The rarest stand first; those that one document alone has are below 0.
    """
    shingles = {document.document_id: _shingles(document.text) for document in documents}
    counts = Counter(piece for pieces in shingles.values() for piece in pieces)
    num_alone = sum(count == 1 for count in counts.values())
    ordered = sorted(counts, key=lambda piece: (counts[piece], piece))
    places = {piece: place for place, piece in enumerate(ordered, start=-num_alone)}
    return {
        document_id: frozenset(places[piece] for piece in shingles[document_id])
        for document_id in sorted(shingles, key=lambda document_id: len(shingles[document_id]))
    }


def _copies(sets: Mapping[str, frozenset[int]]) -> list[tuple[str, str]]:
    """Return near-duplicates that nothing else can tell apart: each with the first of its like.

    They differ by what one document alone has, such as a number in a form, and are of one size. So
    what is near to the first of them is near to all.
    """
    first_of: dict[tuple[frozenset[int], int], str] = {}
    found = []
    for document_id, own in sets.items():
        shared = frozenset(place for place in own if place >= 0)
        first = first_of.setdefault((shared, len(own)), document_id)
        if first != document_id and _is_enough(len(shared), len(own), len(own)):
            found.append((first, document_id))
    return found


def _regroup(holders: dict[str, list[str]], root: Callable[[str], str]) -> None:
    """Put together the holders of a shingle whose groups were joined, under the name of now."""
    for old in [group for group in holders if root(group) != group]:
        few, many = sorted((holders.pop(old), holders.get(root(old), [])), key=len)
        many += few
        holders[root(old)] = many


def near_copies(held_out: Mapping[str, str], learned: Iterable[str]) -> frozenset[str]:
    """Return which of some texts are near-duplicates of any of others, by their keys.

    The others are looked at one by one, and never held in memory together.

    Args:
        held_out: texts by a key.
        learned: the others.

    Example:
        >>> sea = "The sea is cold and the wind is strong in the north"
        >>> sorted(near_copies({"a": sea, "b": "All else is told elsewhere"}, [sea.lower() + "!"]))
        ['a']
    """
    shingles = {key: _shingles(text) for key, text in held_out.items()}
    counts = Counter(piece for pieces in shingles.values() for piece in pieces)
    part, whole = _NEAR_JACCARD

    def prefix(pieces: Set[str]) -> list[str]:
        """Return the rarest; two near texts share one of these: see `_near_pairs`."""
        ordered = sorted(pieces, key=lambda piece: (counts[piece], piece))
        return ordered[: _prefix(len(pieces), part, whole)]

    holders: dict[str, set[str]] = defaultdict(set)
    for key, pieces in shingles.items():
        for piece in prefix(pieces):
            holders[piece].add(key)
    found: set[str] = set()
    for text in learned:
        own = _shingles(text)
        keys = set().union(*(holders.get(piece, ()) for piece in prefix(own)))
        near = {key for key in keys if _is_near(shingles[key], own)}
        for key in near:  # it is not looked for again: copies abound where there are some
            for piece in prefix(shingles[key]):
                holders[piece].discard(key)
        found |= near
    return frozenset(found)


def _prefix(size: int, part: int, whole: int) -> int:
    """Return how many members of a set to look at, of which part / whole or more are shared."""
    return size - -(-part * size // whole) + 1


def _is_near(first: Set[_Piece], second: Set[_Piece]) -> bool:
    part, whole = _NEAR_JACCARD
    if whole * min(len(first), len(second)) < part * max(len(first), len(second)):
        return False
    return _is_enough(len(first & second), len(first), len(second))


def _is_enough(num_shared: int, num_first: int, num_second: int) -> bool:
    """Return whether sets of two sizes that share so many members are near."""
    part, whole = _NEAR_JACCARD
    return whole * num_shared >= part * (num_first + num_second - num_shared)


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text.lower()) or [text.strip()]
    num = max(1, len(words) - _SHINGLE_WORDS + 1)
    return {" ".join(words[start : start + _SHINGLE_WORDS]) for start in range(num)}
