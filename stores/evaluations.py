"""Reports of evaluations along the line of snapshots that led to one."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from stores.queries import Evaluation
from stores.schema import EvaluationRow
from stores.snapshots import line_to, read_snapshots


def read_evaluations(session: Session, snapshot_id: int) -> tuple[Evaluation, ...]:
    """Return every report of a snapshot and of those before it, the oldest snapshot's first."""
    line = line_to(snapshot_id)
    rows = session.execute(
        select(EvaluationRow.snapshot_id, EvaluationRow.created_at, EvaluationRow.report)
        .where(EvaluationRow.snapshot_id.in_(select(line.c.id)))
        .order_by(EvaluationRow.snapshot_id)
    ).all()
    found = read_snapshots(session, [row.snapshot_id for row in rows])
    return tuple(
        Evaluation(snapshot, row.created_at, row.report)
        for snapshot, row in zip(found, rows, strict=True)
    )


def read_evaluated_at(session: Session, snapshot_id: int) -> str | None:
    """Return when a snapshot, or one before it, was evaluated last; None: never."""
    line = line_to(snapshot_id)
    newest: str | None = session.scalar(
        select(func.max(EvaluationRow.created_at)).where(
            EvaluationRow.snapshot_id.in_(select(line.c.id))
        )
    )
    return newest
