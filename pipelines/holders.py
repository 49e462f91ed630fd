"""From rows to the documents that they hold, and from a document to its rows, ranked.

A row that every document uses says nothing about any of them. So rows count by how few documents
use them: tf-idf, with rows for words.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stores import Registry
from stores.uses import rarity


@dataclass(frozen=True)
class RankedDocument:
    """A document that some rows hold."""

    domain: str
    document_id: str
    title: str
    source: str
    kind: str
    score: float
    """Cosine of the angle between what it asks of the rows and what the text asks, 0 to 1."""
    median: float
    """The median score of its domain's learned documents: any text has some rows in common."""


def rank_documents(
    registry: Registry,
    domain: str,
    asked: Mapping[str, Mapping[int, Mapping[int, float]]],
    num: int,
) -> list[RankedDocument]:
    """Return the documents of a domain whose rows a text asks, the most alike first.

    Args:
        registry: an open store.
        domain: whose rows they are.
        asked: by segment id, host layer and row, the router's weight summed over the text.
        num: how many documents.
    """
    rankings = [
        registry.rank_documents(segment_id, rows, num) for segment_id, rows in asked.items()
    ]
    scores = [score for ranking in rankings for score in ranking.scores.tolist()]
    found = [
        RankedDocument(
            domain=domain,
            document_id=document.document_id,
            title=document.title,
            source=document.source,
            kind=document.kind,
            score=score,
            median=statistics.median(scores),
        )
        for ranking in rankings
        for document, score in ranking.best
    ]
    return sorted(found, key=lambda item: (-item.score, item.document_id))[:num]


@dataclass(frozen=True)
class DocumentRow:
    """A row that a document uses."""

    segment_id: str
    host_layer: int
    row: int
    weight: float
    """Router weight, summed over the document's tokens."""
    share: float
    """The document's share of all that the row is used for."""
    num_documents: int
    """Documents that use the row."""
    specificity: float
    """The weight times the log of learned documents over those that use the row (tf-idf): a row
    that all use is nobody's own. Where one document was learned alone, the weight."""


def document_rows(
    registry: Registry, document_id: str, segment_ids: Sequence[str]
) -> list[DocumentRow]:
    """Return the rows that a document uses in some segments, the most specific first."""
    totals = {
        (use.segment_id, use.host_layer, use.row): use for use in registry.expert_uses(segment_ids)
    }
    counts = {key: registry.num_learned(key) for key in segment_ids}
    found = []
    for use in registry.document_uses(document_id, segment_ids):
        for row, weight in zip(use.rows.tolist(), use.weights.tolist(), strict=True):
            total = totals[use.segment_id, use.host_layer, row]
            found.append(
                DocumentRow(
                    segment_id=use.segment_id,
                    host_layer=use.host_layer,
                    row=row,
                    weight=weight,
                    share=min(1.0, weight / total.weight),  # both are kept in half precision
                    num_documents=total.num_documents,
                    specificity=weight * rarity(counts[use.segment_id], total.num_documents),
                )
            )
    return sorted(
        found, key=lambda r: (-r.specificity, -r.weight, r.segment_id, r.host_layer, r.row)
    )
