"""What a page does to a store, and how it is taken back. Nothing here knows of Streamlit.

Each act takes a store to act on (`with acting(seen) as store`, which compares with what the person
saw) and returns what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.output import size
from peer_cl.errors import ChangedError, InputError
from pipelines.documents import several
from pipelines.jobs import start_erasure
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from pipelines.erasure import MaskedErasure
    from pipelines.progress import Progress
    from pipelines.store import Store
    from stores import Snapshot

TYPED_DIGITS = 6
"""Of a document's id are typed before it is erased."""


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


def restore(
    store: Store,
    snapshot_id: int,
    why: str,
    *,
    without_purged: bool = False,
    with_erased: bool = False,
) -> Done:
    """Make the store as it was at a snapshot.

    Args:
        store: to act on.
        snapshot_id: which snapshot.
        why: in the person's words.
        without_purged: leave out the domains whose bytes are gone, instead of refusing.
        with_erased: bring back what was erased exactly since, instead of refusing.
    """
    before = store.registry.live()
    after = store.restore(snapshot_id, why, without_purged=without_purged, with_erased=with_erased)
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


def shown_digits(document_id: str) -> str:
    """Return the digits of a document's id that are typed to have it erased."""
    return document_id[:TYPED_DIGITS]


def is_typed(document_id: str, typed: str) -> bool:
    """Return whether what was typed means a document: its first digits, or more of them."""
    word = typed.strip().lower()
    return len(word) >= TYPED_DIGITS and document_id.startswith(word)


def erase(
    store: Store,
    domain: str,
    document_id: str,
    typed: str,
    why: str,
    *,
    progress: Progress,
) -> Done:
    """Erase a document from a domain: its rows are switched off.

    Args:
        store: to act on.
        domain: a live domain that holds the document.
        document_id: whole.
        typed: what the person typed to confirm it.
        why: in the person's words.
        progress: told how far it is.

    Raises:
        InputError: when the first digits of the id were not typed.
        StateError, FrozenError: when it cannot be erased from the domain now.
    """
    check_typed(document_id, typed)
    get_ready()
    before = store.registry.live()
    said = _told_masked(store.erase_masked(domain, [document_id], progress, why=why))
    return _done(said, before, store.registry.live())


def start_erasing(
    store: Store, domain: str, document_id: str, typed: str, why: str, *, evaluate: bool
) -> Done:
    """Have a document erased exactly, by a job.

    Args:
        store: to act on.
        domain: a live domain that holds the document.
        document_id: whole.
        typed: what the person typed to confirm it.
        why: in the person's words.
        evaluate: measure afterwards.

    Raises:
        InputError: when the first digits of the id were not typed.
        StateError, FrozenError: when it cannot be erased from the domain now.
    """
    check_typed(document_id, typed)
    job = start_erasure(store, domain, [document_id], why=why, evaluate=evaluate)
    live = store.registry.live()
    said = f"Job {job.id[:12]} trains {domain} again without document {shown_digits(document_id)}."
    return Done(said, live.id, live.id, can_undo=False)


def check_typed(document_id: str, typed: str) -> None:
    """Refuse an erasure that was not confirmed.

    Raises: InputError: when the first digits of the id were not typed.
    """
    if not is_typed(document_id, typed):
        digits = shown_digits(document_id)
        raise InputError(f"to erase document {digits}, type {digits}; nothing was done")


def _told_masked(report: MaskedErasure) -> str:
    said = f"{report.domain} is at {report.label}: {several(report.num_rows, 'row')} are off."
    effect = report.effect
    if effect is None:
        return f"{said} What that did was not measured, since this store keeps no texts."
    for one in effect.documents:
        if one.removed is not None:
            said += f" Of what the pool had gained on the document, {one.removed:.0%} is gone."
    if effect.others_change_nats is not None:
        others = several(effect.num_others, "other document")
        said += f" {others}: {effect.others_change_nats:+.4f} nats a token."
    return said


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
    # What the person had before that very act is no surprise, whatever was erased earlier.
    after = store.restore(done.before, f"undo of snapshot {done.after}", with_erased=True)
    return _done("Taken back.", before, after)


def _done(said: str, before: Snapshot, after: Snapshot) -> Done:
    return Done(f"{said} Snapshot {after.id} is live.", before.id, after.id)
