"""Answers about domains and events, as frozen dataclasses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Select, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from stores.chains import read_chain, read_chains, read_versions
from stores.documents import read_documents
from stores.queries import (
    DomainDetail,
    DomainState,
    DomainSummary,
    Event,
    Run,
    Segment,
)
from stores.records import ROWS, TRAIN
from stores.schema import (
    DomainRow,
    EventRow,
    RunRow,
    SegmentDocumentRow,
    SegmentRow,
    SnapshotDomainRow,
    SnapshotRow,
)
from stores.snapshots import find_domain, live_snapshot


def read_summaries(session: Session) -> tuple[DomainSummary, ...]:
    """Return one line for every domain that ever was, sorted by name."""
    live = live_snapshot(session)
    chains = read_chains(session, [state.version for state in live.domains])
    counts = _count_documents(session, chains)
    changed = _changed_at(session)
    kept = _count_kept(session)
    return tuple(
        _summarise(
            row,
            state := live.state(row.name),
            chains[state.version] if state else (),
            counts,
            kept=kept.get(row.id),
            changed_at=changed.get(row.id, ""),
        )
        for row in session.scalars(select(DomainRow).order_by(DomainRow.name))
    )


def read_domain(session: Session, domain: str) -> DomainDetail:
    """Return everything about a domain but its documents.

    Raises: UnknownError: when there is none of this name.
    """
    row = find_domain(session, domain)
    summary = next(found for found in read_summaries(session) if found.domain == domain)
    versions = read_versions(session, domain)
    chain = read_chain(session, summary.version) if summary.version else ()
    places: dict[str, list[tuple[str, str]]] = {}
    for document in read_documents(session, [segment.id for segment in chain]):
        places.setdefault(document.document_id, []).append((document.kind, document.split))
    standing = [_standing(own) for own in places.values()]
    runs = session.execute(
        select(RunRow, SegmentRow.id)
        .join(SegmentRow, SegmentRow.run_id == RunRow.id)
        .where(SegmentRow.domain_id == row.id)
        .order_by(SegmentRow.ordinal)
    )
    return DomainDetail(
        summary=summary,
        chain=chain,
        versions=versions,
        runs=tuple(_to_run(run, segment_id) for run, segment_id in runs),
        documents_by_split=dict(Counter(split for _, split in standing)),
        documents_by_kind=dict(Counter(kind for kind, _ in standing)),
        events=read_events(session, domain=domain),
    )


def _standing(places: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the kind and split by which a document of a chain counts, of those of its places.

    One that was held out and is learned since, as a text or as a fact, counts as learned.
    """
    return min(places, key=lambda place: (place[1] != TRAIN, place))


def read_events(
    session: Session, *, domain: str | None = None, limit: int | None = None
) -> tuple[Event, ...]:
    """Return events, the newest first; of a domain also the restores that changed it."""
    query = (
        select(EventRow, DomainRow.name, SegmentRow.label)
        .outerjoin(DomainRow, DomainRow.id == EventRow.domain_id)
        .outerjoin(SegmentRow, SegmentRow.id == EventRow.segment_id)
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    if domain is not None:
        domain_id = find_domain(session, domain).id
        restored = _restores().subquery()
        restores = select(restored.c.event_id).where(restored.c.domain_id == domain_id)
        query = query.where(or_(EventRow.domain_id == domain_id, EventRow.id.in_(restores)))
    return tuple(
        Event(
            id=row.id,
            at=row.at,
            who=row.who,
            action=row.action,
            domain=name,
            version=row.segment_id,
            label=label,
            snapshot_id=row.snapshot_id,
            why=row.why,
        )
        for row, name, label in session.execute(query)
    )


def _summarise(
    row: DomainRow,
    state: DomainState | None,
    chain: tuple[Segment, ...],
    counts: Mapping[str, Counter[tuple[str, str]]],
    *,
    kept: tuple[int, int] | None,
    changed_at: str,
) -> DomainSummary:
    """Return one line about a domain."""
    held = counts[state.version] if state else Counter()
    return DomainSummary(
        domain=row.name,
        version=state.version if state else None,
        label=state.label if state else None,
        is_live=state is not None,
        is_frozen=state.is_frozen if state else False,
        is_enabled=state.is_enabled if state else False,
        is_purged=kept is None,
        num_segments=sum(segment.kind == ROWS for segment in chain),
        num_documents=held.total(),
        num_texts=held["text", TRAIN],
        num_facts=sum(num for (kind, _), num in held.items() if kind == "fact"),
        num_held_out=sum(
            num for (kind, split), num in held.items() if kind == "text" and split != TRAIN
        ),
        num_tokens=sum(segment.num_tokens for segment in chain),
        num_experts=sum(segment.num_experts for segment in chain),
        size_bytes=sum(segment.size_bytes for segment in chain),
        kept_documents=kept[0] if kept else 0,
        kept_bytes=kept[1] if kept else 0,
        created_at=row.created_at,
        changed_at=changed_at,
    )


def _count_documents(
    session: Session, chains: Mapping[str, Sequence[Segment]]
) -> dict[str, Counter[tuple[str, str]]]:
    """Return how many documents of each kind and split each version has, each of them once.

    Few stand in several segments of a chain, so only these are read one by one; see `_standing`.
    """
    row = SegmentDocumentRow
    every = [segment.id for chain in chains.values() for segment in chain]
    grouped = select(row.segment_id, row.kind, row.split, func.count())
    grouped = grouped.where(row.segment_id.in_(every)).group_by(row.segment_id, row.kind, row.split)
    of_segment: dict[str, Counter[tuple[str, str]]] = {}
    for segment_id, kind, split, num in session.execute(grouped):
        of_segment.setdefault(segment_id, Counter())[kind, split] = num
    found = {
        version: sum((of_segment.get(one.id, Counter()) for one in chain), Counter())
        for version, chain in chains.items()
    }
    version_of = {
        segment.id: version
        for version, chain in chains.items()
        for segment in chain
        if len(chain) > 1
    }
    for version, links in _repeated(session, version_of):
        found[version].subtract(links)
        found[version][_standing(links)] += 1
    return found


def _repeated(
    session: Session, version_of: Mapping[str, str]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield, for each document that stands in several segments of a version, the version and the
    kind and split of each place.

    Args:
        session: a reading session.
        version_of: by segment; of versions with several segments.
    """
    if not version_of:
        return
    row, inside = SegmentDocumentRow, SegmentDocumentRow.segment_id.in_(list(version_of))
    several = select(row.document_id).where(inside).group_by(row.document_id)
    query = select(row.document_id, row.segment_id, row.kind, row.split).where(
        inside, row.document_id.in_(several.having(func.count() > 1))
    )
    places: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for document_id, segment_id, kind, split in session.execute(query):
        key = (version_of[segment_id], document_id)
        places.setdefault(key, []).append((kind, split))
    for (version, _), links in places.items():
        if len(links) > 1:
            yield version, links


def _count_kept(session: Session) -> dict[int, tuple[int, int]]:
    """Return the documents and the pools' bytes of each domain's versions that are not purged."""
    is_kept = SegmentRow.purged_at.is_(None)
    sizes = select(SegmentRow.domain_id, func.sum(SegmentRow.size_bytes)).where(is_kept)
    # A document that was learned again, as after an erasure, stands in several versions.
    documents = (
        select(SegmentRow.domain_id, func.count(SegmentDocumentRow.document_id.distinct()))
        .join(SegmentDocumentRow, SegmentDocumentRow.segment_id == SegmentRow.id)
        .where(is_kept)
    )
    counts = {row[0]: row[1] for row in session.execute(documents.group_by(SegmentRow.domain_id))}
    return {
        row[0]: (counts.get(row[0], 0), int(row[1]))
        for row in session.execute(sizes.group_by(SegmentRow.domain_id))
    }


def _changed_at(session: Session) -> dict[int, str]:
    """Return the time of the last event about each domain, or of the last restore that changed it.

    In one statement: it is part of every list of domains.
    """
    restored = _restores().subquery()
    own = select(EventRow.domain_id, EventRow.at).where(EventRow.domain_id.is_not(None))
    every = own.union_all(select(restored.c.domain_id, restored.c.at)).subquery()
    query = select(every.c.domain_id, func.max(every.c.at)).group_by(every.c.domain_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _restores() -> Select[int, str, int]:
    """Return the query of the restores of whole snapshots, beside each domain that they changed.

    Their events are of no domain: what they changed, their snapshots tell.
    """
    before, after = aliased(SnapshotDomainRow), aliased(SnapshotDomainRow)
    is_changed = [
        getattr(before, name).is_distinct_from(getattr(after, name))
        for name in ("segment_id", "is_frozen", "is_enabled")
    ]
    return (
        select(
            EventRow.id.label("event_id"), EventRow.at.label("at"), DomainRow.id.label("domain_id")
        )
        .join(SnapshotRow, SnapshotRow.id == EventRow.snapshot_id)
        .join(DomainRow, true())
        .outerjoin(
            before,
            (before.snapshot_id == SnapshotRow.parent_id) & (before.domain_id == DomainRow.id),
        )
        .outerjoin(after, (after.snapshot_id == SnapshotRow.id) & (after.domain_id == DomainRow.id))
        .where(EventRow.domain_id.is_(None), EventRow.action == "rollback", or_(*is_changed))
    )


def _to_run(row: RunRow, segment_id: str) -> Run:
    return Run(
        run_id=row.id,
        segment_id=segment_id,
        config=row.config,
        losses=tuple((int(step), train, validation) for step, train, validation in row.losses),
        started_at=row.started_at,
        seconds=row.seconds,
    )
