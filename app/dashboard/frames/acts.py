"""Acts as people say them: the store writes "rollback" for four things that pages name apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stores import Event, Snapshot

ROLLBACK = "rollback"


def act_in_words(event: Event, snapshots: Mapping[int, Snapshot]) -> tuple[str, str]:
    """Return what was done, in the words of the buttons that do it, and at which version.

    Args:
        event: which act.
        snapshots: every snapshot, by its number.

    Returns: such as ("take out", "v2"): the version that went or came. Without one it is "".
    """
    label = event.label or ""
    after = snapshots.get(event.snapshot_id)
    if event.action != ROLLBACK or after is None:
        return event.action, label
    if event.domain is None:
        return _restored(after, snapshots), label
    before = snapshots.get(after.parent_id or 0)
    was, now = (before.state(event.domain) if before else None), after.state(event.domain)
    if now is None:
        return "take out", label or (was.label if was else "")
    if was is None:
        return "bring back", label or now.label
    return f"roll back to {now.label}", label or now.label


def _restored(after: Snapshot, snapshots: Mapping[int, Snapshot]) -> str:
    """Say which snapshot was restored: the newest with the same content, which is as good."""
    alike = [
        number
        for number, snapshot in snapshots.items()
        if number < after.id and snapshot.domains == after.domains
    ]
    # Without a purged domain, what was restored is like no snapshot of before.
    return f"restore snapshot {max(alike)}" if alike else "restore a snapshot without the purged"
