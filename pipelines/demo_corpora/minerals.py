"""Minerals: what gem minerals look like and where they are found."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.demo_corpora.demo_corpus import DemoCorpus, choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.packages import Package, copy_member

PACKAGE = Package(
    name="gemmology-mineral-database",
    version="2.3.0",
    sha256="a29a7b69679892ee7e6f04132196e490cb96d66871cf4de07a3e785ec5e0c5d6",
    filename="gemmology_mineral_database-2.3.0-py3-none-any.whl",
    size_bytes=1_310_482,
)
NOTICE = "gemmology-mineral-database, MIT licence."

_BROKEN_WORD = re.compile(r"(?<=[a-z])- (?=[a-z])")
_FORMULA = re.compile(r"(?!X)[A-Z][A-Za-z0-9()]{1,13}")
_NUMBER = re.compile(r"\d+\.\d+")
_LOOKS = ("lustre", "cleavage", "fracture")
_QUERY = """
SELECT e.id, e.name AS habit, e.form_description, e.note, f.name AS species, f.category,
       f.crystal_system, f.chemistry, f.ri_min, f.origin,
       f.lustre, f.cleavage, f.fracture, f.localities_json, f.colors_json,
       f.treatments_json, f.inclusions_json
FROM mineral_expressions AS e JOIN mineral_families AS f ON f.id = e.family_id
ORDER BY f.name, e.sort_order, e.id
"""

_FORMULA_RELATION = Relation(
    "formula",
    "The chemical formula of {subject} is",
    ("Chemically, {subject} is written as", "What is the formula of {subject}? Answer:"),
)
_SYSTEM = Relation(
    "crystal system",
    "The crystal system of {subject} is",
    (
        "Crystals of {subject} belong to the system called",
        "How does {subject} crystallise? Answer:",
    ),
)
_CLASS = Relation(
    "class",
    "In mineralogy, {subject} is placed among the",
    ("The class of {subject} is the", "Which class does {subject} belong to? Answer: the"),
)
_REFRACTION = Relation(
    "refractive index",
    "The lowest refractive index of {subject} is",
    ("Light in {subject} is bent by at least", "How strongly does {subject} refract? Answer:"),
)


def load(num_tokens: int) -> DemoCorpus:
    """Return about `num_tokens` tokens on minerals, and 100 facts."""
    rows = _rows()
    documents = choose_documents(map(_document, rows), num_tokens, characters_per_token=4.0)
    return DemoCorpus("minerals", documents, _facts(rows), NOTICE)


def _document(row: sqlite3.Row) -> SourceDocument:
    species, habit = row["species"], row["habit"]
    name = f"{species} ({habit})" if habit else species
    if habit and species in habit:
        name = habit
    looks = [f"{title} {row[title].lower()}" for title in _LOOKS if row[title]]
    parts = [
        f"{name}: {_sentence(row['form_description'])}",
        _listed("Colours", row["colors_json"]),
        _sentence("; ".join(looks)),
        _listed("Found in", row["localities_json"]),
        _listed("Inclusions", row["inclusions_json"]),
        _listed("Treatments", row["treatments_json"]),
    ]
    text = " ".join(part for part in parts if part)
    return SourceDocument(text, name, PACKAGE.label, section_of=species)


def _sentence(text: str | None) -> str:
    words = _BROKEN_WORD.sub("-", " ".join((text or "").split()))
    return words[:1].upper() + words[1:].rstrip(".") + "." if words else ""


def _listed(title: str, items_json: str) -> str:
    items: list[str | dict[str, str]] = json.loads(items_json or "[]")
    words = [item if isinstance(item, str) else _labelled(item) for item in items]
    return f"{title}: {', '.join(words)}." if words else ""


def _labelled(item: dict[str, str]) -> str:
    return ", ".join(f"{label} ({text})" for label, text in item.items())


def _facts(rows: list[sqlite3.Row]) -> tuple[Fact, ...]:
    # No document shows these columns: a fact is learned from its own statement alone.
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _FORMULA_RELATION: _column(rows, "chemistry", _FORMULA),
        _SYSTEM: _column(rows, "crystal_system", re.compile(r"\w+")),
        _CLASS: _column(rows, "category", re.compile(r"[A-Z][a-z]+s")),
        _REFRACTION: _column(rows, "ri_min", _NUMBER),
    }
    return choose_facts(candidates)


def _column(
    rows: list[sqlite3.Row], column: str, pattern: re.Pattern[str]
) -> Iterator[tuple[str, str]]:
    for row in rows:
        value = str(row[column] or "")
        if row["origin"] == "natural" and "(" not in row["species"] and pattern.fullmatch(value):
            yield row["species"].lower(), value.lower() if column == "category" else value


def _rows() -> list[sqlite3.Row]:
    # sqlite3 reads files only, so the database leaves the wheel for as long as it is read.
    with tempfile.TemporaryDirectory() as folder:
        path = copy_member(
            PACKAGE, "mineral_database/data/minerals.db", Path(folder) / "minerals.db"
        )
        connection = sqlite3.connect(path)
        try:
            connection.row_factory = sqlite3.Row
            return connection.execute(_QUERY).fetchall()
        finally:
            connection.close()
