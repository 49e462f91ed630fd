"""What a page does to a store, and how it is taken back. Nothing here knows of Streamlit.

Each act takes a store to act on (`with acting(seen) as store`, which compares with what the person
saw) and returns what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.output import size
from peer_cl.errors import ChangedError, InputError

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores import Snapshot


@dataclass(frozen=True)
class Done:
    """What an act did."""

    said: str
    """In a sentence, for the person who did it."""
    before: int
    """The snapshot that was live before: restoring it takes the act back."""
    after: int
    """The snapshot that is live since."""
    can_undo: bool = True


SWITCHED = {
    "freeze": "is frozen: it learns nothing more",
    "unfreeze": "may learn again",
    "disable": "is disabled: it is not asked any more",
    "enable": "is asked again",
}
"""What is said after each act that a domain's state alone depends on."""


def switch(store: Store, action: str, domain: str, why: str) -> Done:
    """Freeze, unfreeze, disable or enable a domain."""
    acts = {
        "freeze": store.freeze,
        "unfreeze": store.unfreeze,
        "disable": store.disable,
        "enable": store.enable,
    }
    before = store.registry.live()
    after = acts[action](domain, why)
    return _done(f"{domain} {SWITCHED[action]}.", before, after)


def roll_back(store: Store, domain: str, version: str | None, why: str) -> Done:
    """Take a domain back to an earlier version (a full id), or (None) out of the store."""
    before = store.registry.live()
    after = store.roll_back(domain, version, why, out=version is None)
    now, was = after.state(domain), before.state(domain)
    label = was.label if was else "?"
    said = (
        f"{domain} went from {label} to {now.label}." if now else f"{domain} is out of the store."
    )
    return _done(said, before, after)


def bring_back(store: Store, domain: str, why: str) -> Done:
    """Put a domain that is out of the store back, as it last was in it."""
    before = store.registry.live()
    after = store.bring_back(domain, why)
    state = after.state(domain)
    return _done(f"{domain} is back, at {state.label if state else '?'}.", before, after)


def restore(store: Store, snapshot_id: int, why: str, *, without_purged: bool = False) -> Done:
    """Make the store as it was at a snapshot.

    Args:
        store: to act on.
        snapshot_id: which snapshot.
        why: in the person's words.
        without_purged: leave out the domains whose bytes are gone, instead of refusing.
    """
    before = store.registry.live()
    with store.registry.writing(store.who):
        after = store.registry.roll_back(snapshot_id, store.who, why, without_purged=without_purged)
    return _done(f"The store is as it was at snapshot {snapshot_id}.", before, after)


def purge(store: Store, domain: str, typed: str, why: str, *, retired: bool = False) -> Done:
    """Delete the bytes of a domain that is not live, or (retired) what no live version holds.

    Raises: InputError: when the typed name is not the domain's.
    """
    if typed.strip() != domain:
        raise InputError(f"to purge {domain}, type its name: {domain}; nothing was done")
    before = store.registry.live()
    result = store.purge(domain, why, retired=retired)
    said = (
        f"{domain}: {result.num_segments} versions and {result.num_documents:,} documents are "
        f"gone, {size(result.size_bytes)} in all; they were looked for and not found."
    )
    return Done(said, before.id, store.registry.live().id, can_undo=False)


def undo(store: Store, done: Done) -> Done:
    """Take an act back, if nothing was done since.

    Raises: ChangedError: when another snapshot is live than the act left.
    """
    before = store.registry.live()
    if before.id != done.after:
        raise ChangedError(
            f"the store changed meanwhile: snapshot {before.id} is live, not {done.after}; the "
            f"page History can restore snapshot {done.before}"
        )
    after = store.restore(done.before, f"undo of snapshot {done.after}")
    return _done("Taken back.", before, after)


def _done(said: str, before: Snapshot, after: Snapshot) -> Done:
    return Done(f"{said} Snapshot {after.id} is live.", before.id, after.id)
