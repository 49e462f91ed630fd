"""Acts as people say them: the store writes "rollback" for four things that pages name apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.documents import several

if TYPE_CHECKING:
    from stores import Event, Registry, Snapshot

ROLLBACK = "rollback"


def act_in_words(
    event: Event, snapshots: Mapping[int, Snapshot], masks: Mapping[str, Mask]
) -> tuple[str, str]:
    """Return what was done, in the words of the buttons that do it, and at which version.

    Args:
        event: which act.
        snapshots: every snapshot, by its number.
        masks: versions that masked older ones (see `read_masks`): they tell erasures apart.

    Returns: such as ("take out", "v2"): the version that went or came. Without one it is "".
    """
    label = event.label or ""
    after = snapshots.get(event.snapshot_id)
    if event.action == "erase" and after is not None:
        return _erased(event, snapshots.get(after.parent_id or 0), masks), label
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


def _erased(event: Event, before: Snapshot | None, masks: Mapping[str, Mask]) -> str:
    """Say how an erasure was done; one that trained again may end in a mask, on a new version."""
    was = before.state(event.domain) if before and event.domain else None
    mask = masks.get(event.version or "")
    if mask is None or was is None or mask.on != was.version:
        return "erase exactly"
    return f"mask {several(mask.num, 'document')}" if mask.num else "mask"


@dataclass(frozen=True)
class Mask:
    """A version in which older rows are off."""

    on: str | None
    """The version before."""
    num: int
    """Documents that it is for; 0: not known any more."""


def read_masks(registry: Registry, events: Iterable[Event]) -> dict[str, Mask]:
    """Return the masks of the domains that were erased from, by version."""
    found = {}
    for name in {event.domain for event in events if event.action == "erase" and event.domain}:
        detail = registry.domain(name)
        nums = {run.segment_id: len(run.config.get("erases", ())) for run in detail.runs}
        for one in detail.versions:
            if one.kind == "mask":
                found[one.id] = Mask(one.parent_id, nums.get(one.id, 0))
    return found


def _restored(after: Snapshot, snapshots: Mapping[int, Snapshot]) -> str:
    """Say which snapshot was restored: the newest with the same content, which is as good."""
    alike = [
        number
        for number, snapshot in snapshots.items()
        if number < after.id and snapshot.domains == after.domains
    ]
    # Without a purged domain, what was restored is like no snapshot of before.
    return f"restore snapshot {max(alike)}" if alike else "restore a snapshot without the purged"
