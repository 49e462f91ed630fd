"""Which rows hold which documents: written once at ingest, read from either side.

One SQL row a (document, host layer) and one a row that fired, each with a packed array; never one
a hit. Documents stand in the arrays by their position within the segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from stores.batches import batches
from stores.packing import pack, unpack, unpack_all
from stores.queries import DocumentUse, ExpertUse, HeldBy, HeldDocument, Ranking
from stores.records import NewSegment, NewUse
from stores.schema import DocumentUseRow, ExpertUseRow, SegmentDocumentRow

_INSERT_SIZE = 2_000


@dataclass(frozen=True)
class PackedUses:
    """The uses of a new segment as SQL rows, from both sides."""

    documents: list[dict[str, Any]]
    experts: list[dict[str, Any]]
    norms: list[dict[str, Any]]
    """What its documents' own rows get besides."""


def pack_uses(segment: NewSegment) -> PackedUses:
    """Return the uses of a new segment, packed.

    That takes seconds for a thousand documents: nobody else can write while a transaction is open,
    so it is done before.
    """
    segment_id, uses = segment.segment_id, segment.uses
    document_ids = [document.document_id for document in segment.documents]
    learned = {int(position) for use in uses for position in np.unique(use.documents)}
    squares = np.zeros(len(document_ids))
    return PackedUses(
        documents=[row for use in uses for row in _document_rows(segment_id, document_ids, use)],
        experts=[
            row for use in uses for row in _expert_rows(segment_id, use, len(learned), squares)
        ],
        norms=[  # of squares that the experts' rows have added up
            {"segment_id": segment_id, "document_id": document_ids[place], "use_norm": norm}
            for place in sorted(learned)
            for norm in [float(np.sqrt(squares[place]))]
        ],
    )


def write_uses(session: Session, packed: PackedUses) -> None:
    """Write the uses of a new segment, whose own rows are there."""
    for statement, rows in (
        (insert(DocumentUseRow), packed.documents),
        (insert(ExpertUseRow), packed.experts),
        (update(SegmentDocumentRow), packed.norms),
    ):
        for some in batches(rows, _INSERT_SIZE):
            session.execute(statement, some)


def _document_rows(
    segment_id: str, document_ids: Sequence[str], use: NewUse
) -> Iterator[dict[str, Any]]:
    for position, rows, weights in _groups(use.documents, use.rows, use.weights):
        total = float(weights.sum())
        yield {
            "segment_id": segment_id,
            "document_id": document_ids[position],
            "host_layer": use.host_layer,
            "weight": total,
            "num_rows": len(rows),
            "rows": pack(rows, weights / total),
        }


def _expert_rows(
    segment_id: str, use: NewUse, num_learned: int, squares: NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    """Yield the rows' side; add to `squares`, by position, what makes the documents' norms."""
    for row, positions, weights in _groups(use.rows, use.documents, use.weights):
        total = float(weights.sum())
        shares = weights / total
        effective = effective_number(shares)
        squares[positions] += (weights * rarity(num_learned, effective)) ** 2
        yield {
            "segment_id": segment_id,
            "host_layer": use.host_layer,
            "row": row,
            "weight": total,
            "num_documents": len(positions),
            "effective_documents": effective,
            "documents": pack(positions, shares),
        }


def rarity(num_learned: int, effective_documents: float) -> float:
    """Return how much it says that a document uses a row, in nats: 0 where all use it alike.

    Where one document was learned alone, every row is its own, and each says as much: 1.

    Example:
        >>> rarity(100, 100.0), round(rarity(100, 10.0), 4), rarity(1, 1.0)
        (0.0, 2.3026, 1.0)
    """
    if num_learned == 1:
        return 1.0
    return math.log(max(1.0, num_learned / max(1.0, effective_documents)))


def effective_number(shares: NDArray[np.float64]) -> float:
    """Return exp of the entropy of shares that add up to one: how many it is as good as.

    Example:
        >>> round(effective_number(np.array([0.5, 0.5])), 6)
        2.0
        >>> round(effective_number(np.array([1.0, 0.0])), 6)
        1.0
    """
    some = shares[shares > 0]
    return float(np.exp(-(some * np.log(some)).sum()))


def _groups(
    keys: NDArray[np.int64], others: NDArray[np.int64], weights: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Yield each key with its others, ascending, and their weights; nothing where no row fired."""
    if not len(keys):
        return
    order = np.lexsort((others, keys))
    keys, others, weights = keys[order], others[order], weights[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = [*starts[1:].tolist(), len(keys)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        yield int(keys[start]), others[start:end], weights[start:end]


def document_uses_query(document_id: str, segment_ids: Sequence[str]) -> Any:
    """Return the statement that finds a document's rows: by the primary key."""
    return (
        select(DocumentUseRow)
        .where(
            DocumentUseRow.segment_id.in_(segment_ids), DocumentUseRow.document_id == document_id
        )
        .order_by(DocumentUseRow.segment_id, DocumentUseRow.host_layer)
    )


def read_document_uses(
    session: Session, document_id: str, segment_ids: Sequence[str]
) -> tuple[DocumentUse, ...]:
    """Return the rows that a document uses in some segments, one entry a host layer."""
    found = []
    for use in session.scalars(document_uses_query(document_id, segment_ids)):
        rows, shares = unpack(use.rows)
        found.append(
            DocumentUse(
                segment_id=use.segment_id,
                host_layer=use.host_layer,
                rows=rows,
                weights=shares * use.weight,
            )
        )
    return tuple(found)


def expert_uses_query(segment_id: str, host_layer: int, rows: Sequence[int]) -> Any:
    """Return the statement that finds the documents of some rows: by the primary key."""
    return (
        select(ExpertUseRow)
        .where(
            ExpertUseRow.segment_id == segment_id,
            ExpertUseRow.host_layer == host_layer,
            ExpertUseRow.row.in_(rows),
        )
        .order_by(ExpertUseRow.row)
    )


def read_held_by(
    session: Session, segment_id: str, rows: Mapping[int, Sequence[int]]
) -> tuple[HeldBy, ...]:
    """Return which documents some rows of a segment hold, in the order of layer and row.

    Args:
        session: a reading session.
        segment_id: the segment's.
        rows: row numbers, by host layer; rows that never fired are left out.
    """
    found = [
        (use, *unpack(use.documents))
        for host_layer, wanted in sorted(rows.items())
        for some in batches(sorted(set(wanted)))
        for use in session.scalars(expert_uses_query(segment_id, host_layer, some))
    ]
    positions = {int(position) for _, held, _ in found for position in held}
    documents = _read_positions(session, segment_id, sorted(positions))
    return tuple(
        HeldBy(
            use=_to_use(use),
            documents=tuple(documents[int(held[place])] for place in order),
            shares=tuple(float(shares[place]) for place in order),
        )
        for use, held, shares in found
        for order in [np.argsort(-shares, kind="stable")]
    )


def _read_arrays(
    session: Session, segment_id: str, host_layer: int, rows: Iterable[int]
) -> Iterator[tuple[int, float, float, bytes]]:
    """Yield row, weight, effective documents and packed documents: columns, no objects made."""
    for some in batches(sorted(rows)):
        query = expert_uses_query(segment_id, host_layer, some).with_only_columns(
            ExpertUseRow.row,
            ExpertUseRow.weight,
            ExpertUseRow.effective_documents,
            ExpertUseRow.documents,
        )
        for found in session.execute(query):
            yield found[0], found[1], found[2], found[3]


def held_documents_query(segment_id: str, positions: Sequence[int]) -> Any:
    """Return the statement that turns positions into documents: by an index."""
    return select(
        SegmentDocumentRow.position,
        SegmentDocumentRow.document_id,
        SegmentDocumentRow.title,
        SegmentDocumentRow.source,
        SegmentDocumentRow.kind,
    ).where(SegmentDocumentRow.segment_id == segment_id, SegmentDocumentRow.position.in_(positions))


def _read_positions(
    session: Session, segment_id: str, positions: Sequence[int]
) -> dict[int, HeldDocument]:
    """Return the documents at some positions of a segment."""
    found: dict[int, HeldDocument] = {}
    for some in batches(positions):
        for position, *about in session.execute(held_documents_query(segment_id, some)):
            found[position] = HeldDocument(*about)
    return found


def count_learned(session: Session, segment_id: str) -> int:
    """Return of how many documents the use of a segment's rows was recorded."""
    query = select(func.count()).where(
        SegmentDocumentRow.segment_id == segment_id, SegmentDocumentRow.use_norm.is_not(None)
    )
    return int(session.scalar(query) or 0)


def _read_norms(session: Session, segment_id: str) -> list[tuple[int, float]]:
    """Return the positions of a segment's learned documents with their norms, above 0."""
    query = select(SegmentDocumentRow.position, SegmentDocumentRow.use_norm).where(
        SegmentDocumentRow.segment_id == segment_id, SegmentDocumentRow.use_norm.is_not(None)
    )
    found = [(position, norm or 0.0) for position, norm in session.execute(query)]
    if len(found) == 1:  # stores of before kept 0: each row's rarity was 0 there
        squares = select(func.sum(ExpertUseRow.weight * ExpertUseRow.weight)).where(
            ExpertUseRow.segment_id == segment_id
        )
        found = [(found[0][0], math.sqrt(session.scalar(squares) or 0.0))]
    return [one for one in found if one[1] > 0]


def rank_documents(
    session: Session,
    segment_id: str,
    asked: Mapping[int, Mapping[int, float]],
    num: int,
) -> Ranking:
    """Return the documents of a segment whose rows a text asks, the most alike first.

    Documents and the text are vectors over the segment's rows: router weight times the row's
    rarity; the score is the cosine of the angle between them, 0 to 1 (tf-idf, rows for words).

    Args:
        session: a reading session.
        segment_id: the segment's.
        asked: by host layer and row, the router's weight summed over the text.
        num: how many documents.
    """
    measured = _read_norms(session, segment_id)
    found = [
        (weights[row], weight, effective, packed)
        for host_layer, weights in sorted(asked.items())
        for row, weight, effective, packed in _read_arrays(session, segment_id, host_layer, weights)
    ]
    if not measured or not found:
        return Ranking((), np.zeros(len(measured)))
    places, norms = (np.array(column) for column in zip(*measured, strict=True))
    wanted, totals = (np.array([one[n] for one in found]) for n in range(2))
    rare = np.array([rarity(len(places), effective) for _, _, effective, _ in found])
    positions, shares, lengths = unpack_all([packed for *_, packed in found])
    products = np.bincount(
        positions,
        weights=np.repeat(wanted * rare**2 * totals, lengths) * shares,
        minlength=int(places.max()) + 1,
    )
    length = float(np.sqrt(((wanted * rare) ** 2).sum()))
    if not length:
        return Ranking((), np.zeros(len(measured)))
    scores = products[places] / (norms * length)
    best = np.lexsort((places, -scores))[:num]
    documents = _read_positions(session, segment_id, places[best].tolist())
    ranked = [(documents[int(places[one])], float(scores[one])) for one in best if scores[one] > 0]
    return Ranking(tuple(ranked), scores)


def read_expert_uses(session: Session, segment_ids: Sequence[str]) -> tuple[ExpertUse, ...]:
    """Return the use of every row of some segments that fired; the packed arrays are not read."""
    query = (
        select(
            ExpertUseRow.segment_id,
            ExpertUseRow.host_layer,
            ExpertUseRow.row,
            ExpertUseRow.weight,
            ExpertUseRow.num_documents,
            ExpertUseRow.effective_documents,
        )
        .where(ExpertUseRow.segment_id.in_(segment_ids))
        .order_by(ExpertUseRow.segment_id, ExpertUseRow.host_layer, ExpertUseRow.row)
    )
    return tuple(ExpertUse(*row) for row in session.execute(query))


def _to_use(row: ExpertUseRow) -> ExpertUse:
    return ExpertUse(
        row.segment_id,
        row.host_layer,
        row.row,
        row.weight,
        row.num_documents,
        row.effective_documents,
    )
