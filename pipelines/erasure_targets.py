"""Which documents an erasure is about, and whether their domains may be erased from now.

Reads the registry alone, so that a wrong id is told before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer_cl.errors import (
    FrozenError,
    InputError,
    StateError,
    UnknownError,
    UnsupportedError,
    unknown_name,
)
from pipelines.documents import composed_text, source_file
from stores import Document, DomainState, Registry
from stores.snapshots import why_out


@dataclass(frozen=True)
class Target:
    """Documents that one domain is to lose."""

    domain: str
    documents: tuple[Document, ...]


def find_targets(
    registry: Registry,
    *,
    document_ids: str | Sequence[str] = (),
    source: str | None = None,
    search: str | None = None,
    domain: str | None = None,
) -> tuple[Target, ...]:
    """Return the documents that a person means, by domain, sorted by the domains' names.

    Args:
        registry: an open store.
        document_ids: full ids, or the first six or more digits; one alone may be a str.
        source: instead, all documents that came from there; of a jsonl file, all of its lines.
        search: instead, all whose title or kept text holds this, whatever the case.
        domain: of this domain alone; default: of every live one.

    Raises:
        InputError: when nothing, or more than one thing, says which documents.
        UnknownError: when no document fits; the nearest id or source is named.
        StateError: when a document is in no live version, or a domain may not be erased from.
    """
    document_ids = _each(document_ids)
    if bool(document_ids) + (source is not None) + (search is not None) != 1:
        raise InputError("say which documents, in one way: by id, with --source or with --search")
    if domain is not None:
        check_erasable(registry, domain)
    if document_ids:
        found = [d for text in document_ids for d in _by_id(registry, text, domain)]
    else:
        names = [domain] if domain else [state.domain for state in registry.live().domains]
        live = [d for name in names for d in registry.documents(name) if d.kind != "probe"]
        found = _of_source(live, source) if source is not None else []
        found += _holding(registry, live, search) if search is not None else []
    targets = []
    for name in sorted({document.domain for document in found}):
        check_erasable(registry, name)
        own = {d.document_id: d for d in found if d.domain == name}
        targets.append(Target(name, tuple(own.values())))
    return tuple(targets)


def check_erasable(registry: Registry, domain: str) -> DomainState:
    """Return the live state of a domain that may be erased from.

    Raises:
        UnknownError: when there never was such a domain; the nearest is named.
        FrozenError, StateError: when it is purged, not live, disabled or frozen.
    """
    summary = registry.domain(domain).summary
    state = registry.live().state(domain)
    if summary.is_purged:
        raise StateError(f"domain {domain!r} was purged; nothing of it is left to erase")
    if state is None:
        raise StateError(
            f"domain {domain!r} is not live: {why_out(domain, is_purged=False)}, "
            f"`peer-cl purge {domain}` deletes all of it"
        )
    if not state.is_enabled:
        raise StateError(
            f"domain {domain!r} is disabled, so nobody would see what erasing does; "
            f"`peer-cl enable {domain}` first"
        )
    if state.is_frozen:
        raise FrozenError(
            f"domain {domain!r} is frozen and does not change; `peer-cl unfreeze {domain}` first"
        )
    return state


def live_documents(
    registry: Registry, domain: str, document_ids: str | Sequence[str]
) -> tuple[Document, ...]:
    """Return documents of a domain's live version by their full ids, or the one of one id.

    Raises:
        InputError: when there are none, or one holds a fact's questions.
        UnknownError: naming one that the version does not hold.
    """
    document_ids = _each(document_ids)
    held = {document.document_id: document for document in registry.documents(domain)}
    for document_id in document_ids:
        if document_id not in held:
            raise UnknownError(f"the live version of {domain!r} holds no document {document_id}")
        _refuse_probe(held[document_id])
    if not document_ids:
        raise InputError("no document is named: there is nothing to erase")
    return tuple(held[document_id] for document_id in dict.fromkeys(document_ids))


def _each(document_ids: str | Sequence[str]) -> tuple[str, ...]:
    """Return ids as a tuple; a str is one id, not as many as it has letters."""
    return (document_ids,) if isinstance(document_ids, str) else tuple(document_ids)


def check_texts(documents: Sequence[Document]) -> None:
    """Refuse where a text that would have to be read again was not kept.

    Raises: UnsupportedError: saying what can be done instead.
    """
    if any(document.text_object is None for document in documents):
        raise UnsupportedError(
            "this store keeps no texts (--no-keep-text), so nothing can be trained again without "
            "the document: --masked switches its rows off, `peer-cl rollback` takes back all that "
            "was learned with it"
        )


def _refuse_probe(document: Document) -> None:
    if document.kind == "probe":
        raise InputError(
            f"document {document.document_id[:12]} holds {document.source} for "
            f"{document.title[:40]!r}, which go with it; erase that"
        )


def _by_id(registry: Registry, text: str, domain: str | None) -> list[Document]:
    """Return the document that an id means, once for each live domain that holds it."""
    places = registry.document_places(text)
    live = [place.document for place in places if place.is_live]
    shown = places[0].document.document_id[:12]
    if not live:
        where = sorted({f"{place.document.domain} {place.label}" for place in places})
        raise StateError(
            f"document {shown} is in no live version, only in {', '.join(where[:4])}, rolled back "
            "or erased; `peer-cl purge` deletes what is not live"
        )
    _refuse_probe(live[0])
    found = [document for document in live if domain in (None, document.domain)]
    if not found:
        names = ", ".join(sorted({document.domain for document in live}))
        raise StateError(f"domain {domain!r} holds no document {shown}; {names} does")
    return found


def _of_source(live: Sequence[Document], source: str) -> list[Document]:
    """Return the documents of a source: a file's, a line's of a jsonl file, or a record's."""
    wanted = composed_text(source)  # older stores keep sources as they were given
    own = [(composed_text(document.source), document) for document in live]
    found = [document for name, document in own if wanted in (name, source_file(name))]
    if not found:
        raise unknown_name("source", source, {source_file(name) for name, _ in own})
    return found


def _holding(registry: Registry, live: Sequence[Document], words: str) -> list[Document]:
    """Return the documents whose title or kept text holds some words."""
    wanted = composed_text(words).casefold()
    if not wanted.strip():
        raise InputError("--search wants a word or more")
    found = [
        document
        for document in live
        if wanted in composed_text(document.title).casefold()
        or (
            document.text_object is not None
            and wanted in registry.document_text(document).casefold()
        )
    ]
    if not found:
        where = "title or text" if registry.config.keep_text else "title (texts are not kept)"
        raise UnknownError(f"no document of a live domain has {words[:80]!r} in its {where}")
    return found
