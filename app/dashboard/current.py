"""Which of the stored evaluations tells of the live snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stores import Snapshot
    from stores.queries import Evaluation


def current(evaluated: Iterable[Snapshot], live: Snapshot) -> Snapshot:
    """Return the newest evaluated snapshot that has the live one's versions on, or else the newest.

    Where something was taken out, measured and brought back, it is not the newest that holds.

    Args:
        evaluated: snapshots of which an evaluation is stored, in any order; at least one.
        live: the live snapshot.
    """
    return max(evaluated, key=lambda one: (one.index_tag == live.index_tag, one.id))


def up_to_current(evaluations: Sequence[Evaluation], live: Snapshot) -> Sequence[Evaluation]:
    """Return the evaluations up to the `current` one, which is then the last.

    Those that follow it are of versions that are not on any more.

    Args:
        evaluations: of the live snapshot and of those before it, the oldest first.
        live: the live snapshot.
    """
    if not evaluations:
        return evaluations
    last = current((one.snapshot for one in evaluations), live)
    return [one for one in evaluations if one.snapshot.id <= last.id]
