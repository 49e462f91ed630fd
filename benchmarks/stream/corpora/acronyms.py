"""Acronyms: what letters stand for in computing, from Debian's dict-vera."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.stream.corpora.sizes import NUM_TOKENS
from benchmarks.stream.debian import DebianPackage, read_members
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts

PACKAGE = DebianPackage(
    name="dict-vera",
    version="1:1.24-1",
    sha256="11d2bf94c326761131a7707807e66a05e65bc984d1a351fd8ca1cd77ac8ee8db",
    size_bytes=297_812,
)
PACKAGES = (PACKAGE,)
NOTICE = "V.E.R.A. 1.24, (c) 1993-2020 Oliver Heidelbach, GNU Free Documentation License."

_DICTIONARY = "usr/share/dictd/vera.dict.dz"
_LINES = 7
"""Acronyms in one document: as many as make about a hundred tokens."""
_FACT_SHARE = 0.2
_COMMON = 3
_ENTRY = re.compile(r"^(\S[^\n]*)\n((?: {7}\S[^\n]*\n(?:\S[^\n]*\n)*))(?= {7}\n)", re.MULTILINE)
_ADDED = re.compile(r"\[[^\]]*\]|\"[^\"]*\"|,\s*$")
_FIELD = re.compile(r"\(([^()]*)\)\s*(?:,\s*\"[^\"]*\")?\s*$")
_ACRONYM = re.compile(r"[A-Z][A-Z0-9]{2,7}")
_WORDS = re.compile(r"[A-Za-z][\w'/-]*(?: [\w'/-]+){1,3}")
_FIELD_NAME = re.compile(r"[A-Za-z][\w+-]*(?: [\w+-]+){0,2}")
_GERMAN = re.compile(r"\b(?:der|des|die|fuer|und|von|zum|zur)\b", re.IGNORECASE)
# Countries, languages and kinds of entry say nothing of the field that an acronym belongs to.
_NO_FIELD = {"org", "slang", "USA", "Europe", "Konferenz", "TZ", "manufacturer", "IN", "BIT"}

_EXPANSION = Relation("expansion", "In computing, the letters {subject} stand for", ())
_CONTEXT = Relation("field", "The acronym {subject} is used in connection with", ())


@dataclass(frozen=True)
class _Acronym:
    letters: str
    expansion: str
    field: str


def load() -> StreamDomain:
    """Return lines on acronyms, and 100 facts on other acronyms."""
    known = _unambiguous(_read())
    asked = [acronym for acronym in known if _is_asked(acronym.letters)]
    told = [acronym for acronym in known if not _is_asked(acronym.letters)]
    documents = choose_documents(_documents(told), NUM_TOKENS["acronyms"], characters_per_token=3.7)
    return StreamDomain("acronyms", documents, _facts(asked), NOTICE)


def _read() -> list[_Acronym]:
    content = gzip.decompress(read_members(PACKAGE, [_DICTIONARY])[_DICTIONARY]).decode()
    return [_acronym(letters, text) for letters, text in _ENTRY.findall(content)]


def _acronym(letters: str, text: str) -> _Acronym:
    r"""Return an entry in parts: the expansion, and what the dictionary puts in brackets after it.

    Example:
        >>> _acronym("BAGEL", "Bay Area GNU [large] League (GNU, org.), \"B\"")
        _Acronym(letters='BAGEL', expansion='Bay Area GNU League', field='GNU, org.')
    """
    line = " ".join(text.split())
    field = _FIELD.search(line)
    expansion = _ADDED.sub("", line[: field.start()] if field else line)
    return _Acronym(letters, " ".join(expansion.split()), field.group(1) if field else "")


def _unambiguous(acronyms: Iterable[_Acronym]) -> list[_Acronym]:
    found: dict[str, list[_Acronym]] = defaultdict(list)
    for acronym in acronyms:
        if _ACRONYM.fullmatch(acronym.letters) and _is_told(acronym.expansion):
            found[acronym.letters].append(acronym)
    return [entries[0] for _, entries in sorted(found.items()) if len(entries) == 1]


def _is_told(expansion: str) -> bool:
    return bool(expansion) and "?" not in expansion and not _GERMAN.search(expansion)


def _is_asked(letters: str) -> bool:
    """Return whether an acronym is asked for; no document tells of it, held out or not."""
    digest = hashlib.sha256(letters.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < _FACT_SHARE


def _documents(acronyms: list[_Acronym]) -> Iterator[SourceDocument]:
    for start in range(0, len(acronyms) - _LINES + 1, _LINES):
        group = acronyms[start : start + _LINES]
        text = "\n".join(_line(acronym) for acronym in group)
        yield SourceDocument(text, f"{group[0].letters} to {group[-1].letters}", PACKAGE.label)


def _line(acronym: _Acronym) -> str:
    field = f" ({acronym.field})" if acronym.field else ""
    return f"{acronym.letters} stands for {acronym.expansion}{field}."


def _facts(acronyms: list[_Acronym]) -> tuple[Fact, ...]:
    counts = Counter(word for acronym in acronyms for word in acronym.expansion.lower().split())
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        # Words that other acronyms share: this leaves misspelt and most German ones out.
        _EXPANSION: (
            (acronym.letters, acronym.expansion)
            for acronym in acronyms
            if _WORDS.fullmatch(acronym.expansion)
            and all(counts[word] >= _COMMON for word in acronym.expansion.lower().split())
        ),
        _CONTEXT: (
            (acronym.letters, acronym.field)
            for acronym in acronyms
            if _FIELD_NAME.fullmatch(acronym.field)
            and acronym.field not in _NO_FIELD
            and acronym.field.upper() not in acronym.letters
        ),
    }
    return choose_facts(candidates)
