"""Per-token scores and evaluation reports.

Scores of (subject, document) never change: the first ones written stay. Every matrix is derived
from them, so no model runs twice over the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from peer_cl.errors import StateError
from stores.batches import batches
from stores.clock import utc_now
from stores.records import NewScore, check_json
from stores.schema import EvaluationRow, ScoreRow, SegmentRow
from stores.snapshots import read_snapshot


def put_scores(session: Session, scores: Sequence[NewScore]) -> None:
    """Write scores; those that are there already are left as they are.

    Raises: StateError: when a subject's segment was purged.
    """
    subjects = {score.subject for score in scores}
    purged = session.scalars(
        select(SegmentRow.id).where(SegmentRow.id.in_(subjects), SegmentRow.purged_at.is_not(None))
    ).all()
    if purged:
        raise StateError(f"segment {purged[0]} was purged and takes no more scores")
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
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
        for score in scores
    ]
    if rows:
        session.execute(insert(ScoreRow).on_conflict_do_nothing(), rows)


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


def put_evaluation(session: Session, snapshot_id: int, report: dict[str, Any]) -> None:
    """Write the report of a snapshot's evaluation; a later one replaces it."""
    check_json("the evaluation's report", report)
    read_snapshot(session, snapshot_id)
    row = session.get(EvaluationRow, snapshot_id)
    if row is None:
        row = EvaluationRow(snapshot_id=snapshot_id)
        session.add(row)
    row.report, row.created_at = report, utc_now()


def read_evaluation(session: Session, snapshot_id: int) -> dict[str, Any] | None:
    """Return the last report of a snapshot's evaluation, or None."""
    read_snapshot(session, snapshot_id)
    row = session.get(EvaluationRow, snapshot_id)
    return None if row is None else row.report
