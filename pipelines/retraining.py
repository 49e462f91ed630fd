"""Exact erasure: a document's segment and later ones of its domain are trained again without it.

Domains share nothing, so nothing else is touched. Segments are prepared and trained as an ingest
does it, from the kept texts and the recorded settings: the domain becomes the one that never saw
the document, to the last bit on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer_cl.bases import Base
from peer_cl.errors import InputError, StateError
from peer_cl.pool import Segment as LoadedSegment
from pipelines.documents import SAID
from pipelines.erasure import EACH, mask_segment, rows_by_cost
from pipelines.erasure_targets import check_erasable, check_texts, live_documents
from pipelines.growing import Grown, grow
from pipelines.left_out import KEY, LeftOut, woven
from pipelines.loading import empty_model, load_store_base
from pipelines.masks import Mask
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
from pipelines.settings import TrainingSettings, recorded_hold_out
from pipelines.splits import near_groups
from stores import Document, NewSegment, Registry, Segment
from stores.faiss_extra import check_faiss
from stores.patience import patiently
from stores.records import MASK
from stores.words import check_words

if TYPE_CHECKING:
    from peer_cl.model import PeerModel
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
    """Documents that are known again: their masks, of an earlier version, do not say how many rows
    they were to take, or no row of theirs was found in what was trained again."""
    near_ids: tuple[str, ...]
    """Near-duplicates and sections of the same document, which stay."""
    seconds: float


@dataclass(frozen=True)
class _Step:
    """One element of the chain's new end: a corpus to learn, or documents to mask."""

    replaces: str
    """The id of the old element."""
    learned: Learned | None = None
    settings: TrainingSettings | None = None
    masked: tuple[Document, ...] = ()
    num_rows: int = 0
    """At most so many of each; 0: not known."""


@dataclass
class _Regrown:
    """The new end of a chain: stored, not registered."""

    chain: Chain
    loaded: dict[str, LoadedSegment]
    """By their new ids, the oldest first, with the masks on them."""
    names: dict[str, str]
    """The new ids of segments, by the old ones."""
    segments: list[NewSegment] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    masked: set[str] = field(default_factory=set)
    """Ids of the documents that have a mask again."""
    unmasked: set[str] = field(default_factory=set)
    """Those of which a mask was dropped."""

    def learn(self, old_id: str, grown: Grown) -> None:
        """Put a segment at the end."""
        new_id = grown.new.segment_id
        self.segments.append(grown.new)
        self.checkpoints.append(grown.checkpoint)
        self.loaded[new_id] = grown.trained.segment
        self.names[old_id] = new_id
        self.chain = grown.on(self.chain)

    def learned(self, document: Document) -> str | None:
        """Return the new id of the segment that was trained on a document, if any was."""
        new_id = self.names.get(document.segment_id)
        ours = [segment for segment in self.segments if segment.segment_id == new_id]
        splits = {d.document_id: d.split for segment in ours for d in segment.documents}
        split = splits.get(document.document_id, None if ours else document.split)
        return new_id if split == "train" else None


def erase_exact(
    store: Store,
    domain: str,
    document_ids: str | Sequence[str],
    *,
    why: str = "",
    progress: Progress = no_progress,
) -> ExactErasure:
    """Make a domain's live version anew without some documents, in one commit or not at all.

    Killed, the store is as it was, and the same call goes on from the last checkpoints. The old
    segments stay in old snapshots until they are purged. Later ingests into the domain leave the
    documents out, unless they are told to learn them.

    Args:
        store: an open store that keeps texts.
        domain: a live domain.
        document_ids: full ids of documents (or of one) that its live version holds.
        why: written beside the act.
        progress: told how far it is.

    Raises:
        InputError: when `why` cannot be kept.
        UnknownError, FrozenError, StateError: when the domain may not be erased from, or nothing
            of it would be left.
        UnsupportedError: when texts are not kept, or FAISS is not installed.
    """
    check_words("why", why)
    check_faiss()
    began, registry = time.monotonic(), store.registry
    with registry.writing(store.who):
        state = check_erasable(registry, domain)
        wanted = live_documents(registry, domain, document_ids)
        documents = registry.documents(domain)
        rows = registry.chain(state.version)
        gone = {document.document_id for document in wanted}
        # One that was held out and then learned stands in two segments.
        holding = {d.segment_id for d in documents if d.document_id in gone}
        first = next(place for place, row in enumerate(rows) if row.id in holding)
        kept, end = rows[:first], rows[first:]
        again = {row.id for row in end}
        check_texts([d for d in documents if d.segment_id in again])
        gone = _with_questions(registry, documents, gone)
        base = load_store_base(registry)
        chain = read_chain(registry, domain, kept, base)
        near_ids = _near(registry, documents, gone)
        steps = _plan(registry, chain, end, documents, gone, base)
        num_kept = sum(row.kind != MASK for row in kept)
        if not num_kept and not any(step.learned for step in steps):
            raise StateError(
                f"nothing of {domain!r} would be left to train on; roll it back instead: "
                f"`peer-cl rollback {domain} --out`, then `peer-cl purge {domain}`"
            )
        regrown = _retrain(registry, base, chain, kept, steps, progress)
        onto = kept[-1].id if kept else None
        erased = [document.document_id for document in wanted]
        end_of = (domain, state.version, onto, regrown.segments)
        snapshot = patiently(
            partial(registry.regrow, *end_of, store.who, why, erased=erased),
            partial(progress, "registering", 0, 0),
        )
        for checkpoint in regrown.checkpoints:
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
        unmasked_ids=tuple(sorted(regrown.unmasked - regrown.masked)),
        near_ids=near_ids,
        seconds=time.monotonic() - began,
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
    end: Sequence[Segment],
    documents: Sequence[Document],
    gone: set[str],
    base: Base,
) -> list[_Step]:
    """Return what is to be done, in order; no model has run yet."""
    configs = {run.segment_id: run.config for run in registry.domain(chain.domain).runs}
    held = {d.document_id: d for d in documents if d.document_id not in gone}
    texts = {key: partial(registry.document_text, d) for key, d in held.items()}
    steps = []
    for row in end:
        config = configs[row.id]
        if row.kind == MASK:
            masked = tuple(held[i] for i in config.get("erases", ()) if i in held)
            steps.append(_Step(row.id, masked=masked, num_rows=config.get(EACH, 0)))
            continue
        own = [document for document in documents if document.segment_id == row.id]
        others = LeftOut.recorded(config, texts)
        percent = recorded_hold_out(config)
        learned = _prepare_again(registry, chain, own, others, gone, base, percent)
        if learned.of("train"):
            chain = chain.holding(learned)
            steps.append(_Step(row.id, learned, _settings(config, row)))
    return steps


def _prepare_again(
    registry: Registry,
    chain: Chain,
    documents: Sequence[Document],
    left_out: LeftOut,
    gone: set[str],
    base: Base,
    hold_out_percent: float,
) -> Learned:
    """Prepare what is left of a segment as its ingest did: texts first, then facts.

    Args:
        registry: an open store.
        chain: what the segment is to grow on.
        documents: all that the segment holds.
        left_out: what its ingest was given besides.
        gone: ids of what is erased.
        base: the store's.
        hold_out_percent: of its ingest.
    """
    facts, others, rewordings = [], [], []
    for document in documents:
        source = stored_document(registry, document)
        if holds_fact(document):
            facts.append(read_fact(source.text))
        elif holds_rewordings(document):
            if document.document_id not in gone:
                rewordings.append(read_kept(source.text))
        else:
            others.append(source)
    of_facts = {fact.document("").document_id for fact in facts}
    rest = [d for d in others if d.kind != "fact" or d.document_id not in of_facts]
    given = [d for d in woven(rest, left_out.texts) if d.document_id not in gone]
    told = [
        fact for fact in woven(facts, left_out.facts) if fact.document("").document_id not in gone
    ]
    return prepare(chain, given, told, base, joined_rewordings(rewordings), hold_out_percent)


def _settings(config: dict[str, Any], row: Segment) -> TrainingSettings:
    """Return the settings of a segment's run.

    Raises:
        StateError: when they are not of this version.
    """
    try:
        return TrainingSettings.from_record({k: v for k, v in config.items() if k != KEY})
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
) -> _Regrown:
    """Return the new end of the chain, trained and stored but not registered."""
    kept_ids = [row.id for row in kept if row.kind != MASK]
    loaded = dict(zip(kept_ids, chain.segments, strict=True))
    regrown = _Regrown(chain, loaded, {kept_id: kept_id for kept_id in kept_ids})
    model = empty_model(registry, base)
    for step in steps:
        if step.learned is None or step.settings is None:
            _mask_again(registry, model, base, regrown, step)
        else:
            parts = (regrown.chain, step.learned, step.settings)
            regrown.learn(step.replaces, grow(registry, model, base, *parts, progress))
    model.detach()
    return regrown


def _mask_again(
    registry: Registry, model: PeerModel, base: Base, regrown: _Regrown, step: _Step
) -> None:
    """Choose a mask's rows anew, on the chain as it is now: the old ones were chosen with it.

    An erased document that was learned before the mask had a part in what other rows are worth.
    """
    learned = [(d, new_id) for d in step.masked if (new_id := regrown.learned(d)) is not None]
    regrown.unmasked |= {document.document_id for document, _ in learned}
    chain = regrown.chain
    if not step.num_rows or chain.signature is None:
        return
    texts = [(new_id, registry.document_text(document)) for document, new_id in learned]
    rows: dict[tuple[str, int], list[int]] = {}
    erases = []
    every = rows_by_cost(model, base.tokenizer, regrown.loaded, texts)
    for (document, new_id), own in zip(learned, every, strict=True):
        for layer, row in own[: step.num_rows]:
            rows.setdefault((new_id, layer), []).append(row)
        if own:
            erases.append(document.document_id)
    mask = Mask.of(rows)
    if not mask.num_rows:
        return
    mask.apply(regrown.loaded)
    segment = mask_segment(
        registry,
        mask,
        domain=chain.domain,
        parent=chain.parent,
        signature_object=registry.objects.put_bytes(chain.signature.to_bytes()),
        erases=erases,
        num_rows=step.num_rows,
    )
    regrown.segments.append(segment)
    regrown.chain = chain.under(segment.segment_id)
    regrown.masked |= set(erases)


def _near(registry: Registry, documents: Sequence[Document], gone: set[str]) -> tuple[str, ...]:
    """Return the documents that are near to an erased one, or sections of the same, and stay.

    The recorded groups are of one ingest each: a later one, where its copy has the smaller id,
    names the group anew. So the texts are compared again, and what was recorded joins them besides.
    """
    said = [d for d in documents if d.kind in SAID and d.text_object is not None]
    groups = near_groups(
        [replace(stored_document(registry, d), section_of=d.near_group) for d in said]
    )
    left = groups.keys() - gone
    of_gone = {groups[document_id] for document_id in groups.keys() & gone}
    return tuple(sorted(found for found in left if groups[found] in of_gone))
