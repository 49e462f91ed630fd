"""Per-token scores and evaluation reports.

Scores of (subject, document) never change: the first ones written stay. Every matrix is derived
from them, so no model runs twice over the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from peer_cl.errors import DamageError, StateError
from stores.batches import batches
from stores.chains import read_chains
from stores.clock import utc_now
from stores.queries import EvaluatedSnapshot, HeldOutScores
from stores.records import BASE_SUBJECT, TRAIN, NewScore, check_json
from stores.schema import (
    DocumentRow,
    EvaluationRow,
    ScoreRow,
    SegmentDocumentRow,
    SegmentRow,
    SnapshotDomainRow,
)
from stores.snapshots import read_snapshot


def put_scores(session: Session, scores: Sequence[NewScore]) -> None:
    """Write scores; those that are there already are left as they are.

    Raises: StateError: when a subject's segment, or a scored document, was purged.
    """
    # A purge locks in this order too, where a server holds the registry.
    scored = {score.document_id for score in scores if score.document_id is not None}
    _check_documents(session, scored)
    _check_unpurged(session, SegmentRow.id.in_({score.subject for score in scores}))
    now = utc_now()
    rows = [
        {
            "subject": score.subject,
            "document_key": score.document_key,
            "document_id": score.document_id,
            "values": score.values,
            "num_tokens": score.num_tokens,
            "created_at": now,
        }
        # In one order, or two evaluations that end together wait for each other on a server.
        for score in sorted(scores, key=lambda score: (score.subject, score.document_key))
    ]
    if rows:
        session.execute(_insert(session)(ScoreRow).on_conflict_do_nothing(), rows)


def _insert(session: Session) -> Any:
    """Return the dialect's own insert, which can say what happens where a row is there."""
    is_server = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert if is_server else sqlite.insert


def _check_documents(session: Session, document_ids: set[str]) -> None:
    """Refuse what was found out about documents that are gone, and keep the others meanwhile."""
    for some in batches(document_ids):
        query = select(DocumentRow.id).where(DocumentRow.id.in_(some)).with_for_update(read=True)
        gone = sorted(set(some) - set(session.scalars(query)))
        if gone:
            raise StateError(_changed(f"{len(gone)} of the documents"))


def _check_unpurged(session: Session, where: ColumnElement[bool]) -> None:
    """Refuse what was found out about segments that are purged, and keep the others meanwhile."""
    query = select(SegmentRow.id, SegmentRow.purged_at).where(where).with_for_update(read=True)
    for segment_id, purged_at in session.execute(query):
        if purged_at is not None:
            raise StateError(_changed(f"segment {segment_id}"))


def _changed(what: str) -> str:
    """Return a message without a document's id: it is kept as a job's error, after the purge."""
    return f"the store changed meanwhile: {what} was purged; run `peer-cl evaluate` again"


def read_scores(session: Session, subject: str, keys: Sequence[str]) -> dict[str, bytes]:
    """Return the scores that are known, by document key."""
    found: dict[str, bytes] = {}
    for some in batches(keys):
        query = select(ScoreRow.document_key, ScoreRow.values).where(
            ScoreRow.subject == subject,
            ScoreRow.document_key.in_(some),
        )
        found |= {row[0]: row[1] for row in session.execute(query)}
    return found


def rename_scores(session: Session, renamed: Mapping[str, Mapping[str, str]]) -> int:
    """Give documents' scores, of every subject, other keys; return how many keys were found.

    Where a subject has a score by the new key already, the older one stays where it is.

    Args:
        session: a writing session.
        renamed: by document, the new key by the old one; rows of other documents, or of none, by
            the same key stay theirs.
    """
    row, other = ScoreRow, aliased(ScoreRow)
    found: set[tuple[str, str]] = set()
    for some in batches(renamed):
        query = select(row.document_id, row.document_key).where(row.document_id.in_(some))
        pairs = session.execute(query.distinct()).all()
        found |= {(owner, key) for owner, key in pairs if owner and key in renamed[owner]}
    for owner, key in sorted(found):  # in one order, as they are written
        new = renamed[owner][key]
        taken = exists().where(other.subject == row.subject, other.document_key == new)
        mine = update(row).where(row.document_id == owner, row.document_key == key, ~taken)
        session.execute(
            mine.values(document_key=new), execution_options={"synchronize_session": False}
        )
    return len(found)


def held_out_query(version: str, segment_ids: Sequence[str]) -> Any:
    """Return the statement that joins held-out documents with both their scores, by indexes.

    The base and a version share a key for the same tokens; what a version scored besides, the base
    did not.
    """
    base, own = aliased(ScoreRow), aliased(ScoreRow)
    document = SegmentDocumentRow
    return (
        select(
            document.document_id,
            document.title,
            document.source,
            base.document_key,
            base.values,
            own.values,
        )
        .join(
            base,
            and_(base.document_id == document.document_id, base.subject == BASE_SUBJECT),
        )
        .join(own, and_(own.subject == version, own.document_key == base.document_key))
        .where(
            document.segment_id.in_(segment_ids),
            document.split == "test",
            document.kind == "text",
        )
        .order_by(document.segment_id, document.position, base.created_at)
    )


def read_held_out_scores(
    session: Session, version: str, asked: Sequence[str] | None = None, live: Sequence[str] = ()
) -> tuple[HeldOutScores, ...]:
    """Return the scores of a version's held-out documents, those that are stored.

    Args:
        session: of the registry.
        version: whose documents.
        asked: versions whose scores of these documents are wanted too; None: of no others.
        live: versions beside it. What they learned, or it did since, is no unseen text and is left
            out, as an evaluation leaves it out.

    Raises:
        UnknownError: when there is no such version.
        DamageError: when stored scores are no numbers, or not of the same tokens.
    """
    chains = read_chains(session, [version, *live])
    segment_ids = [segment.id for segment in chains[version]]
    every = {segment.id for chain in chains.values() for segment in chain}
    # One whose special tokens counted once was scored anew since: the newest stands.
    newest = {row[0]: row for row in session.execute(held_out_query(version, segment_ids))}
    rows = list(newest.values())
    learned = _learned(session, {row[0] for row in rows}, every)
    found = [row for row in rows if row[0] not in learned]
    keys = [row[3] for row in found]
    by_version = [read_scores(session, subject, keys) for subject in asked or ()]
    return tuple(
        HeldOutScores(
            document_id,
            title,
            source,
            *_decode(document_id, base, own),
            None
            if asked is None
            else _decode_asked(document_id, base, [scores.get(key) for scores in by_version]),
        )
        for document_id, title, source, key, base, own in found
    )


def _learned(session: Session, document_ids: Iterable[str], segment_ids: Iterable[str]) -> set[str]:
    """Return those of some documents that any of some segments was trained on."""
    row = SegmentDocumentRow
    trained = select(row.document_id).where(row.split == TRAIN, row.segment_id.in_(segment_ids))
    return {
        document_id
        for some in batches(document_ids)
        for document_id in session.scalars(trained.where(row.document_id.in_(some)))
    }


def _decode(
    document_id: str, base: bytes, own: bytes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(base) != len(own) or len(base) % 8:
        raise DamageError(
            f"the scores of document {document_id} have {len(base)} and {len(own)} bytes; run "
            "`peer-cl doctor`"
        )
    return np.frombuffer(base, "<f8"), np.frombuffer(own, "<f8")


def _decode_asked(
    document_id: str, base: bytes, asked: Sequence[bytes | None]
) -> NDArray[np.float64] | None:
    known = [values for values in asked if values is not None]
    if not asked:  # nobody is asked: the mixture is the base
        return np.empty((0, len(base) // 8))
    if len(known) < len(asked):
        return None
    return np.stack([_decode(document_id, base, values)[1] for values in known])


def put_evaluation(session: Session, snapshot_id: int, report: dict[str, Any]) -> None:
    """Write the report of a snapshot's evaluation; a later one replaces it.

    Raises: StateError: when what the snapshot holds was purged: the report may quote its texts.
    """
    check_json("the evaluation's report", report)
    read_snapshot(session, snapshot_id)
    held = select(SnapshotDomainRow.segment_id).where(SnapshotDomainRow.snapshot_id == snapshot_id)
    _check_unpurged(session, SegmentRow.id.in_(held))
    new = {"report": report, "created_at": utc_now()}
    written = _insert(session)(EvaluationRow).values(snapshot_id=snapshot_id, **new)
    # No lease is held: on a server another evaluation of the snapshot may end at the same time.
    session.execute(written.on_conflict_do_update(index_elements=["snapshot_id"], set_=new))


def read_evaluation(session: Session, snapshot_id: int) -> dict[str, Any] | None:
    """Return the last report of a snapshot's evaluation, or None.

    Raises: DamageError: when it is no JSON any more.
    """
    read_snapshot(session, snapshot_id)
    try:
        row = session.get(EvaluationRow, snapshot_id)
    except json.JSONDecodeError as error:
        raise DamageError(
            f"the evaluation of snapshot {snapshot_id} cannot be read ({error}); run "
            "`peer-cl evaluate` again"
        ) from None
    return None if row is None else row.report


def read_evaluated(session: Session) -> tuple[EvaluatedSnapshot, ...]:
    """Return the snapshots that were evaluated, the newest first; no report is read."""
    query = select(EvaluationRow.snapshot_id, EvaluationRow.created_at)
    rows = session.execute(query.order_by(EvaluationRow.snapshot_id.desc()))
    return tuple(EvaluatedSnapshot(*row) for row in rows)
