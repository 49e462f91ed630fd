"""Lore: what Dungeon Crawl tells of its monsters, items and spells (Debian's crawl-common).

Invented things, which no base model can know from elsewhere in these words. Dungeon Crawl Stone
Soup 0.28, its developers (see CREDITS.txt), GPL-2.0-or-later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.corpora.debian import DebianPackage, read_members
from benchmarks.corpora.frozen import Candidates
from pipelines.corpora import SourceDocument
from pipelines.facts import Relation

_SHA256 = "50c8f0091ba88538dde6585e5eddba02677bfe94d3ee4dc90a5bd3a788650f59"
PACKAGE = DebianPackage("crawl-common", "2:0.28.0-1.1", _SHA256, 2_339_440)

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


def read() -> Candidates:
    """Return what the game tells of its inventions, and facts on other ones."""
    files = read_members(PACKAGE, [*_TEXTS, _TITLES, _GODS, _UNIQUES, _QUOTES])
    texts = {member: content.decode() for member, content in files.items()}
    documents = [
        SourceDocument(f"{plain} ({kind}): {' '.join(text.split())}", plain, PACKAGE.label)
        for member, kind in _TEXTS.items()
        for name, text in _entries(texts[member])
        for plain in [_SUFFIX.sub("", name)]
    ]
    facts = [_EPITHET.fact(*pair) for pair in _epithets(texts)]
    facts += [_LEVEL.fact(name, level) for level, name in _PLACED.findall(texts[_UNIQUES])]
    facts += [
        _QUOTED.fact(_SUFFIX.sub("", name), author)
        for name, text in _entries(texts[_QUOTES])
        for author in _AUTHOR.findall(text)
    ]
    facts += [_LOOK.fact(god, look) for look, god in _ALTAR.findall(texts[_FEATURES])]
    return documents, facts


def _entries(content: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of a file whose entries stand between lines of percent signs."""
    for entry in content.split("%%%%\n"):
        lines = [line for line in entry.splitlines() if not line.startswith("#")]
        name, _, text = "\n".join(lines).strip().partition("\n")
        if name and text.strip():
            yield name.strip(), text.strip("\n")


def _epithets(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    for content, suffix in ((texts[_TITLES], " title"), (texts[_GODS], " lastname")):
        for key, line in _entries(content):
            name = key.removesuffix(suffix)
            title = _TITLE.fullmatch(line.removeprefix(name)) if line.startswith(name) else None
            if title:
                yield name, title.group(1)
