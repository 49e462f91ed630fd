"""Components: the parts of a cell in the Gene Ontology, from Debian's r-bioc-go.db."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator

from benchmarks.stream.corpora.sizes import MAX_CHARACTERS, MIN_CHARACTERS, NUM_TOKENS
from benchmarks.stream.debian import DebianPackage, read_members
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts

PACKAGE = DebianPackage(
    name="r-bioc-go.db",
    version="3.20.0-2",
    sha256="4ec9f0a740f2620e7b8d2aac4d053e765da437fecdfdcadbd60a46d4114b0ce7",
    size_bytes=11_181_416,
)
PACKAGES = (PACKAGE,)
NOTICE = (
    "Gene Ontology (geneontology.org), CC BY 4.0, packaged by Bioconductor's GO.db, Artistic-2.0."
)

_DATABASE = "usr/lib/R/site-library/GO.db/extdata/GO.sqlite"
_TERMS = "SELECT term, definition FROM go_term WHERE ontology = 'CC' ORDER BY go_id"
_PARENTS = """
SELECT child.term, parent.term FROM go_cc_parents AS link
JOIN go_term AS child ON child._id = link._id JOIN go_term AS parent ON parent._id = link._parent_id
WHERE link.relationship_type = ? ORDER BY child.go_id, parent.go_id
"""
_SYNONYMS = """
SELECT term, synonym FROM go_synonym JOIN go_term USING (_id)
WHERE ontology = 'CC' AND NOT like_go_id AND secondary IS NULL ORDER BY go_id, synonym
"""
# Commas and long numbers make bad questions; so do terms that only say "host" or "part".
_NAME = re.compile(r"[A-Za-z][\w'/-]+(?: [\w'/-]+){0,3}")
_INITIALS = re.compile(r"[A-Z0-9][\w-]*s?")
_VAGUE = {"cellular anatomical entity", "protein-containing complex", "extracellular region"}

_KIND = Relation("kind", "In cell biology, {subject} counts as a type of", ())
_WHOLE = Relation("whole", "Within the cell, {subject} is found as part of the", ())
_SYNONYM = Relation("synonym", "Biologists also use for {subject} the name", ())


def load() -> StreamDomain:
    """Return definitions of cell parts, and 100 facts on other parts."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(read_members(PACKAGE, [_DATABASE])[_DATABASE])
        documents = choose_documents(
            _documents(connection), NUM_TOKENS["components"], characters_per_token=4.4
        )
        # A fact about a part whose definition is held out would give some of it away.
        facts = _facts(connection, {document.title for document in documents})
    finally:
        connection.close()
    return StreamDomain("components", documents, facts, NOTICE)


def _documents(connection: sqlite3.Connection) -> Iterator[SourceDocument]:
    for name, definition in connection.execute(_TERMS):
        text = f"{name}: {' '.join((definition or '').split())}"
        if MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
            yield SourceDocument(text, name, PACKAGE.label)


def _facts(connection: sqlite3.Connection, taken: set[str]) -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _KIND: _pairs(connection.execute(_PARENTS, ("isa",)), taken),
        _WHOLE: _pairs(connection.execute(_PARENTS, ("part of",)), taken),
        _SYNONYM: (
            # Initials can be read off the name.
            (name, synonym)
            for name, synonym in _pairs(connection.execute(_SYNONYMS), taken)
            if not _INITIALS.fullmatch(synonym)
        ),
    }
    return choose_facts(candidates)


def _pairs(rows: Iterable[tuple[str, str]], taken: set[str]) -> Iterator[tuple[str, str]]:
    """Yield a part with all that it stands to, so that those with several are left out later."""
    found: dict[str, set[str]] = {}
    for name, other in rows:
        found.setdefault(name, set()).add(other)
    for name, others in sorted(found.items()):
        other = min(others)
        is_plain = _NAME.fullmatch(name) and _NAME.fullmatch(other) and other not in _VAGUE
        if len(others) == 1 and is_plain and name not in taken:
            yield name, other
