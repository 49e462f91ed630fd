"""Exact erasure: what a domain learned is made anew without some documents.

A fact's experts are its own: taking it out is leaving them out, and everything else keeps its
bits. A text was read together with others, so its segment's shared experts and those of later
segments are trained again, from the kept texts and the recorded settings: the domain becomes the
one that never held the document, to the last bit on the same machine. Domains share nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from peer_cl.errors import FrozenError, InputError, StateError, UnknownError, UnsupportedError
from pipelines.corpora import LEARNED_KINDS, SourceDocument
from pipelines.facts import Fact
from pipelines.ingest import (
    STATED_SPLITS,
    Grown,
    LearnedFacts,
    grow,
    prepare,
    read_chain,
    stored_document,
)
from pipelines.loading import load_own_of, load_store_base, store_identity
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.settings import TrainingSettings
from pipelines.splits import near_groups
from stores.queries import Document
from stores.queries import Segment as StoredSegment
from stores.records import NewDocument, NewSegment, check_text
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
    """Segments whose shared experts were trained again; others only lack facts."""
    num_dropped: int
    """Segments of which nothing was left to train on."""
    near_ids: tuple[str, ...]
    """What stays and may say the same: near-duplicates and sections of an erased text, and
    documents that hold subject and answer of an erased fact."""
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
        gone = [one for one in documents if one.document_id in wanted]
        first = _first_holding(rows, gone)
        first_trained = _first_holding(rows, [one for one in gone if one.kind == "text"])
        left = _Left(registry, documents, wanted)
        parent = rows[first - 1].id if first else None
        made: list[NewSegment] = []
        for row in rows[first:first_trained]:
            if (new := left.without_facts(row, parent)) is not None:
                made.append(new)
                parent = new.segment_id
        near_ids = left.near_ids()
        grown: list[Grown] = []
        if first_trained < len(rows):
            base = load_store_base(registry)
            before = read_chain(registry, base, domain, rows[:first_trained])
            chain = replace(before, parent=parent, document_ids=before.document_ids - wanted)
            for row in rows[first_trained:]:
                config = dict(row.config)
                stated = config.pop(STATED_SPLITS, {})
                settings = TrainingSettings.from_dict(config)
                texts, facts = left.of(row.id, stated)
                prepared = prepare(chain, texts, facts, base, settings.hold_out_percent)
                if prepared.of(*LEARNED_KINDS, split="train"):
                    learned = left.learned_facts(row)
                    grown.append(
                        grow(
                            registry,
                            base,
                            chain,
                            prepared,
                            settings,
                            run.run_id,
                            run.progress,
                            learned=learned,
                        )
                    )
                    chain = grown[-1].on(chain, prepared)
            parent = chain.parent
        made += [one.new for one in grown]
        if parent is None:
            raise StateError(
                f"nothing of {domain!r} would be left to train on; remove it instead: `peer-cl "
                f"remove {domain}`, then `peer-cl purge {domain}`"
            )
        snapshot = registry.replace_segments(
            domain,
            version=state.version,
            onto=rows[first - 1].id if first else None,
            segments=made,
            erased_ids=sorted(wanted),
            author=author,
            message=message,
        )
        run.snapshot_id = snapshot.id
        for one in grown:
            shutil.rmtree(one.checkpoints, ignore_errors=True)
    now = snapshot.state(domain)
    return Erasure(
        domain=domain,
        version=now.version if now is not None else "",
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        document_ids=tuple(sorted(wanted)),
        num_kept=first,
        num_trained=len(grown),
        num_dropped=len(rows) - first - len(made),
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


def _first_holding(rows: Sequence[StoredSegment], documents: Sequence[Document]) -> int:
    """Return the place of the first segment that holds one of some documents; else their number."""
    holding = {one.segment_id for one in documents}
    return next((place for place, row in enumerate(rows) if row.id in holding), len(rows))


class _Left:
    """What of a domain's documents stays."""

    def __init__(
        self, registry: Registry, documents: Sequence[Document], wanted: Collection[str]
    ) -> None:
        self._registry, self._wanted = registry, wanted
        read = registry.queries.document_text
        asked = [
            (one, Fact.from_question(read(one))) for one in documents if one.kind == "question"
        ]
        self._gone_facts = [fact for _, fact in asked if fact.document_id in wanted]
        self._facts = {
            (one.segment_id, one.document_id): fact
            for one, fact in asked
            if fact.document_id not in wanted
        }
        self._documents = [
            one
            for one in documents
            if one.document_id not in wanted
            and (one.kind != "question" or (one.segment_id, one.document_id) in self._facts)
        ]
        self._every = documents

    def of(
        self, segment_id: str, stated: dict[str, Any]
    ) -> tuple[list[SourceDocument], list[Fact]]:
        """Return the texts and facts of a segment, as its ingest was given them."""
        own = [one for one in self._documents if one.segment_id == segment_id]
        texts = [
            replace(
                stored_document(self._registry, one),
                split=cast(Any, stated.get(one.document_id)),
            )
            for one in own
            if one.kind == "text"
        ]
        facts = [self._facts[segment_id, one.document_id] for one in own if one.kind == "question"]
        return texts, facts

    def learned_facts(self, row: StoredSegment) -> LearnedFacts | None:
        """Return the own experts of a segment's facts, in their bits; None where none is left."""
        if row.own_object is None:
            return None
        own = load_own_of(self._registry, row, store_identity(self._registry))
        left = own.without(self._wanted)
        if left is None:
            return None
        losses = {
            one.document_id: (one.base_nats, one.nats)
            for one in self._documents
            if one.segment_id == row.id and one.kind == "fact"
            if one.base_nats is not None and one.nats is not None
        }
        return LearnedFacts(left, losses)

    def without_facts(self, row: StoredSegment, parent: str | None) -> NewSegment | None:
        """Return a segment with fewer facts and the same texts; None where nothing is left."""
        learned, identity = self.learned_facts(row), store_identity(self._registry)
        if row.pool_object is None and learned is None:
            return None
        data = None if learned is None else learned.own.to_bytes(identity)
        before = 0 if row.own_object is None else self._registry.objects.sizes()[row.own_object]
        documents = [one for one in self._documents if one.segment_id == row.id]
        names = [one.name for one in fields(NewDocument)]
        return NewSegment(
            domain=row.domain,
            parent=parent,
            pool_object=row.pool_object,
            key_object=row.key_object,
            use_object=row.use_object,
            own_object=None if data is None else self._registry.objects.put_bytes(data),
            host_layers=row.host_layers,
            num_experts=row.num_experts,
            size_bytes=row.size_bytes - before + len(data or b""),
            num_tokens=sum(
                one.num_tokens
                for one in documents
                if one.kind in LEARNED_KINDS and one.split == "train"
            ),
            documents=[
                NewDocument(**{name: getattr(one, name) for name in names}) for one in documents
            ],
            uses_of=row.id,
            config=row.config,
            losses=row.losses,
            seconds=row.seconds,
            run_id=row.run_id,
        )

    def near_ids(self) -> tuple[str, ...]:
        """Return the documents that stay and may say the same as an erased one."""
        read = self._registry.queries.document_text
        learned = [one for one in self._every if one.kind in LEARNED_KINDS]
        found = set()
        if any(one.document_id in self._wanted and one.kind == "text" for one in learned):
            # The recorded groups are of one ingest each, so the texts are compared again.
            groups = near_groups(
                replace(stored_document(self._registry, one), section_of=one.near_group)
                for one in learned
            )
            of_gone = {groups[key] for key in self._wanted}
            found = {key for key in groups if groups[key] in of_gone}
        if self._gone_facts:
            for one in learned:
                text = read(one)
                if any(fact.subject in text and fact.answer in text for fact in self._gone_facts):
                    found.add(one.document_id)
        return tuple(sorted(found - set(self._wanted)))
