"""Exact erasure: a document's segment and later ones of its domain are trained again without it.

Domains share nothing, so nothing else is touched. Segments are prepared and trained as an ingest
does it, from the kept texts and the recorded settings: the domain becomes the one that never saw
the document, to the last bit on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer_cl.bases import Base
from peer_cl.errors import InputError, StateError, UnsupportedError
from pipelines.erasure import mask_segment
from pipelines.erasure_targets import check_erasable, live_documents
from pipelines.growing import grow
from pipelines.loading import empty_model, load_store_base
from pipelines.masks import Mask, masked_documents
from pipelines.preparing import (
    Chain,
    Learned,
    prepare,
    read_chain,
    stored_document,
)
from pipelines.probes import holds_fact, holds_rewordings
from pipelines.progress import Progress, no_progress
from pipelines.questions import read_fact
from pipelines.rewordings import joined_rewordings, read_kept
from pipelines.settings import TrainingSettings
from stores import Document, NewSegment, Registry, Segment
from stores.records import MASK

if TYPE_CHECKING:
    from pipelines.store import Store


@dataclass(frozen=True)
class ExactErasure:
    """What was made anew."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    document_ids: tuple[str, ...]
    """What is gone; a fact's questions and a document's rewordings go with it."""
    num_kept: int
    """Segments before the first one that held a document: they are as they were."""
    num_retrained: int
    num_dropped: int
    """Segments of which nothing was left to train on."""
    unmasked_ids: tuple[str, ...]
    """Documents whose masks were for rows that are no more: they are known again."""
    near_ids: tuple[str, ...]
    """Near-duplicates and sections of the same document, which stay."""
    seconds: float


@dataclass(frozen=True)
class _Step:
    """One element of the chain's new end: a corpus to learn, or a mask over kept segments."""

    learned: Learned | None
    settings: TrainingSettings | None
    mask: Mask | None
    erases: tuple[str, ...] = ()


def erase_exact(
    store: Store,
    domain: str,
    document_ids: Sequence[str],
    *,
    why: str = "",
    progress: Progress = no_progress,
) -> ExactErasure:
    """Make a domain's live version anew without some documents, in one commit or not at all.

    Killed, the store is as it was, and the same call goes on from the last checkpoints. The old
    segments stay in old snapshots until they are purged.

    Args:
        store: an open store that keeps texts.
        domain: a live domain.
        document_ids: full ids of documents that its live version holds.
        why: written beside the act.
        progress: told how far it is.

    Raises:
        UnknownError, FrozenError, StateError: when the domain may not be erased from, or nothing
            of it would be left.
        UnsupportedError: when texts are not kept.
    """
    began, registry = time.monotonic(), store.registry
    with registry.writing(store.who):
        state = check_erasable(registry, domain)
        wanted = live_documents(registry, domain, document_ids)
        documents = registry.documents(domain)
        rows = registry.chain(state.version)
        holding = {document.segment_id for document in wanted}
        first = next(place for place, row in enumerate(rows) if row.id in holding)
        kept, end = rows[:first], rows[first:]
        _check_texts(documents, end)
        gone = _with_questions(registry, documents, {d.document_id for d in wanted})
        base = load_store_base(registry)
        chain = read_chain(registry, domain, kept, base)
        left = [document for document in documents if document.document_id not in gone]
        steps = _plan(registry, chain, kept, end, left, base)
        num_kept = sum(row.kind != MASK for row in kept)
        if not num_kept and not any(step.learned for step in steps):
            raise StateError(
                f"nothing of {domain!r} would be left to train on; roll it back instead: "
                f"`peer-cl rollback {domain} --out`, then `peer-cl purge {domain}`"
            )
        segments, checkpoints = _retrain(registry, base, chain, kept, steps, progress)
        snapshot = registry.regrow(
            domain, state.version, kept[-1].id if kept else None, segments, store.who, why
        )
        for checkpoint in checkpoints:
            checkpoint.unlink(missing_ok=True)
    now = snapshot.state(domain)
    num_trained = sum(step.learned is not None for step in steps)
    return ExactErasure(
        domain=domain,
        version=now.version if now is not None else "",
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        document_ids=tuple(sorted(gone)),
        num_kept=num_kept,
        num_retrained=num_trained,
        num_dropped=sum(row.kind != MASK for row in end) - num_trained,
        unmasked_ids=_unmasked(registry, domain, end, steps, gone),
        near_ids=_near(wanted, left),
        seconds=time.monotonic() - began,
    )


def _check_texts(documents: Sequence[Document], end: Sequence[Segment]) -> None:
    """Refuse where a text that would have to be read again was not kept."""
    ids = {row.id for row in end}
    if any(document.segment_id in ids and document.text_object is None for document in documents):
        raise UnsupportedError(
            "this store keeps no texts (--no-keep-text), so nothing can be trained again without "
            "the document: --masked switches its rows off, `peer-cl rollback` takes back all that "
            "was learned with it"
        )


def _with_questions(
    registry: Registry, documents: Sequence[Document], wanted: set[str]
) -> set[str]:
    """Return ids of documents, of the questions about facts among them, and of their rewordings."""
    of_wanted = set()
    for found in documents:
        if holds_fact(found):
            owner = read_fact(registry.document_text(found)).document("").document_id
        elif holds_rewordings(found):
            owner, _ = read_kept(registry.document_text(found))
        else:
            continue
        if owner in wanted:
            of_wanted.add(found.document_id)
    return wanted | of_wanted


def _plan(
    registry: Registry,
    chain: Chain,
    kept: Sequence[Segment],
    end: Sequence[Segment],
    left: Sequence[Document],
    base: Base,
) -> list[_Step]:
    """Return what is to be done, in order; no model has run yet."""
    configs = {run.segment_id: run.config for run in registry.domain(chain.domain).runs}
    kept_ids = {row.id for row in kept}
    held_by = {document.document_id: document.segment_id for document in left}
    steps = []
    for row in end:
        config = configs[row.id]
        if row.kind == MASK:
            mask = Mask.from_bytes(registry.objects.read(row.pool_object)).within(kept_ids)
            erases = tuple(i for i in config.get("erases", ()) if held_by.get(i) in kept_ids)
            if mask.num_rows:
                steps.append(_Step(None, None, mask, erases))
            continue
        own = [document for document in left if document.segment_id == row.id]
        learned = _prepare_again(registry, chain, own, base)
        if learned.of("train"):
            chain = chain.holding(learned)
            steps.append(_Step(learned, _settings(config, row), None))
    return steps


def _prepare_again(
    registry: Registry, chain: Chain, documents: Sequence[Document], base: Base
) -> Learned:
    """Prepare what is left of a segment as its ingest did: texts first, then facts."""
    facts, others, rewordings = [], [], []
    for document in documents:
        source = stored_document(registry, document)
        if holds_fact(document):
            facts.append(read_fact(source.text))
        elif holds_rewordings(document):
            rewordings.append(read_kept(source.text))
        else:
            others.append(source)
    of_facts = {fact.document("").document_id for fact in facts}
    rest = [d for d in others if d.kind != "fact" or d.document_id not in of_facts]
    return prepare(chain, rest, facts, base, joined_rewordings(rewordings))


def _settings(config: dict[str, Any], row: Segment) -> TrainingSettings:
    """Return the settings of a segment's run.

    Raises:
        StateError: when they are not of this version.
    """
    try:
        return TrainingSettings.from_record(config)
    except (InputError, StateError, TypeError) as error:
        raise StateError(
            f"the settings that {row.domain} {row.label} was trained with cannot be read by this "
            f"version ({error}); take the domain out (`peer-cl rollback {row.domain} --out`) and "
            "ingest its corpus without the document"
        ) from error


def _retrain(
    registry: Registry,
    base: Base,
    chain: Chain,
    kept: Sequence[Segment],
    steps: Sequence[_Step],
    progress: Progress,
) -> tuple[list[NewSegment], list[Path]]:
    """Return the new end of the chain, trained and stored but not registered."""
    kept_ids = [row.id for row in kept if row.kind != MASK]
    loaded = dict(zip(kept_ids, chain.segments, strict=True))
    model = empty_model(registry, base)
    segments: list[NewSegment] = []
    checkpoints: list[Path] = []
    for step in steps:
        if step.learned is not None and step.settings is not None:
            grown = grow(registry, model, base, chain, step.learned, step.settings, progress)
            segments.append(grown.new)
            checkpoints.append(grown.checkpoint)
            chain = grown.on(chain)
        elif step.mask is not None and chain.signature is not None:
            step.mask.apply(loaded)
            mask = mask_segment(
                registry,
                step.mask,
                domain=chain.domain,
                parent=chain.parent,
                signature_object=registry.objects.put_bytes(chain.signature.to_bytes()),
                erases=step.erases,
            )
            segments.append(mask)
            chain = chain.under(mask.segment_id)
    model.detach()
    return segments, checkpoints


def _unmasked(
    registry: Registry,
    domain: str,
    end: Sequence[Segment],
    steps: Sequence[_Step],
    gone: set[str],
) -> tuple[str, ...]:
    """Return the documents whose masks were dropped."""
    masks = masked_documents(registry, domain)
    before = {document_id for row in end for document_id in masks.get(row.id, ())}
    after = {document_id for step in steps for document_id in step.erases}
    return tuple(sorted(before - after - gone))


def _near(wanted: Sequence[Document], left: Sequence[Document]) -> tuple[str, ...]:
    """Return the documents that were held to be near to an erased one, and stay."""
    groups = {document.near_group for document in wanted}
    found = {d.document_id for d in left if d.near_group in groups and d.kind != "probe"}
    return tuple(sorted(found))
