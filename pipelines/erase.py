"""Exact erasure: what a domain learned is made anew without some documents.

A document's own experts are its own: taking it out is leaving them out, at once, and everything
else keeps its bits. Shared experts of a text's shard were trained on other texts, too: they are
switched off at once, and trained anew from the kept texts and the recorded settings later. Then the
domain is the one that never held the document, to the last bit on the same machine. Domains share
nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from peer_cl.errors import FrozenError, InputError, StateError, UnknownError, UnsupportedError
from peer_cl.own import joined, load_own
from pipelines.corpora import LEARNED_KINDS, SourceDocument
from pipelines.facts import Fact
from pipelines.growing import (
    STATED_SPLITS,
    Grown,
    Kept,
    PreparedCorpus,
    group_of,
    grow,
    prepare,
    read_chain,
    shard_of,
    stored_document,
)
from pipelines.loading import load_owns, load_store_base, store_identity
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.settings import TrainingSettings
from pipelines.splits import near_groups
from stores.queries import Document, Snapshot
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
    num_dropped: int
    """Segments of which nothing was left."""
    num_pending: int
    """Shards of shared experts that wait to be trained anew; the router's key of the domain waits
    with them."""
    near_ids: tuple[str, ...]
    """What stays and may say the same: near-duplicates and sections of an erased text, and
    documents that hold subject and answer of an erased fact."""
    seconds: float
    """Until the documents were gone, training not counted."""


def erase(
    registry: Registry,
    domain: str,
    document_ids: str | Sequence[str],
    *,
    author: str,
    message: str = "",
    wait: bool = False,
    progress: Progress = no_progress,
) -> Erasure:
    """Make a domain's live version anew without some documents, in one commit or not at all.

    They are gone at once with all that is their own. Of shared experts their shards are switched
    off, and trained anew by the domain's next ingest, or here where the caller waits for it;
    stopped meanwhile, a call that names no document continues from the last checkpoint.

    Earlier snapshots hold the old segments until they are purged. Later ingests leave the documents
    out.

    Args:
        registry: of the store.
        domain: its name.
        document_ids: full ids of documents (or of one) that its live version holds; none, to train
            what waits since an earlier erasure.
        author, message: of the act.
        wait: also train shared experts anew.
        progress: called as that goes on.

    Raises:
        InputError: when no document is named, or the message cannot be kept.
        UnknownError: when there is no such domain or document.
        FrozenError, StateError: when the domain may not change now, or nothing would be left.
        UnsupportedError: when texts are not kept.
    """
    check_text("message", message)
    began, queries = time.monotonic(), registry.queries
    wanted = {document_ids} if isinstance(document_ids, str) else set(document_ids)
    with registry.writing(author):
        state = queries.check_active(domain)
        if state.is_frozen:
            raise FrozenError(
                f"domain {domain!r} is frozen and does not change; `peer-cl unfreeze {domain}` "
                "first"
            )
        documents, rows = queries.documents(domain), queries.chain(state.version)
        if not wanted and not (wait and any(row.pending_shards for row in rows)):
            raise InputError("no document is named: there is nothing to erase")
        _check_held(domain, documents, wanted)
        # A text that was held out and then learned stands in two segments.
        gone = [one for one in documents if one.document_id in wanted]
        first = _first_holding(rows, gone)
        made: list[NewSegment] = []
        snapshot, seconds, near_ids = queries.live(), 0.0, tuple[str, ...]()
        if wanted:
            left = _Left(registry, documents, wanted)
            parent, off = rows[first - 1].id if first else None, set[int]()
            for row in rows[first:]:
                held = {
                    shard_of(one.document_id, row.config["num_shards"])
                    for one in gone
                    if one.kind == "text" and one.segment_id == row.id
                }
                off |= held
                # Of a text that was held out, too: it stopped the training, or its near-duplicates
                # are learned now.
                off_here = held | (off & row.objects_of("shared").keys())
                if (new := left.without(row, parent, off_here)) is not None:
                    made.append(new)
                    parent = new.segment_id
                else:
                    off |= row.objects_of("shared").keys()  # on which those of later ones grew
            if parent is None:
                raise StateError(
                    f"nothing of {domain!r} would be left to train on; remove it instead: "
                    f"`peer-cl remove {domain}`, then `peer-cl purge {domain}`"
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
            seconds = time.monotonic() - began
            near_ids = _near_ids(registry, documents, wanted, left.gone_facts)
        if wait:
            snapshot = train_pending(registry, domain, author, message, progress) or snapshot
        now = snapshot.state(domain)
        version = "" if now is None else now.version
        pending = sum(len(row.pending_shards) for row in queries.chain(version))
    return Erasure(
        domain=domain,
        version=version,
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        document_ids=tuple(sorted(wanted)),
        num_kept=first,
        num_dropped=len(rows) - first - len(made) if wanted else 0,
        num_pending=pending,
        near_ids=near_ids,
        seconds=seconds,
    )


def train_pending(
    registry: Registry, domain: str, author: str, message: str, progress: Progress = no_progress
) -> Snapshot | None:
    """Train anew what waits since an erasure, in one commit or not at all; None where nothing does.

    The lock of the store's writer is held, and raised is what `erase` raises.
    """
    queries = registry.queries
    state = queries.live().state(domain)
    rows = () if state is None else queries.chain(state.version)
    first = next((n for n, row in enumerate(rows) if row.pending_shards), None)
    if state is None or first is None:
        return None
    with recorded_run(registry, "erase", domain, author, message, progress) as run:
        documents = queries.documents(domain)
        left, base = _Left(registry, documents, ()), load_store_base(registry)
        chain = read_chain(registry, base, domain, rows[:first])
        grown: list[Grown] = []
        changed = set[int]()
        for row in rows[first:]:
            config = dict(row.config)
            stated = config.pop(STATED_SPLITS, {})
            settings = TrainingSettings.from_dict(config)
            texts, facts = left.of(row.id, stated)
            prepared = prepare(chain, texts, facts, base, settings.hold_out_percent)
            if not prepared.of(*LEARNED_KINDS, split="train"):
                changed |= row.objects_of("shared").keys()
                continue
            kept = left.kept(row, prepared, settings.num_shards, changed)
            made = grow(
                registry, base, chain, prepared, settings, run.run_id, run.progress, kept=kept
            )
            grown.append(made)
            changed |= made.runs.keys()  # later segments' shards grew on these
            chain = made.on(chain, prepared)
        snapshot = registry.replace_segments(
            domain,
            version=state.version,
            onto=rows[first - 1].id if first else None,
            segments=[one.new for one in grown],
            erased_ids=(),
            author=author,
            message=message,
        )
        run.snapshot_id = snapshot.id
        for one in grown:
            shutil.rmtree(one.checkpoints, ignore_errors=True)
    return snapshot


def leave_out(
    registry: Registry,
    documents: Sequence[Document],
    rows: Sequence[StoredSegment],
    document_ids: Collection[str],
) -> tuple[str | None, list[NewSegment]]:
    """Return a chain's segments anew, without some documents and all that is their own, and the
    segment (None: none) on which they stand.

    For a new version, not for an erasure: shared experts and the router's key stay as they are,
    with what they learned of these documents, and nothing is trained.
    """
    gone = [one for one in documents if one.document_id in document_ids]
    first, left = _first_holding(rows, gone), _Left(registry, documents, document_ids)
    parent = onto = rows[first - 1].id if first else None
    made: list[NewSegment] = []
    for row in rows[first:]:
        new = left.without(row, parent, (), keeps_shared=True)
        if new is not None:
            made.append(new)
            parent = new.segment_id
    return onto, made


def _check_held(domain: str, documents: Sequence[Document], wanted: Collection[str]) -> None:
    """Refuse what cannot be erased; the questions about a fact go with the fact."""
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
        # A fact's title begins with that of the questions about it: only these are read.
        titles = [one.title for one in documents if one.document_id in wanted]
        asked = {
            one.document_id: self._fact(one)
            for one in documents
            if one.kind == "question" and any(title.startswith(one.title) for title in titles)
        }
        gone = {key: fact for key, fact in asked.items() if fact.document_id in wanted}
        self.gone_facts = [*gone.values()]
        self._documents = [
            one
            for one in documents
            if one.document_id not in wanted and one.document_id not in gone
        ]

    def _fact(self, question: Document) -> Fact:
        return Fact.from_question(self._registry.queries.document_text(question))

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
        facts = [self._fact(one) for one in own if one.kind == "question"]
        return texts, facts

    def kept(
        self, row: StoredSegment, prepared: PreparedCorpus, num_shards: int, off: Collection[int]
    ) -> Kept:
        """Return what of a segment need not be trained again, for what is left of its documents.

        `off` are shards of which an older segment changed.
        """
        own = [one for one in self._documents if one.segment_id == row.id]
        before = {(one.document_id, one.split) for one in own if one.kind == "text"}
        texts = [one.document_id for one in prepared.of("text")]
        moved = before ^ {(key, prepared.splits.split[key]) for key in texts}
        changed = {*off, *(shard_of(document_id, num_shards) for document_id, _ in moved)}
        shards = row.objects_of("shared")
        identity = store_identity(self._registry)
        facts, passages = (
            joined(lists) if (lists := load_owns(self._registry, row, identity, [kind])) else None
            for kind in ("facts", "passages")
        )
        losses = {
            one.document_id: (one.base_nats, one.nats)
            for one in own
            if one.kind == "fact" and one.base_nats is not None and one.nats is not None
        }
        kept = {shard: key for shard, key in shards.items() if shard not in changed}
        return Kept(kept, facts, passages, losses)

    def without(
        self,
        row: StoredSegment,
        parent: str | None,
        off: Collection[int],
        *,
        keeps_shared: bool = False,
    ) -> NewSegment | None:
        """Return a segment without what is erased, some shards off; None where nothing is left.

        With `keeps_shared` its shared experts are something: later segments' grew on them.
        """
        documents = [one for one in self._documents if one.segment_id == row.id]
        learned = [one for one in documents if one.kind in LEARNED_KINDS and one.split == "train"]
        if not learned and not (keeps_shared and row.objects_of("shared")):
            return None
        objects, size = dict(row.objects), row.size_bytes
        for shard in off:
            if (object_id := objects.get(f"shared.{shard}")) is not None:
                size -= self._registry.objects.size(object_id)
            objects[f"shared.{shard}"] = None
            objects.pop(f"use.{shard}", None)
        identity = store_identity(self._registry)
        for name in [f"{kind}.{group_of(key)}" for key in self._wanted for kind in _OWN_KINDS]:
            if (found := objects.get(name)) is None:
                continue
            data = self._registry.objects.read(found)
            own = load_own(data, identity, name=f"{name} of {row.domain} {row.label}")
            left = own.without(self._wanted)
            size -= len(data)
            del objects[name]
            if left is not None:
                written = left.to_bytes(identity)
                objects[name] = self._registry.objects.put_bytes(written)
                size += len(written)
        names = [one.name for one in fields(NewDocument)]
        return NewSegment(
            domain=row.domain,
            parent=parent,
            objects=objects,
            host_layers=row.host_layers,
            num_experts=row.num_experts,
            size_bytes=size,
            num_tokens=sum(one.num_tokens for one in learned),
            documents=[
                NewDocument(**{name: getattr(one, name) for name in names}) for one in documents
            ],
            config=row.config,
            losses=row.losses,
            seconds=row.seconds,
            run_id=row.run_id,
        )


_OWN_KINDS = ("facts", "passages")


def _near_ids(
    registry: Registry,
    documents: Sequence[Document],
    wanted: Collection[str],
    gone_facts: Sequence[Fact],
) -> tuple[str, ...]:
    """Return the documents that stay and may say the same as an erased one."""
    read = registry.queries.document_text
    learned = [one for one in documents if one.kind in LEARNED_KINDS]
    found = set()
    if any(one.document_id in wanted and one.kind == "text" for one in learned):
        # The recorded groups are of one ingest each, so the texts are compared again.
        groups = near_groups(
            replace(stored_document(registry, one), section_of=one.near_group) for one in learned
        )
        of_gone = {groups[key] for key in wanted if key in groups}
        found = {key for key in groups if groups[key] in of_gone}
    for one in learned if gone_facts else ():
        text = read(one)
        if any(fact.subject in text and fact.answer in text for fact in gone_facts):
            found.add(one.document_id)
    return tuple(sorted(found - set(wanted)))
