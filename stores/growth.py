"""Adding segments: the commit point of an ingest, and of an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, DomainNameError, FrozenError, StateError
from stores.batches import batches
from stores.chains import read_chain
from stores.clock import utc_now
from stores.erased import lift, write_erased
from stores.objects import ObjectStore
from stores.queries import DomainState, Snapshot
from stores.records import BASE_SUBJECT, NewSegment
from stores.schema import DocumentRow, DomainRow, RunRow, SegmentDocumentRow, SegmentRow
from stores.snapshots import commit_snapshot, live_snapshot, live_state
from stores.uses import PackedUses, pack_uses, write_uses


@dataclass(frozen=True)
class ReadySegment:
    """A new segment with all done that needs no transaction."""

    new: NewSegment
    uses: PackedUses


def make_ready(objects: ObjectStore, segments: Sequence[NewSegment]) -> list[ReadySegment]:
    """Return new segments with their uses packed.

    Raises:
        DamageError: when an object that one names is not stored.
    """
    _check_stored(objects, segments)
    return [ReadySegment(segment, pack_uses(segment)) for segment in segments]


def add_segment(
    session: Session, ready: ReadySegment, *, capacity: int, who: str, why: str
) -> Snapshot:
    """Write all rows of a segment and the snapshot in which it is live.

    Raises:
        FrozenError: when the domain is frozen.
        StateError: when the domain has moved since the run began, the store is full, or the run
            was committed already.
    """
    live, segment = live_snapshot(session), ready.new
    state = live.state(segment.domain)
    check_growth(live, segment.domain, segment.parent, capacity)
    row = _write(session, ready)
    lift(session, segment.domain, [d.document_id for d in segment.documents])
    grown = DomainState(
        domain=segment.domain,
        version=row.id,
        label=row.label,
        is_frozen=False,
        is_enabled=state.is_enabled if state else True,
    )
    others = [other for other in live.domains if other.domain != segment.domain]
    return commit_snapshot(
        session, [*others, grown], action="ingest", who=who, why=why, domain=segment.domain
    )


def regrow(
    session: Session,
    domain: str,
    *,
    version: str,
    onto: str | None,
    segments: Sequence[ReadySegment],
    who: str,
    why: str,
    erased: Sequence[str] = (),
) -> Snapshot:
    """Put new segments in the place of the end of a live domain's chain: what an erasure commits.

    Args:
        session: a writing session.
        domain: a live domain.
        version: its version when the run began.
        onto: the segment of its chain that stays the last one; None: none stays.
        segments: in order, each on the one before, the first on `onto`.
        who: who erases.
        why: in the person's words.
        erased: full ids of documents that are gone for good, which no later ingest learns unasked.

    Raises:
        FrozenError: when the domain is frozen.
        StateError: when the domain has moved since the run began, or nothing of it would be left.
    """
    live, state = live_snapshot(session), live_state(session, domain)
    check_growth(live, domain, version, len(live.domains))
    labels = {segment.id: segment.label for segment in read_chain(session, version)}
    last = onto
    for ready in segments:
        segment = ready.new
        if segment.domain != domain or segment.parent != last:
            raise StateError(
                f"segment {segment.segment_id} of {segment.domain} grew on {segment.parent}, not "
                f"on {last} of {domain}"
            )
        labels[segment.segment_id] = _write(session, ready).label
        last = segment.segment_id
    if last is None or last not in labels:
        raise StateError(f"nothing of {domain!r} would be left; `peer-cl rollback {domain} --out`")
    grown = replace(state, version=last, label=labels[last])
    others = [other for other in live.domains if other.domain != domain]
    snapshot = commit_snapshot(
        session, [*others, grown], action="erase", who=who, why=why, domain=domain
    )
    write_erased(session, domain, erased, snapshot.id)
    return snapshot


def _check_stored(objects: ObjectStore, segments: Sequence[NewSegment]) -> None:
    """Raise DamageError unless every object that new segments name is stored."""
    wanted: set[str] = set()
    for segment in segments:
        wanted |= {segment.pool_object, segment.signature_object}
        wanted |= {item.text_object for item in segment.documents if item.text_object}
        wanted |= {segment.use_object} if segment.use_object is not None else set()
    missing = objects.missing(wanted)
    if missing:
        raise DamageError(
            f"{len(missing)} of the segment's objects are not stored ({min(missing)}, ...); "
            "put them before the segment"
        )


def _write(session: Session, ready: ReadySegment) -> SegmentRow:
    """Write all rows of a segment."""
    segment = ready.new
    domain = _domain_row(session, segment.domain)
    last = select(func.max(SegmentRow.ordinal)).where(SegmentRow.domain_id == domain.id)
    _add_run(session, segment)
    row = _add_segment_row(session, segment, domain, 1 + (session.scalar(last) or 0))
    if segment.documents:
        _add_documents(session, segment)
    write_uses(session, ready.uses)
    return row


def check_growth(live: Snapshot, domain: str, parent: str | None, capacity: int) -> None:
    """Raise unless the domain may grow a segment on `parent` in this snapshot."""
    state = live.state(domain)
    if state is None and domain == BASE_SUBJECT:
        raise DomainNameError(
            f"a domain cannot be called {domain!r}: tables name the bare model so; use another word"
        )
    if state is not None and state.is_frozen:
        raise FrozenError(
            f"domain {domain!r} is frozen and learns nothing; `peer-cl unfreeze {domain}` first"
        )
    version = None if state is None else state.version
    if version != parent:
        raise StateError(
            f"domain {domain!r} changed meanwhile: its version is {version or 'none'}, the run "
            f"began from {parent or 'none'}; ingest again"
        )
    if state is None and len(live.domains) >= capacity:
        num_disabled = sum(not other.is_enabled for other in live.domains)
        raise StateError(
            f"the store is full: {len(live.domains)} domains are live ({num_disabled} of them "
            f"disabled) and its capacity is {capacity}; roll one back, or make a store with a "
            "larger capacity"
        )


def _domain_row(session: Session, name: str) -> DomainRow:
    """Return the domain's row, new or known."""
    row = session.scalar(select(DomainRow).where(DomainRow.name == name))
    if row is None:
        row = DomainRow(name=name, created_at=utc_now())
        session.add(row)
        session.flush()
    return row


def _add_run(session: Session, segment: NewSegment) -> None:
    """Add the row of the run."""
    run = segment.run
    if session.get(RunRow, run.run_id) or session.get(SegmentRow, segment.segment_id):
        raise StateError(
            f"run {run.run_id} or segment {segment.segment_id} is in the registry already"
        )
    session.add(
        RunRow(
            id=run.run_id,
            config=run.config,
            losses=[list(point) for point in run.losses],
            started_at=run.started_at,
            seconds=run.seconds,
        )
    )
    session.flush()


def _add_segment_row(
    session: Session, segment: NewSegment, domain: DomainRow, ordinal: int
) -> SegmentRow:
    """Add the row of the segment."""
    row = SegmentRow(
        id=segment.segment_id,
        domain_id=domain.id,
        parent_id=segment.parent,
        ordinal=ordinal,
        label=f"v{ordinal}",
        run_id=segment.run.run_id,
        kind=segment.kind,
        pool_object=segment.pool_object,
        use_object=segment.use_object,
        signature_object=segment.signature_object,
        host_layers=list(segment.host_layers),
        num_experts=segment.num_experts,
        size_bytes=segment.size_bytes,
        num_tokens=segment.num_tokens,
        created_at=utc_now(),
        purged_at=None,
    )
    session.add(row)
    session.flush()
    return row


def _add_documents(session: Session, segment: NewSegment) -> None:
    """Add the documents that are new to the store, and all links."""
    ids = [document.document_id for document in segment.documents]
    known: set[str] = set()
    for some in batches(ids):
        known |= set(session.scalars(select(DocumentRow.id).where(DocumentRow.id.in_(some))))
    now = utc_now()
    fresh = [
        {"id": document.document_id, "num_tokens": document.num_tokens, "created_at": now}
        for document in segment.documents
        if document.document_id not in known
    ]
    if fresh:
        session.execute(insert(DocumentRow), fresh)
    session.execute(
        insert(SegmentDocumentRow),
        [
            {
                "segment_id": segment.segment_id,
                "document_id": document.document_id,
                "position": position,
                "title": document.title,
                "source": document.source,
                "split": document.split,
                "kind": document.kind,
                "near_group": document.near_group,
                "text_object": document.text_object,
                "section_of": document.section_of,
                "base_nats": document.base_nats,
                "nats": document.nats,
            }
            for position, document in enumerate(segment.documents)
        ],
    )
