"""Components: the parts of a cell in the Gene Ontology, from Debian's r-bioc-go.db.

Gene Ontology (geneontology.org), CC BY 4.0, packaged by Bioconductor's GO.db, Artistic-2.0.
"""

from __future__ import annotations

from benchmarks.corpora.debian import DebianPackage, read_members
from benchmarks.corpora.frozen import Candidates
from pipelines.corpora import SourceDocument
from pipelines.facts import Relation
from pipelines.packages import sqlite_rows

_SHA256 = "4ec9f0a740f2620e7b8d2aac4d053e765da437fecdfdcadbd60a46d4114b0ce7"
PACKAGE = DebianPackage("r-bioc-go.db", "3.20.0-2", _SHA256, 11_181_416)

_DATABASE = "usr/lib/R/site-library/GO.db/extdata/GO.sqlite"
_TERMS = "SELECT term, definition FROM go_term WHERE ontology = 'CC' ORDER BY go_id"
_PARENTS = """
SELECT child.term, parent.term FROM go_cc_parents AS link
JOIN go_term AS child ON child._id = link._id JOIN go_term AS parent ON parent._id = link._parent_id
WHERE link.relationship_type = '{}'
"""
_SYNONYMS = """
SELECT term, synonym FROM go_synonym JOIN go_term USING (_id)
WHERE ontology = 'CC' AND NOT like_go_id AND secondary IS NULL
"""
_FACTS = {
    _PARENTS.format("isa"): Relation("kind", "In cell biology, {subject} counts as a type of", ()),
    _PARENTS.format("part of"): Relation(
        "whole", "Within the cell, {subject} is found as part of the", ()
    ),
    _SYNONYMS: Relation("synonym", "Biologists also use for {subject} the name", ()),
}


def read() -> Candidates:
    """Return a definition of each cell part, and what it is, belongs to and is called."""
    database = read_members(PACKAGE, [_DATABASE])[_DATABASE]
    documents = [
        SourceDocument(f"{name}: {' '.join((text or '').split())}", name, PACKAGE.label)
        for name, text in sqlite_rows(database, _TERMS)
    ]
    facts = [
        relation.fact(name, other)
        for query, relation in _FACTS.items()
        for name, other in sqlite_rows(database, query)
    ]
    return documents, facts
