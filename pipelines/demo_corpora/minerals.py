"""Minerals: what gem minerals look like and where they are found."""

from __future__ import annotations

import json
import re
import sqlite3

from pipelines.corpora import SourceDocument
from pipelines.demo_corpora import choosing
from pipelines.packages import read_member, sqlite_rows

PACKAGE = choosing.package_of("minerals")
_BROKEN_WORD = re.compile(r"(?<=[a-z])- (?=[a-z])")
_LOOKS = ("lustre", "cleavage", "fracture")
_QUERY = """
SELECT e.id, e.name AS habit, e.form_description, e.note, f.name AS species, f.category,
       f.crystal_system, f.chemistry, f.ri_min, f.origin,
       f.lustre, f.cleavage, f.fracture, f.localities_json, f.colors_json,
       f.treatments_json, f.inclusions_json
FROM mineral_expressions AS e JOIN mineral_families AS f ON f.id = e.family_id
ORDER BY f.name, e.sort_order, e.id
"""
_COLUMNS = {
    "formula": ("chemistry", re.compile(r"(?!X)[A-Z][A-Za-z0-9()]{1,13}")),
    "crystal system": ("crystal_system", re.compile(r"\w+")),
    "class": ("category", re.compile(r"[A-Z][a-z]+s")),
    "refractive index": ("ri_min", re.compile(r"\d+\.\d+")),
}
"""Of facts, with the form of their answers. No document shows these columns: a fact is learned from
its own statement alone."""


def load(num_tokens: int) -> choosing.DemoCorpus:
    """Return about `num_tokens` tokens on minerals, and 100 facts."""
    database = read_member(PACKAGE, "mineral_database/data/minerals.db")
    rows = sqlite_rows(database, _QUERY)
    natural = [row for row in rows if row["origin"] == "natural" and "(" not in row["species"]]
    pairs = {
        relation: [
            (row["species"].lower(), value.lower() if column == "category" else value)
            for row in natural
            if pattern.fullmatch(value := str(row[column] or ""))
        ]
        for relation, (column, pattern) in _COLUMNS.items()
    }
    documents = choosing.choose_documents("minerals", map(_document, rows), num_tokens)
    return choosing.demo_corpus("minerals", documents, pairs)


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
