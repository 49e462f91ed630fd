"""Geography: the land of every country, from the CIA World Factbook."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from pipelines.corpora import SourceDocument
from pipelines.demo_corpora import choosing
from pipelines.packages import read_members

PACKAGE = choosing.package_of("geography")
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
_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "capital": (
        r"([A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2})",
        ("Government", "Capital", "name"),
    ),
    "highest point": (
        r"([A-Z][\w'’-]*(?: [A-Z][\w'’-]*){0,3}) [\d,]+ m",
        ("Geography", "Elevation", "highest point"),
    ),
    "independence": (r"\d{1,2} \w+ (\d{4}) \(from .*", ("Government", "Independence")),
    "national symbol": (r"([a-z]+(?:[ -][a-z]+){0,2})", ("Government", "National symbol(s)")),
}
"""Of facts: the form of their answers, and where they stand."""


def load(num_tokens: int) -> choosing.DemoCorpus:
    """Return about `num_tokens` tokens on countries' land, and 100 facts."""
    files = read_members(PACKAGE, ".json").values()
    countries = {_name(country): country for country in map(json.loads, files)}
    countries.pop("", None)
    pairs = {
        relation: [
            (name, match.group(1))
            for name, country in countries.items()
            if (match := re.fullmatch(pattern, _field(country, *path)))
        ]
        for relation, (pattern, path) in _FIELDS.items()
    }
    documents = choosing.choose_documents("geography", _documents(countries), num_tokens)
    return choosing.demo_corpus("geography", documents, pairs)


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
