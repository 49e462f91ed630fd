"""Which documents experts hold, and which experts hold a document; needs no model.

An expert that every document uses tells nothing about any of them. So experts count by how few
documents use them: tf-idf, with experts for words.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stores.registry import Registry
from stores.uses import rarity


@dataclass(frozen=True)
class RankedDocument:
    """A document that some experts hold."""

    domain: str
    document_id: str
    title: str
    source: str
    kind: str
    score: float
    """Cosine of the angle between the document's use of the experts and the text's, 0 to 1."""
    median: float
    """The median score of its domain's learned documents: any text has some experts in common."""


@dataclass(frozen=True)
class DocumentExpert:
    """An expert that a document uses."""

    segment_id: str
    host_layer: int
    expert: int
    weight: float
    """Weight in the product-key router, summed over the document's tokens."""
    share: float
    """The document's share of all that the expert is used for."""
    num_documents: int
    """Documents that use the expert."""
    specificity: float
    """The weight times the log of learned documents over those that use the expert (tf-idf)."""


def rank_documents(
    registry: Registry, domain: str, used: Mapping[str, Mapping[int, Mapping[int, float]]], num: int
) -> list[RankedDocument]:
    """Return the documents of a domain whose experts a text uses, the most alike first.

    `used` holds by segment id, host layer and expert the weight summed over the text.
    """
    rankings = [
        registry.uses.rank_documents(segment_id, experts, num)
        for segment_id, experts in used.items()
    ]
    scores = [score for ranking in rankings for score in ranking.scores.tolist()]
    median = statistics.median(scores) if scores else 0.0
    found = [
        RankedDocument(domain, own.document_id, own.title, own.source, own.kind, score, median)
        for ranking in rankings
        for own, score in ranking.best
    ]
    return sorted(found, key=lambda item: (-item.score, item.document_id))[:num]


def document_experts(
    registry: Registry, document_id: str, segment_ids: Sequence[str]
) -> list[DocumentExpert]:
    """Return the experts that a document uses in some segments, the most specific first."""
    totals = {
        (use.segment_id, use.host_layer, use.expert): use
        for use in registry.uses.expert_uses(segment_ids)
    }
    counts = {key: registry.uses.num_learned(key) for key in segment_ids}
    found = [
        DocumentExpert(
            segment_id=use.segment_id,
            host_layer=use.host_layer,
            expert=expert,
            weight=weight,
            share=min(1.0, weight / total.weight),  # both are kept in half precision
            num_documents=total.num_documents,
            specificity=weight * rarity(counts[use.segment_id], total.num_documents),
        )
        for use in registry.uses.document_uses(document_id, segment_ids)
        for expert, weight in zip(use.experts.tolist(), use.weights.tolist(), strict=True)
        for total in [totals[use.segment_id, use.host_layer, expert]]
    ]
    return sorted(
        found, key=lambda e: (-e.specificity, -e.weight, e.segment_id, e.host_layer, e.expert)
    )
