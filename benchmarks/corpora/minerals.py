"""Minerals and chemistry: gem minerals as in the demo, and the chemical elements of mendeleev.

gemmology-mineral-database, MIT licence; mendeleev, (c) Lukasz Mentel, MIT licence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from benchmarks.corpora.frozen import ALL_TOKENS, Candidates
from pipelines.corpora import SourceDocument
from pipelines.demo_corpora import minerals
from pipelines.facts import Fact, Relation
from pipelines.packages import pinned, read_member, sqlite_rows

PACKAGE = pinned("mendeleev")
_MEMBER = "mendeleev/elements.db"

_QUERY = """
SELECT name, description, sources, uses, name_origin, discovery_location, goldschmidt_class
FROM elements
"""
# The source's slip.
_RESPELT = {"litophile": "lithophile"}
_COUNTRY = Relation("discovery", "The element {subject} was first discovered in the country of", ())
_CLASS = Relation("geochemical class", "Goldschmidt grouped the element {subject} as", ())


def read() -> Candidates:
    """Return texts on minerals and on elements, and facts on both."""
    stones = minerals.load(ALL_TOKENS)
    rows = sqlite_rows(read_member(PACKAGE, _MEMBER), _QUERY)
    documents = [*stones.documents, *map(_document, rows)]
    return documents, [*stones.facts, *(fact for row in rows for fact in _facts(row))]


def _document(row: sqlite3.Row) -> SourceDocument:
    origin = row["name_origin"]
    origin = f"Origin of the name: {origin.rstrip('.')}." if origin else ""
    parts = [row["description"], row["sources"], row["uses"], origin]
    text = " ".join(" ".join(part.split()) for part in parts if part)
    return SourceDocument(f"{row['name']}: {text}", row["name"], PACKAGE.label)


def _facts(row: sqlite3.Row) -> Iterator[Fact]:
    for relation, column in ((_COUNTRY, "discovery_location"), (_CLASS, "goldschmidt_class")):
        if value := row[column]:
            yield relation.fact(row["name"].lower(), _RESPELT.get(value, value))
