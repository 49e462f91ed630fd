"""Acronyms: what letters stand for in computing, from Debian's dict-vera.

V.E.R.A. 1.24, (c) 1993-2020 Oliver Heidelbach, GNU Free Documentation License.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import defaultdict

from benchmarks.corpora.debian import DebianPackage, read_members
from benchmarks.corpora.frozen import Candidates
from pipelines.corpora import SourceDocument
from pipelines.facts import Relation

_SHA256 = "11d2bf94c326761131a7707807e66a05e65bc984d1a351fd8ca1cd77ac8ee8db"
PACKAGE = DebianPackage("dict-vera", "1:1.24-1", _SHA256, 297_812)

_DICTIONARY = "usr/share/dictd/vera.dict.dz"
_LINES = 7
"""Acronyms in one document: as many as make about a hundred tokens."""
_FACT_SHARE = 0.2
_ENTRY = re.compile(r"^(\S[^\n]*)\n((?: {7}\S[^\n]*\n(?:\S[^\n]*\n)*))(?= {7}\n)", re.MULTILINE)
_ADDED = re.compile(r"\[[^\]]*\]|\"[^\"]*\"|,\s*$")
_FIELD = re.compile(r"\(([^()]*)\)\s*(?:,\s*\"[^\"]*\")?\s*$")
_ACRONYM = re.compile(r"[A-Z][A-Z0-9]{2,7}")
_GERMAN = re.compile(r"\b(?:der|des|die|fuer|und|von|zum|zur)\b", re.IGNORECASE)

_EXPANSION = Relation("expansion", "In computing, the letters {subject} stand for", ())
_CONTEXT = Relation("field", "The acronym {subject} is used in connection with", ())


def read() -> Candidates:
    """Return lines on acronyms, and facts on other acronyms, of which no document tells."""
    known = _unambiguous()
    lines = [
        (letters, f"{letters} stands for {expansion}{f' ({field})' if field else ''}.")
        for letters, expansion, field in known
        if not _is_asked(letters)
    ]
    documents = []
    for start in range(0, len(lines) - _LINES + 1, _LINES):
        group = lines[start : start + _LINES]
        title = f"{group[0][0]} to {group[-1][0]}"
        documents.append(SourceDocument("\n".join(li for _, li in group), title, PACKAGE.label))
    asked = [one for one in known if _is_asked(one[0])]
    facts = [_EXPANSION.fact(letters, expansion) for letters, expansion, _ in asked]
    facts += [_CONTEXT.fact(letters, field) for letters, _, field in asked if field]
    return documents, facts


def _unambiguous() -> list[tuple[str, str, str]]:
    """Return letters, expansion and field of the acronyms that have one meaning."""
    content = gzip.decompress(read_members(PACKAGE, [_DICTIONARY])[_DICTIONARY]).decode()
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for letters, text in _ENTRY.findall(content):
        expansion, field = _parts(text)
        is_plain = expansion and "?" not in expansion and not _GERMAN.search(expansion)
        if _ACRONYM.fullmatch(letters) and is_plain:
            found[letters].append((letters, expansion, field))
    return [entries[0] for _, entries in sorted(found.items()) if len(entries) == 1]


def _parts(text: str) -> tuple[str, str]:
    r"""Return an entry's expansion, and the field that the dictionary puts in brackets after it.

    Example:
        >>> _parts("Bay Area GNU [large] League (GNU, org.), \"B\"")
        ('Bay Area GNU League', 'GNU, org.')
    """
    line = " ".join(text.split())
    field = _FIELD.search(line)
    expansion = _ADDED.sub("", line[: field.start()] if field else line)
    return " ".join(expansion.split()), field.group(1) if field else ""


def _is_asked(letters: str) -> bool:
    digest = hashlib.sha256(letters.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < _FACT_SHARE
