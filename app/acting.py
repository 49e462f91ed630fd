"""The verbs of a domain's life: freeze, unfreeze, disable, enable, rollback, bring-back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from app.output import print_json, say
from app.reading import DomainArgument
from app.request import Request, verb
from peer_cl.errors import InputError

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores import Snapshot


@verb("json", "who", "why")
def freeze(request: Request, domain: DomainArgument) -> None:
    """Let a domain learn nothing more."""
    with request.store() as store:
        _tell(request, store, store.freeze(domain, request.why), f"{domain} is frozen")


@verb("json", "who", "why")
def unfreeze(request: Request, domain: DomainArgument) -> None:
    """Let a frozen domain learn again."""
    with request.store() as store:
        _tell(request, store, store.unfreeze(domain, request.why), f"{domain} is no longer frozen")


@verb("json", "who", "why")
def disable(request: Request, domain: DomainArgument) -> None:
    """Never ask a domain until it is enabled again."""
    with request.store() as store:
        _tell(request, store, store.disable(domain, request.why), f"{domain} is disabled")


@verb("json", "who", "why")
def enable(request: Request, domain: DomainArgument) -> None:
    """Let a disabled domain be asked again."""
    with request.store() as store:
        _tell(request, store, store.enable(domain, request.why), f"{domain} is enabled")


@verb("json", "who", "why")
def rollback(
    request: Request,
    domain: Annotated[
        str | None,
        typer.Argument(
            metavar="DOMAIN",
            help="The domain to take back; without it, the whole store.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="With DOMAIN: an earlier version (v1, or its id), by default the one before; "
            "without: a snapshot's number.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        bool, typer.Option("--out", help="With DOMAIN: to before it came, out of the store.")
    ] = False,
    without_purged: Annotated[
        bool,
        typer.Option(
            "--without-purged",
            help="Without DOMAIN: leave out domains that the snapshot held and that were purged.",
        ),
    ] = False,
    with_erased: Annotated[
        bool,
        typer.Option(
            "--with-erased",
            help="Go back also where that brings back documents that were erased with --exact.",
        ),
    ] = False,
) -> None:
    """Take a domain back to an earlier version, or the store to an earlier snapshot.

    Nothing is deleted: every rollback is a new snapshot, and can be taken back itself.
    """
    if out and (domain is None or to is not None):
        raise InputError("--out takes one domain out: `peer-cl rollback DOMAIN --out`")
    if out and with_erased:
        raise InputError("--out brings nothing back: leave out --with-erased")
    if without_purged and domain is not None:
        raise InputError(
            "--without-purged is for a whole snapshot: `peer-cl rollback --to SNAPSHOT`"
        )
    if to is not None and not to.strip():
        raise InputError(
            "--to is empty; it takes a version (v1, or its id), or a snapshot's number"
        )
    with request.store() as store:
        if domain is not None:
            after = store.roll_back(domain, to, request.why, out=out, with_erased=with_erased)
        else:
            number = _snapshot_number(to)
            how = {"without_purged": without_purged, "with_erased": with_erased}
            after = store.restore(number, request.why, **how)
        _tell(request, store, after)


@verb("json", "who", "why")
def bring_back(request: Request, domain: DomainArgument) -> None:
    """Put a domain that was taken out back, as it last was; others stay as they are."""
    with request.store() as store:
        _tell(request, store, store.bring_back(domain, request.why))


def _tell(request: Request, store: Store, after: Snapshot, done: str | None = None) -> None:
    """Say what an act did.

    Args:
        request: of the verb.
        store: in which it was done.
        after: the snapshot that the act made.
        done: what it did; default: what differs from before, and how to undo it.
    """
    if done is not None and not request.as_json:
        say(f"{done}; snapshot {after.id}")
        return
    from stores.changes import changes

    # Its parent is what the act changed, whoever wrote meanwhile.
    before = store.registry.snapshot(after.parent_id or after.id)
    found = changes(before, after)
    if request.as_json:
        told = [{**dataclasses.asdict(change), "words": change.words} for change in found]
        snapshots = {"snapshot_before": before.id, "snapshot_after": after.id}
        print_json({**snapshots, "changes": told})
        return
    for change in found:
        for words in change.words:
            say(f"{change.domain}: {words}")
    say(f"snapshot {after.id}; undo with `peer-cl rollback --to {before.id}`")


def _snapshot_number(text: str | None) -> int:
    if text is None:
        raise InputError(
            "say what to take back: `peer-cl rollback DOMAIN [--to VERSION]`, or "
            "`peer-cl rollback --to SNAPSHOT` (numbers are in `peer-cl history`)"
        )
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InputError(
            f"a snapshot is a number (see `peer-cl history`), not {text[:40]!r}; to take one "
            "domain back, name it: `peer-cl rollback DOMAIN --to VERSION`"
        )
    return int(text)
