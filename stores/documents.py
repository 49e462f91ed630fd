"""Documents of segments, and where else in the store a document is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, UnknownError
from stores.batches import batches
from stores.chains import MIN_PREFIX, read_chain, read_chains
from stores.queries import Document, DocumentPlace, Segment
from stores.records import MASK
from stores.schema import (
    DocumentRow,
    DomainRow,
    EventRow,
    RunRow,
    SegmentDocumentRow,
    SegmentRow,
)
from stores.snapshots import live_snapshot

ROLLED_BACK = "rolled back"


def read_documents(
    session: Session,
    segment_ids: list[str],
    *,
    split: str | None = None,
    kind: str | None = None,
    document_id: str | None = None,
) -> tuple[Document, ...]:
    """Return the documents of a domain's segments: the oldest's first, in the order of ingest."""
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
    if document_id is not None:
        query = query.where(SegmentDocumentRow.document_id == document_id)
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
            section_of=row.section_of,
            base_nats=row.base_nats,
            nats=row.nats,
        )
        for row, num_tokens, name in session.execute(query)
    )


def read_places(session: Session, text: str) -> tuple[DocumentPlace, ...]:
    """Return every place in the store that holds the document which an id or its beginning means.

    The oldest place first: by the snapshot with which it came, since each domain counts its
    segments for itself.

    Args:
        session: a reading session.
        text: 64 hex digits, or the first six or more of them.

    Raises: UnknownError: when no document fits, or several do.
    """
    document_id = _resolve_document(session, text)
    links = select(SegmentDocumentRow.segment_id).where(
        SegmentDocumentRow.document_id == document_id
    )
    segment_ids = list(session.scalars(links))
    live = live_snapshot(session)
    chains = read_chains(session, [state.version for state in live.domains])
    in_chains = {segment.id: chain for chain in chains.values() for segment in chain}
    segments = {
        row.id: row
        for row in session.scalars(select(SegmentRow).where(SegmentRow.id.in_(segment_ids)))
    }
    came = {segment_id: _came_with(session, segment_id) for segment_id in segments}
    places = [
        DocumentPlace(
            document=document,
            label=segments[document.segment_id].label,
            run_id=segments[document.segment_id].run_id,
            snapshot_id=came[document.segment_id],
            created_at=segments[document.segment_id].created_at,
            is_live=document.segment_id in in_chains,
            is_masked=_is_masked(session, document_id, in_chains.get(document.segment_id, ())),
        )
        for document in read_documents(session, segment_ids, document_id=document_id)
    ]
    # An erasure makes several segments of one domain in one act: they stay in its own order.
    return tuple(sorted(places, key=lambda place: place.snapshot_id))


def _is_masked(session: Session, document_id: str, chain: Sequence[Segment]) -> bool:
    """Return whether a mask in a chain is for a document: its own rows are off there."""
    runs = [segment.run_id for segment in chain if segment.kind == MASK]
    configs = session.scalars(select(RunRow.config).where(RunRow.id.in_(runs)))
    return any(document_id in config.get("erases", ()) for config in configs)


def _came_with(session: Session, segment_id: str) -> int:
    """Return the snapshot in which a segment came.

    An erasure makes several segments in one act, and its event names the last of them: that of the
    others is the one with which the segment came that grew on them first.
    """
    acts = select(func.min(EventRow.snapshot_id)).where(EventRow.action.in_(("ingest", "erase")))
    at: str | None = segment_id
    while at is not None:
        found: int | None = session.scalar(acts.where(EventRow.segment_id == at))
        if found is not None:
            return found
        grown = select(SegmentRow.id).where(SegmentRow.parent_id == at)
        at = session.scalar(grown.order_by(SegmentRow.ordinal).limit(1))
    raise DamageError(f"no event tells when segment {segment_id} came; run `peer-cl doctor`")


def _resolve_document(session: Session, text: str) -> str:
    """Return the id of the one document that an id, or the beginning of one, means."""
    wanted = text.strip().lower()
    at_least = select(DocumentRow.id).where(DocumentRow.id >= wanted).order_by(DocumentRow.id)
    found = list(session.scalars(at_least.limit(2)))  # ids are in order: those that fit come first
    fit = [found_id for found_id in found if found_id.startswith(wanted)]
    if len(fit) == 1 and len(wanted) >= MIN_PREFIX:
        return fit[0]
    if len(fit) > 1 and len(wanted) >= MIN_PREFIX:
        raise UnknownError(f"several documents' ids begin with {text!r}; write more of it")
    below = select(DocumentRow.id).where(DocumentRow.id < wanted).order_by(DocumentRow.id.desc())
    near = [*found[:1], *session.scalars(below.limit(1))]
    if not near:
        raise UnknownError(f"no document {text[:80]!r}; there is none yet")
    nearest = max(near, key=lambda other: SequenceMatcher(None, other, wanted).ratio())
    raise UnknownError(
        f"no document {text[:80]!r}; an id has 64 hex digits, of which the first {MIN_PREFIX} or "
        f"more may be given; the nearest is {nearest[:12]}, see `peer-cl documents DOMAIN`"
    )


def read_holders(session: Session, document_ids: Iterable[str]) -> set[str]:
    """Return the names of the domains, live or not, that hold any of some documents."""
    names: set[str] = set()
    for batch in batches(dict.fromkeys(document_ids)):
        query = (
            select(DomainRow.name)
            .join(SegmentRow, SegmentRow.domain_id == DomainRow.id)
            .join(SegmentDocumentRow, SegmentDocumentRow.segment_id == SegmentRow.id)
            .where(SegmentDocumentRow.document_id.in_(batch))
            .distinct()
        )
        names.update(session.scalars(query))
    return names


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
