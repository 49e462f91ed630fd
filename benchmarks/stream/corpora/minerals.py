"""Minerals and chemistry: gem minerals as in the demo, and the chemical elements of mendeleev."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.stream.corpora.sizes import NUM_TOKENS
from benchmarks.stream.domains import StreamDomain
from pipelines.background import source_pins
from pipelines.demo_corpora import minerals
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.packages import read_member

_PIN = next(pin for pin in source_pins() if pin.name == "elements")
PACKAGES = (minerals.PACKAGE, _PIN.package)
NOTICE = f"{minerals.NOTICE} mendeleev, (c) Lukasz Mentel, MIT licence."

_MINERAL_FACTS = 17
"""Facts of each of the four relations on minerals; those on elements fill up to a hundred."""
_ELEMENT_FACTS = 100 - 4 * _MINERAL_FACTS
_QUERY = """
SELECT name, description, sources, uses, name_origin, discovery_location, goldschmidt_class
FROM elements ORDER BY atomic_number
"""
_PLACE = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)?")
_CLASS = re.compile(r"[a-z]+")
# The source's slip.
_RESPELT = {"litophile": "lithophile"}
_COUNTRY = Relation("discovery", "The element {subject} was first discovered in the country of", ())
_AFFINITY = Relation("geochemical class", "Goldschmidt grouped the element {subject} as", ())


def load() -> StreamDomain:
    """Return texts on minerals and on elements, half each, and 100 facts."""
    stones = minerals.load(NUM_TOKENS["minerals"] // 2)
    rows = _rows()
    elements = choose_documents(
        map(_document, rows),
        NUM_TOKENS["minerals"] - NUM_TOKENS["minerals"] // 2,
        characters_per_token=4.0,
    )
    facts = sorted([*_first(stones.facts), *_facts(rows)], key=_order)
    return StreamDomain("minerals", (*stones.documents, *elements), tuple(facts), NOTICE)


def _order(fact: Fact) -> str:
    return fact.document(NOTICE).document_id


def _first(facts: Sequence[Fact]) -> Iterator[Fact]:
    """Yield the first facts of each relation, in the order in which the demo has them."""
    for relation in sorted({fact.relation for fact in facts}):
        yield from [fact for fact in facts if fact.relation == relation][:_MINERAL_FACTS]


def _document(row: sqlite3.Row) -> SourceDocument:
    parts = [row["description"], row["sources"], row["uses"], _origin(row["name_origin"])]
    text = " ".join(" ".join(part.split()) for part in parts if part)
    return SourceDocument(f"{row['name']}: {text}", row["name"], _PIN.package.label)


def _origin(text: str | None) -> str:
    return f"Origin of the name: {text.rstrip('.')}." if text else ""


def _facts(rows: Iterable[sqlite3.Row]) -> tuple[Fact, ...]:
    # No document shows these columns: a fact is learned from its own statement alone.
    rows = list(rows)
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _COUNTRY: _column(rows, "discovery_location", _PLACE),
        _AFFINITY: _column(rows, "goldschmidt_class", _CLASS),
    }
    return choose_facts(candidates, num_facts=_ELEMENT_FACTS)


def _column(
    rows: Iterable[sqlite3.Row], column: str, pattern: re.Pattern[str]
) -> Iterator[tuple[str, str]]:
    for row in rows:
        if pattern.fullmatch(row[column] or ""):
            yield row["name"].lower(), _RESPELT.get(row[column], row[column])


def _rows() -> list[sqlite3.Row]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.row_factory = sqlite3.Row
        connection.deserialize(read_member(_PIN.package, _PIN.member))
        return connection.execute(_QUERY).fetchall()
    finally:
        connection.close()
