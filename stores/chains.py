"""Segments: a domain's chain, and the version that a person means."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from peer_cl.errors import UnknownError, unknown_name
from stores.queries import Segment
from stores.schema import DomainRow, SegmentRow
from stores.snapshots import find_domain

MIN_PREFIX = 6


def read_chain(session: Session, version: str) -> tuple[Segment, ...]:
    """Return the segments of a version, oldest first.

    Raises: UnknownError: when there is no such segment.
    """
    return read_chains(session, [version])[version]


def read_chains(session: Session, versions: Iterable[str]) -> dict[str, tuple[Segment, ...]]:
    """Return the chains of several versions, oldest segment first, in one query."""
    wanted = list(dict.fromkeys(versions))
    tree = (
        select(SegmentRow.id, SegmentRow.parent_id)
        .where(SegmentRow.id.in_(wanted))
        .cte("chain", recursive=True)
    )
    older = select(SegmentRow.id, SegmentRow.parent_id)
    tree = tree.union(older.join(tree, SegmentRow.id == tree.c.parent_id))
    found = _read_segments(session, SegmentRow.id.in_(select(tree.c.id)))
    segments = {segment.id: segment for segment in found}
    return {version: _walk(segments, version) for version in wanted}


def _walk(segments: dict[str, Segment], version: str) -> tuple[Segment, ...]:
    """Return the chain that ends with `version`."""
    chain: list[Segment] = []
    at: str | None = version
    while at is not None:
        if at not in segments:
            raise UnknownError(f"no version {at[:80]!r}; see `peer-cl history`")
        chain.append(segments[at])
        at = segments[at].parent_id
    return tuple(reversed(chain))


def read_versions(session: Session, domain: str) -> tuple[Segment, ...]:
    """Return all segments ever made in a domain, in order, tombstones included."""
    row = find_domain(session, domain)
    return _read_segments(session, SegmentRow.domain_id == row.id)


def read_purged_versions(session: Session) -> frozenset[str]:
    """Return the ids of all versions whose bytes are gone.

    A segment is never purged without those that grew on it: a version is gone when its own is.
    """
    return frozenset(
        session.scalars(select(SegmentRow.id).where(SegmentRow.purged_at.is_not(None)))
    )


def resolve_version(session: Session, domain: str, text: str) -> str:
    """Return the full id of the version that a label, an id or a unique prefix means.

    Raises: UnknownError: when none or several fit.
    """
    versions = read_versions(session, domain)
    exact = [segment.id for segment in versions if text in (segment.id, segment.label)]
    if exact:
        return exact[0]
    near = [segment.id for segment in versions if segment.id.startswith(text)]
    if len(text) >= MIN_PREFIX and len(near) == 1:
        return near[0]
    if len(text) >= MIN_PREFIX and near:
        raise UnknownError(
            f"{len(near)} versions of {domain} begin with {text!r}; write more of it"
        )
    raise unknown_name(f"version of {domain}", text, [segment.label for segment in versions])


def _read_segments(session: Session, where: ColumnElement[bool]) -> tuple[Segment, ...]:
    """Return the segments that fit a condition, in the order of their ordinals."""
    query = select(SegmentRow, DomainRow.name)
    query = query.join(DomainRow, DomainRow.id == SegmentRow.domain_id)
    rows = session.execute(query.where(where).order_by(SegmentRow.ordinal)).all()
    return tuple(_to_segment(row, name) for row, name in rows)


def _to_segment(row: SegmentRow, domain: str) -> Segment:
    """Return a row as readers see it."""
    return Segment(
        id=row.id,
        domain=domain,
        label=row.label,
        ordinal=row.ordinal,
        parent_id=row.parent_id,
        run_id=row.run_id,
        kind=row.kind,
        pool_object=row.pool_object,
        use_object=row.use_object,
        signature_object=row.signature_object,
        host_layers=tuple(row.host_layers),
        num_experts=row.num_experts,
        size_bytes=row.size_bytes,
        num_tokens=row.num_tokens,
        created_at=row.created_at,
        is_purged=row.purged_at is not None,
    )
