"""Answers about domains and events, as frozen dataclasses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

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
from stores.records import ROWS
from stores.schema import DomainRow, EventRow, RunRow, SegmentDocumentRow, SegmentRow
from stores.snapshots import find_domain, live_snapshot

TRAIN = "train"
"""The split of what was learned."""


def read_summaries(session: Session) -> tuple[DomainSummary, ...]:
    """Return one line for every domain that ever was, sorted by name."""
    live = live_snapshot(session)
    chains = read_chains(session, [state.version for state in live.domains])
    counts = _count_documents(session, [item.id for chain in chains.values() for item in chain])
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
    documents = read_documents(session, [segment.id for segment in chain])
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
        documents_by_split=dict(Counter(document.split for document in documents)),
        documents_by_kind=dict(Counter(document.kind for document in documents)),
        events=read_events(session, domain=domain),
    )


def read_events(
    session: Session, *, domain: str | None = None, limit: int | None = None
) -> tuple[Event, ...]:
    """Return events, the newest first."""
    query = (
        select(EventRow, DomainRow.name, SegmentRow.label)
        .outerjoin(DomainRow, DomainRow.id == EventRow.domain_id)
        .outerjoin(SegmentRow, SegmentRow.id == EventRow.segment_id)
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    if domain is not None:
        query = query.where(EventRow.domain_id == find_domain(session, domain).id)
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
    held = sum((counts.get(segment.id, Counter()) for segment in chain), Counter())
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
    session: Session, segment_ids: list[str]
) -> dict[str, Counter[tuple[str, str]]]:
    """Return how many documents of each kind and split each segment links."""
    row = SegmentDocumentRow
    query = select(row.segment_id, row.kind, row.split, func.count())
    query = query.where(row.segment_id.in_(segment_ids))
    found: dict[str, Counter[tuple[str, str]]] = {}
    for segment_id, kind, split, num in session.execute(
        query.group_by(row.segment_id, row.kind, row.split)
    ):
        found.setdefault(segment_id, Counter())[kind, split] = num
    return found


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


def _changed_at(session: Session) -> dict[int | None, str]:
    """Return the time of the last event about each domain."""
    query = select(EventRow.domain_id, func.max(EventRow.at)).group_by(EventRow.domain_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _to_run(row: RunRow, segment_id: str) -> Run:
    return Run(
        run_id=row.id,
        segment_id=segment_id,
        config=row.config,
        losses=tuple((int(step), train, validation) for step, train, validation in row.losses),
        started_at=row.started_at,
        seconds=row.seconds,
    )
