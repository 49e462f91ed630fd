"""Documents of segments, and where else in the store a document is known."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from stores.batches import batches
from stores.chains import read_chain, read_chains
from stores.queries import Document
from stores.schema import DocumentRow, DomainRow, SegmentDocumentRow, SegmentRow
from stores.snapshots import live_snapshot

ROLLED_BACK = "rolled back"


def read_documents(
    session: Session,
    segment_ids: list[str],
    *,
    split: str | None = None,
    kind: str | None = None,
) -> tuple[Document, ...]:
    """Return the documents of segments: the oldest segment's first, in the order of ingest."""
    query = (
        select(SegmentDocumentRow, DocumentRow.num_tokens, DomainRow.name)
        .join(DocumentRow, DocumentRow.id == SegmentDocumentRow.document_id)
        .join(SegmentRow, SegmentRow.id == SegmentDocumentRow.segment_id)
        .join(DomainRow, DomainRow.id == SegmentRow.domain_id)
        .where(SegmentDocumentRow.segment_id.in_(segment_ids))
        .order_by(SegmentRow.ordinal, SegmentDocumentRow.position)
    )
    if split is not None:
        query = query.where(SegmentDocumentRow.split == split)
    if kind is not None:
        query = query.where(SegmentDocumentRow.kind == kind)
    return tuple(
        Document(
            document_id=row.document_id,
            segment_id=row.segment_id,
            domain=name,
            title=row.title,
            source=row.source,
            split=row.split,
            kind=row.kind,
            num_tokens=num_tokens,
            near_group=row.near_group,
            text_object=row.text_object,
        )
        for row, num_tokens, name in session.execute(query)
    )


def known_documents(session: Session, domain: str) -> set[str]:
    """Return the ids of the documents in a domain's live chain; empty when it is not live."""
    state = live_snapshot(session).state(domain)
    if state is None:
        return set()
    chain = [segment.id for segment in read_chain(session, state.version)]
    return set(
        session.scalars(
            select(SegmentDocumentRow.document_id).where(SegmentDocumentRow.segment_id.in_(chain))
        )
    )


def known_elsewhere(
    session: Session, document_ids: Iterable[str], domain: str
) -> dict[str, tuple[str, ...]]:
    """Return where else documents are known: other live domains, or "rolled back".

    Such documents are still learned: skipping them would take from this domain when the other is
    removed. Ids that are known nowhere else, or in this domain's live chain alone, are left out.
    """
    live = live_snapshot(session)
    chains = read_chains(session, [state.version for state in live.domains])
    owner = {segment.id: segment.domain for chain in chains.values() for segment in chain}
    places: dict[str, set[str]] = {}
    for batch in batches(dict.fromkeys(document_ids)):
        links = select(SegmentDocumentRow.document_id, SegmentDocumentRow.segment_id)
        links = links.where(SegmentDocumentRow.document_id.in_(batch))
        for document_id, segment_id in session.execute(links):
            name = owner.get(segment_id, ROLLED_BACK)
            if name != domain:
                places.setdefault(document_id, set()).add(name)
    return {
        document_id: tuple(sorted(names - {ROLLED_BACK})) or (ROLLED_BACK,)
        for document_id, names in places.items()
    }
