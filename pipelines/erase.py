"""Exact erasure: a document's segment and later ones of its domain are trained again without it.

Domains share nothing, so nothing else is touched. Segments are prepared and trained as an ingest
does it, from the kept texts and the recorded settings: the domain becomes the one that never held
the document, to the last bit on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from peer_cl.errors import FrozenError, InputError, StateError, UnknownError, UnsupportedError
from pipelines.corpora import LEARNED_KINDS, SourceDocument
from pipelines.facts import Fact
from pipelines.ingest import STATED_SPLITS, Grown, grow, prepare, read_chain, stored_document
from pipelines.loading import load_store_base
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.settings import TrainingSettings
from pipelines.splits import near_groups
from stores.queries import Document
from stores.records import check_text
from stores.registry import Registry


@dataclass(frozen=True)
class Erasure:
    """What an erasure did."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    document_ids: tuple[str, ...]
    """Documents that are gone; the questions about a fact go with it."""
    num_kept: int
    """Segments before the first one that held a document: they are as they were."""
    num_trained: int
    """Segments that were trained again."""
    num_dropped: int
    """Segments of which nothing was left to train on."""
    near_ids: tuple[str, ...]
    """Near-duplicates and sections of the same document, which stay."""
    seconds: float


def erase(
    registry: Registry,
    domain: str,
    document_ids: str | Sequence[str],
    *,
    author: str,
    message: str = "",
    progress: Progress = no_progress,
) -> Erasure:
    """Make a domain's live version anew without some documents, in one commit or not at all.

    Stopped, the store is as it was, and the same call continues from the last checkpoint. Earlier
    snapshots hold the old segments until they are purged. Later ingests leave the documents out.

    Args:
        document_ids: full ids of documents (or of one) that its live version holds.

    Raises:
        InputError: when no document is named, or the message cannot be kept.
        UnknownError: when there is no such domain or document.
        FrozenError, StateError: when the domain may not change now, or nothing would be left.
        UnsupportedError: when texts are not kept.
    """
    check_text("message", message)
    began, queries = time.monotonic(), registry.queries
    wanted = {document_ids} if isinstance(document_ids, str) else set(document_ids)
    with (
        registry.writing(author),
        recorded_run(registry, "erase", domain, author, message, progress) as run,
    ):
        state = queries.check_active(domain)
        if state.is_frozen:
            raise FrozenError(
                f"domain {domain!r} is frozen and does not change; `peer-cl unfreeze {domain}` "
                "first"
            )
        documents = queries.documents(domain)
        _check_held(domain, documents, wanted)
        rows = queries.chain(state.version)
        # A text that was held out and then learned stands in two segments.
        holding = {one.segment_id for one in documents if one.document_id in wanted}
        first = next(place for place, row in enumerate(rows) if row.id in holding)
        kept, end = rows[:first], rows[first:]
        near_ids = _near(registry, documents, wanted)
        base = load_store_base(registry)
        chain = read_chain(registry, base, domain, kept)
        grown: list[Grown] = []
        for row in end:
            config = dict(row.config)
            stated = config.pop(STATED_SPLITS, {})
            settings = TrainingSettings.from_dict(config)
            own = [one for one in documents if one.segment_id == row.id]
            texts, facts = _left(registry, own, wanted, stated)
            prepared = prepare(chain, texts, facts, base, settings.hold_out_percent)
            if prepared.of(*LEARNED_KINDS, split="train"):
                grown.append(
                    grow(registry, base, chain, prepared, settings, run.run_id, run.progress)
                )
                chain = grown[-1].on(chain, prepared)
        if chain.parent is None:
            raise StateError(
                f"nothing of {domain!r} would be left to train on; remove it instead: `peer-cl "
                f"remove {domain}`, then `peer-cl purge {domain}`"
            )
        snapshot = registry.replace_segments(
            domain,
            version=state.version,
            onto=kept[-1].id if kept else None,
            segments=[one.new for one in grown],
            erased_ids=sorted(wanted),
            author=author,
            message=message,
        )
        run.snapshot_id = snapshot.id
        for one in grown:
            one.checkpoint.unlink(missing_ok=True)
    now = snapshot.state(domain)
    return Erasure(
        domain=domain,
        version=now.version if now is not None else "",
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        document_ids=tuple(sorted(wanted)),
        num_kept=len(kept),
        num_trained=len(grown),
        num_dropped=len(end) - len(grown),
        near_ids=near_ids,
        seconds=time.monotonic() - began,
    )


def _check_held(domain: str, documents: Sequence[Document], wanted: Collection[str]) -> None:
    """Refuse what cannot be erased; the questions about a fact go with the fact."""
    if not wanted:
        raise InputError("no document is named: there is nothing to erase")
    held = {one.document_id: one for one in documents}
    for document_id in sorted(wanted):
        if document_id not in held:
            raise UnknownError(f"the live version of {domain!r} holds no document {document_id}")
        if held[document_id].kind == "question":
            raise InputError(
                f"document {document_id[:12]} holds the questions about "
                f"{held[document_id].title[:40]!r}, which go with the fact: erase the fact"
            )
    if any(one.text_object is None for one in documents):
        raise UnsupportedError(
            "this store keeps no texts (--no-keep-text), so nothing can be trained again without "
            "the document; `peer-cl rollback` takes back all that was learned with it"
        )


def _left(
    registry: Registry, documents: Sequence[Document], gone: Collection[str], stated: dict[str, Any]
) -> tuple[list[SourceDocument], list[Fact]]:
    """Return the texts and facts of a segment that stay, as its ingest was given them."""
    texts, facts = [], []
    for document in documents:
        if document.kind == "question":
            facts.append(Fact.from_question(registry.queries.document_text(document)))
        elif document.kind == "text":
            text = stored_document(registry, document)
            texts.append(replace(text, split=cast(Any, stated.get(document.document_id))))
    return (
        [one for one in texts if one.document_id not in gone],
        [one for one in facts if one.document_id not in gone],
    )


def _near(
    registry: Registry, documents: Sequence[Document], gone: Collection[str]
) -> tuple[str, ...]:
    """Return the documents that are near to an erased one, or sections of the same, and stay.

    The recorded groups are of one ingest each, so the texts are compared again.
    """
    learned = [one for one in documents if one.kind in LEARNED_KINDS]
    groups = near_groups(
        replace(stored_document(registry, one), section_of=one.near_group) for one in learned
    )
    of_gone = {groups[document_id] for document_id in gone}
    return tuple(sorted(key for key in groups.keys() - set(gone) if groups[key] in of_gone))
