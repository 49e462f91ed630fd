"""The record of use: which experts hold which documents, written at ingest, read from either side.

One SQL row for each (document, host layer) and one for each expert that fired, each with a packed
array; never one for each pair. Documents stand in the arrays by their position in the segment.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray
from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError
from stores.database import Database, batches
from stores.queries import DocumentUse, ExpertUse, HeldBy, HeldDocument, Ranking, from_row
from stores.records import NewSegment
from stores.schema import DocumentUseRow, ExpertUseRow, SegmentDocumentRow

Ids: TypeAlias = NDArray[np.int64]
Shares: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = list[dict[str, Any]]
PackedUses: TypeAlias = tuple[Rows, Rows, Rows]
"""New rows of document_uses and of expert_uses, and the documents' norms."""
_ROWS_PER_STATEMENT = 2_000


class Uses:
    """Reads the record of use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def document_uses(
        self, document_id: str, segment_ids: Sequence[str]
    ) -> tuple[DocumentUse, ...]:
        """Return the experts that a document (a full id) uses in some segments, by host layer."""
        row, found = DocumentUseRow, []
        query = select(row).where(row.segment_id.in_(segment_ids), row.document_id == document_id)
        with self._database.reading() as session:
            for use in session.scalars(query.order_by(row.segment_id, row.host_layer)):
                experts, shares = unpack(use.experts)
                weights = shares * use.weight
                found.append(DocumentUse(use.segment_id, use.host_layer, experts, weights))
        return tuple(found)

    def expert_uses(self, segment_ids: Sequence[str]) -> tuple[ExpertUse, ...]:
        """Return the use of every expert of some segments that fired."""
        row = ExpertUseRow
        columns = [getattr(row, one.name) for one in dataclasses.fields(ExpertUse)]
        query = select(*columns).where(row.segment_id.in_(segment_ids))  # not the packed documents
        with self._database.reading() as session:
            found = session.execute(query.order_by(row.segment_id, row.host_layer, row.expert))
            return tuple(ExpertUse(*use) for use in found)

    def held_by(self, segment_id: str, experts: Mapping[int, Sequence[int]]) -> tuple[HeldBy, ...]:
        """Return which documents use some experts, in the order of layer and expert.

        Args:
            experts: Numbers of experts, by host layer; those that never fired are left out.
        """
        with self._database.reading() as session:
            uses = _read_expert_uses(session, segment_id, experts)
            found = [(use, *unpack(use.documents)) for use in uses]
            positions = {int(position) for _, held, _ in found for position in held}
            documents = _read_positions(session, segment_id, sorted(positions))
        return tuple(
            HeldBy(
                use=from_row(ExpertUse, use),
                documents=tuple(documents[int(held[place])] for place in order),
                shares=tuple(float(shares[place]) for place in order),
            )
            for use, held, shares in found
            for order in [np.argsort(-shares, kind="stable")]
        )

    def num_learned(self, segment_id: str) -> int:
        """Return of how many documents the use of a segment's experts was recorded."""
        query = select(func.count()).where(
            SegmentDocumentRow.segment_id == segment_id, SegmentDocumentRow.use_norm.is_not(None)
        )
        with self._database.reading() as session:
            return int(session.scalar(query) or 0)

    def rank_documents(
        self, segment_id: str, used: Mapping[int, Mapping[int, float]], num: int
    ) -> Ranking:
        """Return the documents of a segment whose experts a text uses, the most alike first.

        Documents and the text are vectors over the segment's experts: router weight times the
        expert's rarity. The score is the cosine of the angle between them, 0 to 1: tf-idf, with
        experts for words.

        Args:
            used: By host layer and expert, the router's weight summed over the text.
        """
        norms_query = select(SegmentDocumentRow.position, SegmentDocumentRow.use_norm).where(
            SegmentDocumentRow.segment_id == segment_id, SegmentDocumentRow.use_norm > 0
        )
        with self._database.reading() as session:
            measured = session.execute(norms_query).all()
            uses = list(_read_expert_uses(session, segment_id, used))
            if not measured or not uses:
                return Ranking((), np.zeros(len(measured)))
            places, norms = (np.array(column) for column in zip(*measured, strict=True))
            wanted = np.array([used[use.host_layer][use.expert] for use in uses])
            totals = np.array([use.weight for use in uses])
            rare = np.array([rarity(len(places), use.effective_documents) for use in uses])
            length = float(np.sqrt(((wanted * rare) ** 2).sum()))
            if not length:
                return Ranking((), np.zeros(len(measured)))
            positions, shares, lengths = unpack_all([use.documents for use in uses])
            products = np.bincount(
                positions,
                weights=np.repeat(wanted * rare**2 * totals, lengths) * shares,
                minlength=int(places.max()) + 1,
            )
            scores = products[places] / (norms * length)
            best = np.lexsort((places, -scores))[:num]
            documents = _read_positions(session, segment_id, places[best].tolist())
        ranked = [(documents[int(places[n])], float(scores[n])) for n in best if scores[n] > 0]
        return Ranking(tuple(ranked), scores)


def _read_expert_uses(
    session: Session, segment_id: str, experts: Mapping[int, Sequence[int] | Mapping[int, float]]
) -> Iterator[ExpertUseRow]:
    """Yield the rows of some experts, by host layer and expert: a search by the primary key."""
    for host_layer, wanted in sorted(experts.items()):
        for some in batches(sorted(set(wanted))):
            query = select(ExpertUseRow).where(
                ExpertUseRow.segment_id == segment_id,
                ExpertUseRow.host_layer == host_layer,
                ExpertUseRow.expert.in_(some),
            )
            yield from session.scalars(query.order_by(ExpertUseRow.expert))


def _read_positions(
    session: Session, segment_id: str, positions: Sequence[int]
) -> dict[int, HeldDocument]:
    """Return the documents at some positions of a segment."""
    row = SegmentDocumentRow
    found: dict[int, HeldDocument] = {}
    for some in batches(positions):
        wanted = select(row).where(row.segment_id == segment_id, row.position.in_(some))
        found |= {one.position: from_row(HeldDocument, one) for one in session.scalars(wanted)}
    return found


def pack_uses(segment: NewSegment) -> PackedUses:
    """Return the uses of a new segment as SQL rows.

    That takes seconds for a thousand documents, so it is done before the transaction begins.
    """
    ids = [document.document_id for document in segment.documents]
    learned = {int(position) for use in segment.uses for position in np.unique(use.documents)}
    squares = np.zeros(len(ids))
    documents: Rows = []
    experts: Rows = []
    of_segment = {"segment_id": segment.segment_id}
    for use in segment.uses:
        of_layer = {**of_segment, "host_layer": use.host_layer}
        for position, used, weights in _groups(use.documents, use.experts, use.weights):
            total = float(weights.sum())
            about = {"document_id": ids[position], "experts": pack(used, weights / total)}
            documents.append({**of_layer, **about, "weight": total})
        for expert, positions, weights in _groups(use.experts, use.documents, use.weights):
            total = float(weights.sum())
            effective = effective_number(weights / total)
            squares[positions] += (weights * rarity(len(learned), effective)) ** 2
            experts.append(
                {
                    **of_layer,
                    "expert": expert,
                    "weight": total,
                    "num_documents": len(positions),
                    "effective_documents": effective,
                    "documents": pack(positions, weights / total),
                }
            )
    norms: Rows = [
        {**of_segment, "document_id": ids[position], "use_norm": math.sqrt(squares[position])}
        for position in sorted(learned)
    ]
    return documents, experts, norms


def write_uses(session: Session, packed: PackedUses) -> None:
    """Write the packed uses of a new segment, whose own rows are there."""
    statements = (insert(DocumentUseRow), insert(ExpertUseRow), update(SegmentDocumentRow))
    for statement, rows in zip(statements, packed, strict=True):
        for some in batches(rows, _ROWS_PER_STATEMENT):
            session.execute(statement, some)


def copy_uses(session: Session, older: str, newer: str) -> None:
    """Give a segment the record of use of another one, whose texts it holds in the same places."""
    for table in (DocumentUseRow, ExpertUseRow):
        every = [column.name for column in table.__table__.columns]
        names = [name for name in every if name != "segment_id"]
        columns = [getattr(table, name) for name in names]
        rows = select(literal(newer), *columns).where(table.segment_id == older)
        session.execute(insert(table).from_select(["segment_id", *names], rows))
    norms = select(SegmentDocumentRow.document_id, SegmentDocumentRow.use_norm)
    norms = norms.where(
        SegmentDocumentRow.segment_id == older, SegmentDocumentRow.use_norm.is_not(None)
    )
    found = [
        {"segment_id": newer, "document_id": document_id, "use_norm": norm}
        for document_id, norm in session.execute(norms)
    ]
    for some in batches(found, _ROWS_PER_STATEMENT):
        session.execute(update(SegmentDocumentRow), some)


def rarity(num_learned: int, effective_documents: float) -> float:
    """Return how much the use of an expert says about a document, in nats.

    0 where all documents use the expert alike. Where one document was learned alone, every expert
    is its own and says as much as any other: 1.

    Example:
        >>> rarity(100, 100.0), round(rarity(100, 10.0), 4), rarity(1, 1.0)
        (0.0, 2.3026, 1.0)
    """
    if num_learned == 1:
        return 1.0
    return math.log(max(1.0, num_learned / max(1.0, effective_documents)))


def effective_number(shares: Shares) -> float:
    """Return exp of the entropy of shares that add up to one.

    Example:
        >>> round(effective_number(np.array([0.5, 0.5, 0.0])), 6)
        2.0
    """
    some = shares[shares > 0]
    return float(np.exp(-(some * np.log(some)).sum()))


def _groups(keys: Ids, others: Ids, weights: Shares) -> Iterator[tuple[int, Ids, Shares]]:
    """Yield each key with its others, ascending, and their weights."""
    if not len(keys):
        return
    order = np.lexsort((others, keys))
    keys, others, weights = keys[order], others[order], weights[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = [*starts[1:].tolist(), len(keys)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        yield int(keys[start]), others[start:end], weights[start:end]


def pack(ids: Ids, shares: Shares) -> bytes:
    """Return ascending ids and their shares, which add up to one, as bytes.

    The bytes: zstandard over one byte with the width of an id (2 or 4), the ids as differences
    from one to the next, little-endian, and the shares as float16.
    """
    gaps = np.diff(ids, prepend=0)
    width = 2 if len(gaps) == 0 or int(gaps.max()) < 2**16 else 4
    data = bytes([width]) + gaps.astype(f"<u{width}").tobytes() + shares.astype("<f2").tobytes()
    return zstandard.ZstdCompressor(level=3).compress(data)


def unpack(data: bytes) -> tuple[Ids, Shares]:
    """Return what `pack` was given, the shares rounded to three digits."""
    ids, shares, _ = unpack_all([data])
    return ids, shares


def unpack_all(packed: Sequence[bytes]) -> tuple[Ids, Shares, Ids]:
    """Return the ids and shares of many packed arrays, one after the other, and their lengths.

    A trace reads tens of thousands of them, so what can be done once for all is.

    Raises: DamageError: when some bytes are no packed array.
    """
    decompressor = zstandard.ZstdDecompressor()
    gaps: list[NDArray[Any]] = [np.empty(0, np.int64)]
    shares: list[NDArray[Any]] = [np.empty(0)]
    for data in packed:
        try:
            raw = decompressor.decompress(data)
            width = raw[0]
            num = (len(raw) - 1) // (width + 2)
            gaps.append(np.frombuffer(raw, f"<u{width}", num, offset=1))
            shares.append(np.frombuffer(raw, "<f2", num, offset=1 + width * num))
        except (zstandard.ZstdError, IndexError, TypeError, ValueError) as error:
            raise DamageError(
                f"the record of use is damaged ({error}); restore the registry from a copy"
            ) from None
    lengths = np.array([len(some) for some in gaps[1:]], dtype=np.int64)
    sums = np.concatenate(gaps, dtype=np.int64).cumsum()
    ends = lengths.cumsum()
    before = np.concatenate([np.zeros(1, np.int64), sums])[ends - lengths]
    return sums - np.repeat(before, lengths), np.concatenate(shares, dtype=np.float64), lengths
