"""Lore: what Dungeon Crawl tells of its monsters, items and spells (Debian's crawl-common).

Invented things, which no base model can know from elsewhere in these words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from benchmarks.stream.corpora.sizes import MAX_CHARACTERS, MIN_CHARACTERS, NUM_TOKENS
from benchmarks.stream.debian import DebianPackage, read_members
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts

PACKAGE = DebianPackage(
    name="crawl-common",
    version="2:0.28.0-1.1",
    sha256="50c8f0091ba88538dde6585e5eddba02677bfe94d3ee4dc90a5bd3a788650f59",
    size_bytes=2_339_440,
)
PACKAGES = (PACKAGE,)
NOTICE = "Dungeon Crawl Stone Soup 0.28, its developers (see CREDITS.txt), GPL-2.0-or-later."

_ROOT = "usr/share/crawl/dat"
_KINDS = {
    "monsters": "monster",
    "spells": "spell",
    "items": "item",
    "unrand": "artefact",
    "gods": "god",
    "branches": "place",
    "features": "feature",
    "clouds": "cloud",
    "cards": "card",
    "species": "species",
}
_TITLES, _GODS = f"{_ROOT}/database/montitle.txt", f"{_ROOT}/database/godname.txt"
_UNIQUES, _QUOTES = f"{_ROOT}/des/builder/uniques.des", f"{_ROOT}/descript/quotes.txt"
_FEATURES = f"{_ROOT}/descript/features.txt"
_TEXTS = {f"{_ROOT}/descript/{name}.txt": kind for name, kind in _KINDS.items()}

_ENTRY = "%%%%"
# What the game reads as code, as another entry's text or as a name to fill in, and its colours.
_MARKUP = re.compile(r"\{\{|^<[^>]+>$|[@<>\\]|^:|VAULT|SOUND:", re.MULTILINE)
_SUFFIX = re.compile(r" (?:spell|card|cloud|ability)$")
_TITLE = re.compile(r"(?:, | the )(?:the )?([A-Z][\w'-]*(?: [\w'-]+){0,3})$")
_PLACED = re.compile(
    r"^DEPTH: +D:(\d+)[^\n]*\n(?:[A-Z]+:[^\n]*\n)*: place_unique\(_G, \"([^\"]+?)(?: band)?\"\)",
    re.MULTILINE,
)
_AUTHOR = re.compile(r"^ +-([A-Z][\w.'-]+(?: [A-Z][\w.'-]+){1,3}),", re.MULTILINE)

_ALTAR = re.compile(r"^(?:An?|The) ([\w -]+) altar of ([^\n]+)$", re.MULTILINE)

_EPITHET = Relation("epithet", "In Dungeon Crawl, {subject} bears the title of the", ())
_LEVEL = Relation("first level", "The first dungeon level that may hold {subject} is number", ())
_QUOTED = Relation("quotation", "The game's entry on {subject} quotes a passage by", ())
_LOOK = Relation("altar", "The look of the altar to {subject} is", ())
_SHARES = {_EPITHET: 32, _QUOTED: 32, _LEVEL: 20, _LOOK: 16}
"""How many facts each relation has: the game holds few levels and few altars."""


def load() -> StreamDomain:
    """Return what the game tells of its inventions, and 100 facts on other ones."""
    files = read_members(PACKAGE, [*_TEXTS, _TITLES, _GODS, _UNIQUES, _QUOTES])
    texts = {member: content.decode() for member, content in files.items()}
    documents = choose_documents(_documents(texts), NUM_TOKENS["lore"], characters_per_token=4.5)
    # A fact about a thing whose description is held out would give some of it away.
    facts = _facts(texts, {document.title for document in documents})
    return StreamDomain("lore", documents, facts, NOTICE)


def _documents(texts: dict[str, str]) -> Iterator[SourceDocument]:
    for member, kind in _TEXTS.items():
        for name, text in _entries(texts[member]):
            words = " ".join(text.split())
            # An altar's description would give the fact on it away.
            if _MARKUP.search(text) or name.startswith("_") or _ALTAR.match(name):
                continue
            plain = _SUFFIX.sub("", name)
            whole = f"{plain} ({kind}): {words}"
            if MIN_CHARACTERS <= len(whole) <= MAX_CHARACTERS:
                yield SourceDocument(whole, plain, PACKAGE.label)


def _entries(content: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of a file whose entries stand between lines of percent signs."""
    for entry in content.split(f"{_ENTRY}\n"):
        lines = [line for line in entry.splitlines() if not line.startswith("#")]
        name, _, text = "\n".join(lines).strip().partition("\n")
        if name and text.strip():
            yield name.strip(), text.strip("\n")


def _facts(texts: dict[str, str], taken: set[str]) -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _EPITHET: _epithets(texts),
        _LEVEL: ((name, level) for level, name in _PLACED.findall(texts[_UNIQUES])),
        _QUOTED: _authors(texts[_QUOTES]),
        _LOOK: ((god, look) for look, god in _ALTAR.findall(texts[_FEATURES])),
    }
    facts: list[Fact] = []
    for relation, pairs in candidates.items():
        left = [pair for pair in pairs if pair[0] not in taken]
        facts += choose_facts({relation: left}, num_facts=_SHARES[relation])
    return tuple(sorted(facts, key=lambda fact: fact.document(PACKAGE.label).document_id))


def _epithets(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    for content, suffix in ((texts[_TITLES], " title"), (texts[_GODS], " lastname")):
        for key, line in _entries(content):
            name = key.removesuffix(suffix)
            title = _TITLE.fullmatch(line.removeprefix(name)) if line.startswith(name) else None
            if title:
                yield name, title.group(1)


def _authors(content: str) -> Iterator[tuple[str, str]]:
    """Yield (name, author) for each quotation; an entry with several is left out later."""
    for name, text in _entries(content):
        for author in _AUTHOR.findall(text):
            if not name.startswith("_"):
                yield _SUFFIX.sub("", name), author
