"""Readers of the background sources: the bytes of a file in a wheel to texts."""

from __future__ import annotations

import bz2
import csv
import html
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterator

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


def lines(content: bytes) -> Iterator[str]:
    """Yield each line of a text file."""
    yield from content.decode().splitlines()


def passages(content: bytes) -> Iterator[str]:
    """Yield passages of a long text, whole lines of it up to about 700 characters."""
    yield from _packed(line.strip() for line in content.decode().splitlines() if line.strip())


def speeches(content: bytes) -> Iterator[str]:
    """Yield passages of speeches, without the audience."""
    for row in csv.DictReader(io.StringIO(content.decode())):
        said = _SPEAKER.sub("", _STAGE_SHOUT.sub("", row["text"]))
        yield from _packed(line.strip() for line in said.splitlines() if line.strip())


def dictionary(content: bytes) -> Iterator[str]:
    """Yield the entries of a dictionary: the word and its definitions."""
    for word, entry in json.loads(content).items():
        senses = [
            definition["text"].strip()
            for part in entry["pos"]
            for definition in part["definitions"]
        ]
        yield f"{word}: {' '.join(senses)}"


def bestiary(content: bytes) -> Iterator[str]:
    """Yield the creatures of a game: the name and what the rules say of it."""
    for creature in json.loads(content)["data"]:
        yield f"{creature['name']}: {' '.join(creature['description'])}"


def encyclopedia(content: bytes) -> Iterator[str]:
    """Yield the first paragraphs of the articles in a MediaWiki dump, without markup."""
    for match in _WIKI_TEXT.finditer(bz2.decompress(content).decode()):
        article = plain_wiki(html.unescape(match.group(1)))
        lead = article.partition("\n==")[0]
        if not lead.lstrip().upper().startswith("#REDIRECT"):
            yield lead


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


def films(content: bytes) -> Iterator[str]:
    """Yield what films are about and what critics say of them."""
    for row in csv.DictReader(io.StringIO(bz2.decompress(content).decode())):
        yield row["text"]


def scripture(content: bytes) -> Iterator[str]:
    """Yield paragraphs of a Bible kept in a Python module, which is read and never run."""
    text = content.decode().partition('"""')[2].partition('"""')[0]
    for paragraph in text.splitlines():
        yield _ADDED_WORD.sub(r"\1", _VERSE_NUMBER.sub("", paragraph))


def weaknesses(content: bytes) -> Iterator[str]:
    """Yield the weaknesses of software in CWE: the name and its descriptions."""
    for row in csv.DictReader(io.StringIO(content.decode())):
        yield f"{row['Name']}: {row['Description']} {row['Extended Description']}"


def elements(content: bytes) -> Iterator[str]:
    """Yield the chemical elements: what each is, where it is found and what it serves."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(content)
        found = connection.execute("SELECT name, description, sources, uses FROM elements")
        for name, *parts in found.fetchall():
            yield f"{name}: {' '.join(part for part in parts if part)}"
    finally:
        connection.close()


def _packed(pieces: Iterator[str]) -> Iterator[str]:
    """Yield neighbouring pieces joined up to a passage's length."""
    passage = ""
    for piece in pieces:
        if passage and len(passage) + len(piece) > _PASSAGE_CHARACTERS:
            yield passage
            passage = ""
        passage = f"{passage}\n{piece}" if passage else piece
    if passage:
        yield passage


READERS: dict[str, Callable[[bytes], Iterator[str]]] = {
    reader.__name__: reader
    for reader in (
        lines,
        passages,
        speeches,
        dictionary,
        bestiary,
        encyclopedia,
        films,
        scripture,
        weaknesses,
        elements,
    )
}
"""The readers by the name that pipelines/sources.toml gives them."""
