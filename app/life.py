"""The verbs of a domain's life: freeze, disable, roll back, remove, restore, erase, purge."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from app.options import Domain, Message, flag, opt
from app.output import say, say_some, show_progress, size
from app.verbs import Answer, acts
from peer_cl.errors import InputError, StateError, UnknownError, unknown_name
from pipelines.words import several

if TYPE_CHECKING:
    from pipelines.erase import Erasure
    from pipelines.store import Store
    from stores.queries import Document, Queries, Snapshot

WithErased = Annotated[bool, flag("--with-erased", "Also where that brings erased documents back.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]


def _verb(name: str, done: str, help_text: str) -> Callable[..., None]:
    """Return the verb that calls the store's method of the same name with a domain."""

    def answer(opened: Store, domain: Domain, message: Message = "") -> Answer:
        yield (after := getattr(opened, name)(domain, message))
        _say_done(f"{domain} {done}", after)

    answer.__name__, answer.__doc__ = name, help_text
    return acts(answer)


freeze = _verb("freeze", "is frozen", "Let a domain learn no more.")
unfreeze = _verb("unfreeze", "can learn again", "Let a frozen domain learn again.")
disable = _verb("disable", "is disabled", "Keep a domain inactive until it is enabled again.")
enable = _verb("enable", "is enabled", "Let a disabled domain be found again.")
remove = _verb("remove", "is removed", "Take a domain out of the store; `restore` puts it back.")


@acts
def restore(
    opened: Store, domain: Domain, with_erased: WithErased = False, message: Message = ""
) -> Answer:
    """Put a removed domain back as it was."""
    yield (after := opened.restore(domain, message, with_erased=with_erased))
    _say_done(f"{domain} is back", after)


def _say_done(done: str, after: Snapshot) -> None:
    """Print what an act did, and how to undo it."""
    say(f"{done}; snapshot {after.id} (undo: `peer-cl rollback --to {after.parent_id}`)")


@acts
def rollback(
    opened: Store,
    domain: Annotated[str | None, Argument(metavar="DOMAIN", help="Without it, the store.")] = None,
    to: Annotated[str | None, opt("VERSION", "Version or snapshot; default: one back.")] = None,
    without_purged: Annotated[
        bool, flag("--without-purged", "Leave out domains that were purged since.")
    ] = False,
    with_erased: WithErased = False,
    message: Message = "",
) -> Answer:
    """Roll back a domain to an earlier version, or the store to an earlier snapshot.

    Nothing is deleted: a rollback makes a new snapshot, and can itself be rolled back.
    """
    if domain is not None and without_purged:
        raise InputError("--without-purged is for a snapshot: `peer-cl rollback --to SNAPSHOT`")
    if domain is None and not (to or "").isdecimal():
        raise InputError(
            "say what to roll back: `peer-cl rollback DOMAIN [--to VERSION]`, or "
            "`peer-cl rollback --to SNAPSHOT`, a number in `peer-cl log`"
        )
    if domain is None:
        after = opened.roll_back_to(
            int(to or 0), message, without_purged=without_purged, with_erased=with_erased
        )
        done = f"the store is as in snapshot {to}"
    else:
        after = opened.roll_back(domain, to, message, with_erased=with_erased)
        label = next(one.label for one in after.domains if one.domain == domain)
        done = f"{domain} is at {label}"
    yield after
    _say_done(done, after)


@acts
def erase(
    opened: Store,
    documents: Annotated[
        list[str] | None, Argument(metavar="DOCUMENT", help="Ids, or their first six digits.")
    ] = None,
    source: Annotated[str | None, opt("SOURCE", "All of a file, or of a line of it.")] = None,
    search: Annotated[str | None, opt("WORDS", "All with these words, in any case.")] = None,
    domain: Annotated[str | None, opt("DOMAIN", "Only of this domain; default: all.")] = None,
    wait: Annotated[bool, flag("--wait", "Train shared experts anew now, not later.")] = False,
    yes: Yes = False,
    message: Message = "",
) -> Answer:
    """Erase documents: their domains become what they would be had they never been there.

    Their own experts go at once. Of a text, the shard of shared experts that it taught is switched
    off, and trained anew by the domain's next ingest, or with --wait: of all that waits, where no
    document is named. Lists what it would erase and asks. Earlier snapshots hold the documents
    until `purge DOMAIN --retired`; later ingests leave them out.
    """
    num_ways = bool(documents) + (source is not None) + (search is not None)
    if num_ways > 1 or (not num_ways and not wait):
        raise InputError("say which documents in one way: by id, with --source or with --search")
    queries = opened.registry.queries
    names = [domain] if domain else [state.domain for state in queries.live().domains]
    live = [d for name in names for d in queries.documents(name) if d.kind != "question"]
    found = _chosen(queries, live, documents or [], source, search) if num_ways else []
    ids = {name: [d.document_id for d in found if d.domain == name] for name in names}
    waiting = () if num_ways else queries.pending(names)
    ids = {name: own for name, own in ids.items() if own or name in waiting}
    if not yes and found:
        for one in found:
            say(f"{one.domain}: {_named(one)}", err=True)
        question = f"Erase {several(len(found), 'document')}"
        # A fact's own experts are left out; only a text was read together with others.
        if wait and (trained := sorted({one.domain for one in found if one.kind == "text"})):
            question += f" and train shards of {', '.join(trained)} again"
        typer.confirm(f"{question}?", abort=True, err=True)
    with show_progress() as progress:
        done = [
            opened.erase(name, own, message, wait=wait, progress=progress)
            for name, own in ids.items()
        ]
    yield done
    if not done:
        say("no shared experts wait to be trained anew")
    for erasure in done:
        _print_erasure(erasure, queries)


def _named(one: Document) -> str:
    """Return a document by its title, source and kind, the id behind."""
    return f"{one.title} ({one.source}), {one.kind} {one.document_id[:12]}"


def _chosen(
    queries: Queries, live: list[Document], ids: list[str], source: str | None, words: str | None
) -> list[Document]:
    """Return the live documents of a source, with some words, or with some ids."""
    if source is not None:
        found = [one for one in live if source in (one.source, one.source.rpartition(":")[0])]
        if not found:
            raise unknown_name("source", source, {one.source for one in live})
    elif words is not None:
        texts = [queries.document_text(one) if one.text_object else "" for one in live]
        pairs = zip(live, texts, strict=True)
        found = [d for d, text in pairs if words.casefold() in f"{d.title}\n{text}".casefold()]
        if not found:
            raise UnknownError(f"no live document has {words!r} in its title or text")
    else:
        whole = {queries.places(text)[0].document.document_id: text for text in ids}
        found = [one for one in live if one.document_id in whole]
        for missing in whole.keys() - {one.document_id for one in found}:
            text = whole[missing]
            raise StateError(f"no live version holds document {text}: `peer-cl document {text}`")
    return found


def _print_erasure(done: Erasure, queries: Queries) -> None:
    say(f"{done.domain} is at {done.label} in snapshot {done.snapshot_id}")
    if not done.document_ids:
        say("the shared experts that were pending are trained anew")
        return
    say(
        f"{several(len(done.document_ids), 'document')} gone in {done.seconds:.2f} s with all that "
        f"is their own; {several(done.num_kept, 'segment')} kept, {done.num_dropped} dropped"
    )
    if done.num_pending:
        say(
            f"shared experts pending: {several(done.num_pending, 'shard')} of {done.domain}; its "
            "next ingest trains what is pending, and so does `peer-cl erase --wait`"
        )
    if done.near_ids:
        stay = [one for one in queries.documents(done.domain) if one.document_id in done.near_ids]
        say_some([*map(_named, stay)], "stays and may say the same: ")


@acts
def purge(
    opened: Store,
    domain: Domain,
    retired: Annotated[bool, flag("--retired", "Only what no live version holds.")] = False,
    yes: Yes = False,
    message: Message = "",
) -> Answer:
    """Delete the bytes of a removed domain for ever, and check that they are gone.

    Texts, scores and reports go too. A purge of a whole domain also forgets what was erased from
    it.
    """
    labels = ", ".join(opened.registry.queries.purgeable(domain, retired=retired))
    if not yes:
        question = f"Delete {domain} ({labels or 'no version'}) for ever?"
        typer.confirm(question, abort=True, err=True)
    yield (result := opened.purge(domain, message, retired=retired))
    say(
        f"{result.domain}: deleted {several(result.num_segments, 'segment')}, "
        f"{several(result.num_documents, 'document')} and "
        f"{several(result.num_objects, 'object')} of {size(result.size_bytes)}; checked: gone"
    )
    if result.num_shared_objects:
        say(f"{several(result.num_shared_objects, 'object')} stayed, others use them too")
    if result.snapshots:
        shown = ", ".join(map(str, result.snapshots))
        say(f"snapshots that can no longer be rolled back to: {shown}")
