"""What a masked erasure did: losses of its documents and of others, before and after.

The pool is forced on, so that what is measured is the pool and not how much weight it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer_cl.bases import within_context
from pipelines.batches import pieces, tokenise
from pipelines.evaluate import version_branch
from pipelines.loading import empty_model, load_store_base
from pipelines.masks import masked_documents
from pipelines.progress import Progress, no_progress
from pipelines.token_scores import BASE, MAX_TOKENS, Item, ScoreBook, sums
from stores import Document, Registry

NUM_OTHERS = 20
"""How many other documents are scored, to see what else is lost."""


@dataclass(frozen=True)
class DocumentEffect:
    """What an erasure did to one document: losses in nats a token."""

    document_id: str
    base_nats: float
    before_nats: float
    after_nats: float
    removed: float | None
    """Share of what the pool had gained on it: 0: nothing is gone, 1: all; None: no gain."""


@dataclass(frozen=True)
class Effect:
    """What a masked erasure did, with the pool forced on."""

    documents: tuple[DocumentEffect, ...]
    num_others: int
    """Other documents that the domain learned; the first ones by their ids."""
    others_change_nats: float | None
    """Mean change of their losses, nats a token; positive = worse."""
    others_removed: float | None
    """Share of what the pool had gained on them, taken together."""


def measure_effect(
    registry: Registry,
    domain: str,
    versions: tuple[str, str],
    documents: Sequence[Document],
    progress: Progress = no_progress,
) -> Effect:
    """Return what a mask did to its documents and to others, the pool forced on.

    Args:
        registry: a store that keeps texts.
        domain: whose.
        versions: the one before the mask and the one after.
        documents: those that the mask is for.
        progress: told how many documents are scored.
    """
    masks = masked_documents(registry, domain)
    erased = {document.document_id for document in documents}
    for segment in registry.chain(versions[1]):
        erased |= set(masks.get(segment.id, ()))
    others = sorted(
        (d for d in registry.documents(domain, versions[1], "train") if d.text_object is not None),
        key=lambda document: document.document_id,
    )
    others = [document for document in others if document.document_id not in erased][:NUM_OTHERS]
    base = load_store_base(registry)
    model = empty_model(registry, base)
    scored = [*documents, *others]
    rows = tokenise(base.tokenizer, [registry.document_text(document) for document in scored])
    longest = within_context(base.model, MAX_TOKENS)
    special = frozenset(base.tokenizer.all_special_ids)
    # The whole of what is erased, in pieces; of the others, their beginnings.
    items = [
        [Item(piece, document.document_id, special_ids=special) for piece in pieces(ids, longest)]
        for ids, document in zip(rows, scored, strict=True)
    ]
    items[len(documents) :] = [some[:1] for some in items[len(documents) :]]
    branches = [version_branch(registry, model, domain, version) for version in versions]
    book = ScoreBook(registry, model, branches)
    book.fill([item for some in items for item in some], "measuring the effect", progress)
    model.detach()
    losses = [
        (sums(book, BASE, some), sums(book, versions[0], some), sums(book, versions[1], some))
        for some in items
    ]
    own, rest = losses[: len(documents)], losses[len(documents) :]
    changes = [after - before for _, before, after in rest]
    return Effect(
        documents=tuple(
            DocumentEffect(document.document_id, *nats, _removed([nats]))
            for document, nats in zip(documents, own, strict=True)
        ),
        num_others=len(rest),
        others_change_nats=sum(changes) / len(changes) if changes else None,
        others_removed=_removed(rest),
    )


def _removed(losses: Sequence[tuple[float, float, float]]) -> float | None:
    """Return the share of the pool's gain that is gone: of (base, before, after) losses."""
    gained = sum(base - before for base, before, _ in losses)
    lost = sum(after - before for _, before, after in losses)
    return lost / gained if gained > 0 else None
