"""What the registry answers: frozen dataclasses, and the class that fills them.

The functions that take a session are shared with the acts in `stores.registry`, which read within
their own transaction.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import CTE, ColumnElement, Select, case, func, select, true
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, StateError, UnknownError, UnsupportedError, unknown_name
from stores.database import Database, batches
from stores.objects import ObjectStore
from stores.records import Grown, KeptQuestion, NewDocument, Score
from stores.schema import (
    Base,
    DomainRow,
    ErasedRow,
    EvaluationRow,
    EventRow,
    KeptQuestionRow,
    LiveRow,
    RunRow,
    ScoreRow,
    SegmentDocumentRow,
    SegmentRow,
    SnapshotDomainRow,
    SnapshotRow,
)

_T = TypeVar("_T")
MIN_PREFIX = 6
"""Fewest digits that may stand for an id."""
ROLLBACK_STORE = "rollback-store"
"""The action of a rollback of the whole store."""
_KINDS = {
    "shared": "the shared experts",
    "use": "the shared experts' use",
    "facts": "facts' own experts",
    "passages": "passages' own experts",
    "key": "the router key",
}
"""What objects of segments are."""
_NO_STATE = {"version": None, "label": None, "is_frozen": False, "is_enabled": False}


@dataclass(frozen=True)
class DomainState:
    """A domain within a snapshot."""

    domain: str
    version: str
    label: str
    is_frozen: bool
    is_enabled: bool


@dataclass(frozen=True)
class Snapshot:
    """An immutable state of the whole store; domains are sorted by name."""

    id: int
    parent_id: int | None
    created_at: str
    action: str
    domains: tuple[DomainState, ...]
    calibration: dict[str, Any] | None = field(default=None, hash=False)
    """Of requests, as `pipelines.answer.calibration` reads it; None: the project's own."""

    def state(self, domain: str) -> DomainState | None:
        """Return the domain's state, or None when it is not in this snapshot."""
        return next((state for state in self.domains if state.domain == domain), None)

    @property
    def index_tag(self) -> str:
        """Name what a model of this snapshot is made of: versions and switches alone."""
        content = [(state.domain, state.version, state.is_enabled) for state in self.domains]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """A domain that two snapshots hold differently."""

    domain: str
    before: DomainState | None
    after: DomainState | None

    @property
    def words(self) -> tuple[str, ...]:
        """What changed, one short line each."""
        old, new = self.before, self.after
        if old is None:
            return (f"in at {new.label}",) if new else ()
        if new is None:
            return (f"out (it was at {old.label})",)
        found = [f"from {old.label} to {new.label}"] if old.version != new.version else []
        if old.is_frozen != new.is_frozen:
            found.append("frozen" if new.is_frozen else "no longer frozen")
        if old.is_enabled != new.is_enabled:
            found.append("enabled" if new.is_enabled else "disabled")
        return tuple(found)


def changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """Return the domains that differ between two snapshots, by name."""
    names = sorted({state.domain for state in (*before.domains, *after.domains)})
    pairs = [Change(name, before.state(name), after.state(name)) for name in names]
    return tuple(pair for pair in pairs if pair.before != pair.after)


@dataclass(frozen=True, kw_only=True)
class Segment(Grown):
    """What one ingest grew, as it is stored."""

    id: str
    label: str
    ordinal: int
    parent_id: str | None
    snapshot_id: int
    created_at: str
    is_purged: bool


@dataclass(frozen=True, kw_only=True)
class Document(NewDocument):
    """A document within a segment."""

    segment_id: str
    domain: str


@dataclass(frozen=True)
class DocumentPlace:
    """A document where one segment holds it."""

    document: Document
    label: str
    """Of the segment's version."""
    snapshot_id: int
    """With which the segment came."""
    created_at: str
    is_live: bool


@dataclass(frozen=True)
class DomainSummary:
    """One line about a domain; counts are those of its live version unless stated otherwise."""

    domain: str
    version: str | None
    label: str | None
    is_live: bool
    is_frozen: bool
    is_enabled: bool
    is_purged: bool
    num_segments: int
    num_documents: int
    """Of every kind and split."""
    num_texts: int
    """That were learned."""
    num_facts: int
    num_held_out: int
    """Texts that were not learned, to measure on."""
    num_tokens: int
    num_experts: int
    size_bytes: int
    stored_bytes: int
    """Of the pools of all versions that were not purged, live or not."""
    created_at: str
    changed_at: str


@dataclass(frozen=True)
class Event:
    """What was done, by whom, when and why."""

    id: int
    at: str
    author: str
    action: str
    domain: str | None
    version: str | None
    label: str | None
    snapshot_id: int
    message: str


@dataclass(frozen=True)
class DomainDetail:
    """Everything about a domain but its documents."""

    summary: DomainSummary
    chain: tuple[Segment, ...]
    """Of the live version, oldest first."""
    earlier: tuple[Segment, ...]
    """Versions to which it may be rolled back, oldest first."""
    versions: tuple[Segment, ...]
    """All that were ever made, purged ones too."""
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Run:
    """An act that takes long, in one process, and its progress."""

    id: str
    kind: str
    """ingest, evaluate or erase."""
    domain: str | None
    state: str
    """running, done, failed or cancelled."""
    author: str
    message: str
    host: str
    pid: int
    what: str
    done: int
    total: int
    """0: not known."""
    note: str
    losses: tuple[tuple[int, float], ...]
    started_at: str
    updated_at: str
    ended_at: str | None
    error: str | None
    snapshot_id: int | None
    is_lost: bool
    """Still in state running, but its process on this host is gone."""


@dataclass(frozen=True)
class Evaluation:
    """The report of a snapshot's last evaluation, as `EvaluationReport.to_json` gives it."""

    snapshot: Snapshot
    created_at: str
    report: dict[str, Any]


@dataclass(frozen=True)
class PurgeResult:
    """What a purge deleted, and afterwards looked for and did not find."""

    domain: str
    num_segments: int
    num_documents: int
    num_objects: int
    num_shared_objects: int
    """Kept, because something else still needs them."""
    size_bytes: int
    snapshots: tuple[int, ...]
    """Snapshots that held the purged versions and cannot be restored whole any more."""


@dataclass(frozen=True)
class Finding:
    """Something that a check of the store found."""

    kind: str
    severity: str
    """note (harmless), warning (work is to be redone) or error (data is missing or damaged)."""
    what: str
    action: str
    """What was done, or is to be done."""


# Reading within a session


def read_live(session: Session) -> Snapshot:
    """Return the live snapshot."""
    return read_snapshot(session, read_live_id(session))


def read_live_id(session: Session) -> int:
    """Return the id of the live snapshot."""
    found: int | None = session.scalar(select(LiveRow.snapshot_id))
    if found is None:
        raise DamageError("the registry has no live snapshot; restore it from a copy")
    return found


def read_snapshot(session: Session, snapshot_id: int) -> Snapshot:
    """Return a snapshot, or raise UnknownError."""
    found = _read_snapshots(session, SnapshotRow.id == snapshot_id) if snapshot_id < 2**31 else ()
    if not found:
        last = session.scalar(select(func.max(SnapshotRow.id)))
        raise UnknownError(f"no snapshot {snapshot_id}; there are 1 to {last}: see `peer-cl log`")
    return found[0]


def _read_snapshots(session: Session, where: ColumnElement[bool]) -> tuple[Snapshot, ...]:
    """Return the snapshots that fit a condition, oldest first."""
    rows = session.scalars(select(SnapshotRow).where(where).order_by(SnapshotRow.id)).all()
    states: dict[int, list[DomainState]] = {row.id: [] for row in rows}
    entries = (
        # Columns, not rows as objects: of many domains these take longer than all else.
        select(
            SnapshotDomainRow.snapshot_id,
            DomainRow.name,
            SnapshotDomainRow.segment_id,
            SegmentRow.label,
            SnapshotDomainRow.is_frozen,
            SnapshotDomainRow.is_enabled,
        )
        .join(DomainRow, DomainRow.id == SnapshotDomainRow.domain_id)
        .join(SegmentRow, SegmentRow.id == SnapshotDomainRow.segment_id)
        .join(SnapshotRow, SnapshotRow.id == SnapshotDomainRow.snapshot_id)
        .where(where)
        .order_by(DomainRow.name)
    )
    for snapshot_id, name, version, label, is_frozen, is_enabled in session.execute(entries):
        state = DomainState(name, version, label, is_frozen, is_enabled)
        states[snapshot_id].append(state)
    return tuple(from_row(Snapshot, row, domains=tuple(states[row.id])) for row in rows)


def find_domain(session: Session, domain: str) -> DomainRow:
    """Return the row of a domain, or raise UnknownError with the nearest name."""
    row = session.scalar(select(DomainRow).where(DomainRow.name == domain))
    if row is None:
        raise unknown_name("domain", domain, session.scalars(select(DomainRow.name)))
    return row


def live_state(session: Session, domain: str, snapshot: Snapshot | None = None) -> DomainState:
    """Return the state of a domain in a snapshot (default: the live one).

    Raises: UnknownError: when there never was such a domain; StateError: when it is not there.
    """
    snapshot = snapshot or read_live(session)
    state = snapshot.state(domain)
    if state is not None:
        return state
    row = find_domain(session, domain)
    versions = select(SegmentRow.id).where(SegmentRow.domain_id == row.id)
    if session.scalar(versions.where(SegmentRow.purged_at.is_(None)).limit(1)) is None:
        why = "it was purged; ingest it again"
    elif read_live(session).state(domain) is not None:
        why = "the live snapshot has it"
    else:
        why = f"it was removed; `peer-cl restore {domain}` brings it back"
    raise StateError(f"domain {domain!r} is not in snapshot {snapshot.id}: {why}")


def chain_of(versions: Iterable[str]) -> CTE:
    """Return the segments of each version as rows (version, segment_id, parent_id)."""
    last = select(
        SegmentRow.id.label("version"), SegmentRow.id.label("segment_id"), SegmentRow.parent_id
    )
    tree = last.where(SegmentRow.id.in_(list(versions))).cte(recursive=True)
    older = select(tree.c.version, SegmentRow.id, SegmentRow.parent_id)
    return tree.union_all(older.join(tree, SegmentRow.id == tree.c.parent_id))


def read_chains(session: Session, versions: Iterable[str]) -> dict[str, tuple[Segment, ...]]:
    """Return the segments of each version, oldest first, in one statement."""
    wanted = list(dict.fromkeys(versions))
    chain = chain_of(wanted)
    found: dict[str, list[Segment]] = {version: [] for version in wanted}
    rows = session.execute(
        select(chain.c.version, SegmentRow, DomainRow.name)
        .join(SegmentRow, SegmentRow.id == chain.c.segment_id)
        .join(DomainRow, DomainRow.id == SegmentRow.domain_id)
        .order_by(SegmentRow.ordinal)
    )
    for version, row, name in rows:
        found[version].append(_to_segment(row, name))
    for version, segments in found.items():
        if not segments:
            raise UnknownError(f"no version {version[:80]!r}; see `peer-cl log`")
    return {version: tuple(segments) for version, segments in found.items()}


def read_versions(session: Session, domain: str) -> tuple[Segment, ...]:
    """Return all segments ever made in a domain, in order, purged ones too."""
    row = find_domain(session, domain)
    of_domain = select(SegmentRow).where(SegmentRow.domain_id == row.id)
    found = session.scalars(of_domain.order_by(SegmentRow.ordinal))
    return tuple(_to_segment(segment, domain) for segment in found)


def read_version(session: Session, domain: str, text: str) -> Segment:
    """Return the segment that a label, an id or a unique prefix means, or raise UnknownError."""
    versions = read_versions(session, domain)
    found = [segment for segment in versions if text in (segment.id, segment.label)]
    if not found and len(text) >= MIN_PREFIX:
        found = [segment for segment in versions if segment.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    raise unknown_name(f"version of {domain}", text, [segment.label for segment in versions])


def read_earlier(session: Session, state: DomainState) -> tuple[Segment, ...]:
    """Return the versions to which a live domain may be rolled back, oldest first.

    Those on which its live version was ingested, even where that left out documents of changed
    files and so stands on other segments; else the older ones of its chain.
    """
    chain = read_chains(session, [state.version])[state.version]
    came = session.get_one(SnapshotRow, chain[-1].snapshot_id)
    if came.action == "ingest" and came.parent_id is not None:
        before = session.scalar(
            select(SnapshotDomainRow.segment_id).where(
                SnapshotDomainRow.snapshot_id == came.parent_id,
                SnapshotDomainRow.domain_id == find_domain(session, state.domain).id,
            )
        )
        if before is not None:
            return read_chains(session, [before])[before]
    return chain[:-1]


def read_doomed(session: Session, domain: str, *, retired: bool) -> tuple[Segment, ...]:
    """Return the segments that a purge would delete, or raise StateError where it may not be."""
    state, versions = read_live(session).state(domain), read_versions(session, domain)
    if state is not None and not retired:
        raise StateError(
            f"domain {domain!r} is live; `peer-cl remove {domain}` first, or purge only what no "
            f"live version holds with `peer-cl purge {domain} --retired`"
        )
    if state is None and retired:
        raise StateError(
            f"domain {domain!r} is not live, so all of it is retired: `peer-cl purge {domain}`"
        )
    live = read_chains(session, [state.version])[state.version] if state else ()
    kept = {segment.id for segment in live}
    return tuple(one for one in versions if one.id not in kept and not one.is_purged)


def _is_within(versions: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a document stands in a segment of some versions."""
    return SegmentDocumentRow.segment_id.in_(select(chain_of(versions).c.segment_id))


def document_ids(version: str) -> Select[str]:
    """Return the query of the ids of a version's documents."""
    return select(SegmentDocumentRow.document_id).where(_is_within([version]))


def needed_objects(session: Session, where: ColumnElement[bool] | None = None) -> dict[str, str]:
    """Return the ids of all objects that segments name (default: unpurged ones), with their use."""
    where = SegmentRow.purged_at.is_(None) if where is None else where
    needed: dict[str, str] = {}
    texts = select(SegmentDocumentRow.text_object, DomainRow.name).select_from(SegmentDocumentRow)
    for text_object, name in session.execute(texts.join(SegmentRow).join(DomainRow).where(where)):
        if text_object is not None:
            needed[text_object] = f"a document of {name}"
    segments = select(SegmentRow, DomainRow.name).select_from(SegmentRow).join(DomainRow)
    for row, name in session.execute(segments.where(where)):
        segment = _to_segment(row, name)
        for what, key in segment.objects.items():
            if key is not None:
                needed[key] = f"{_KINDS[what.partition('.')[0]]} of {name} {segment.label}"
    return needed


class Queries:
    """Answers questions about a store, each from one state of it."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    # Snapshots and versions

    def live(self) -> Snapshot:
        """Return the live snapshot."""
        with self._database.reading() as session:
            return read_live(session)

    def live_id(self) -> int:
        """Return the id of the live snapshot, without its domains."""
        with self._database.reading() as session:
            return read_live_id(session)

    def snapshot(self, snapshot_id: int) -> Snapshot:
        """Return a snapshot by its id."""
        with self._database.reading() as session:
            return read_snapshot(session, snapshot_id)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return every snapshot, oldest first."""
        with self._database.reading() as session:
            return _read_snapshots(session, true())

    def ancestry(self, snapshot_id: int) -> tuple[Snapshot, ...]:
        """Return a snapshot and all that were live before it, oldest first."""
        last = self.snapshot(snapshot_id).id
        return tuple(one for one in self.snapshots() if one.id <= last)

    def check_active(self, domain: str, snapshot: Snapshot | None = None) -> DomainState:
        """Return a domain's state in a snapshot (default: the live one), or raise UnknownError or
        StateError where it cannot be active."""
        with self._database.reading() as session:
            state = live_state(session, domain, snapshot)
        if not state.is_enabled:
            raise StateError(f"domain {domain!r} is disabled; `peer-cl enable {domain}` first")
        return state

    def chain(self, version: str) -> tuple[Segment, ...]:
        """Return the segments of a version (a full id), oldest first."""
        return self.chains([version])[version]

    def chains(self, versions: Iterable[str]) -> dict[str, tuple[Segment, ...]]:
        """Return the segments of several versions, by version."""
        with self._database.reading() as session:
            return read_chains(session, versions)

    def pending(self, domains: Iterable[str]) -> tuple[str, ...]:
        """Return those of some live domains whose shared experts wait to be trained anew."""
        wanted = set(domains)
        versions = {one.domain: one.version for one in self.live().domains if one.domain in wanted}
        chains = self.chains(versions.values()) if versions else {}
        return tuple(
            domain
            for domain, version in versions.items()
            if any(segment.pending_shards for segment in chains[version])
        )

    def purged_versions(self) -> frozenset[str]:
        """Return the ids of all versions whose bytes are gone."""
        purged = select(SegmentRow.id).where(SegmentRow.purged_at.is_not(None))
        with self._database.reading() as session:
            return frozenset(session.scalars(purged))

    def purgeable(self, domain: str, *, retired: bool = False) -> tuple[str, ...]:
        """Return the labels of the versions that `Registry.purge` would delete."""
        with self._database.reading() as session:
            return tuple(one.label for one in read_doomed(session, domain, retired=retired))

    # Domains and events

    def domains(self) -> tuple[DomainSummary, ...]:
        """Return one line for every domain that ever was, sorted by name."""
        with self._database.reading() as session:
            return _read_summaries(session)

    def domain(self, name: str) -> DomainDetail:
        """Return everything about a domain but its documents."""
        with self._database.reading() as session:
            find_domain(session, name)
            summary = next(one for one in _read_summaries(session) if one.domain == name)
            version, state = summary.version, read_live(session).state(name)
            return DomainDetail(
                summary=summary,
                chain=read_chains(session, [version])[version] if version else (),
                earlier=read_earlier(session, state) if state else (),
                versions=read_versions(session, name),
                events=_read_events(session, None, name),
            )

    def events(self, limit: int | None = None, domain: str | None = None) -> tuple[Event, ...]:
        """Return events, the newest first; of a domain also the rollbacks of the whole store that
        changed it."""
        with self._database.reading() as session:
            return _read_events(session, limit, domain)

    # Documents

    def documents(
        self,
        domain: str,
        version: str | None = None,
        split: str | None = None,
        kind: str | None = None,
    ) -> tuple[Document, ...]:
        """Return the documents of a domain at a version (default: the live one), oldest first."""
        with self._database.reading() as session:
            if version is None:
                found = live_state(session, domain).version
            else:
                found = read_version(session, domain, version).id
            wanted = _is_within([found])
            if split is not None:
                wanted &= SegmentDocumentRow.split == split
            if kind is not None:
                wanted &= SegmentDocumentRow.kind == kind
            return _read_documents(session, wanted)

    def places(self, document_id_prefix: str) -> tuple[DocumentPlace, ...]:
        """Return every place, oldest first, that holds the one document that an id, or its
        beginning, means."""
        with self._database.reading() as session:
            document_id = _resolve_document(session, document_id_prefix)
            documents = _read_documents(session, SegmentDocumentRow.document_id == document_id)
            holders = SegmentRow.id.in_({document.segment_id for document in documents})
            segments = {one.id: one for one in session.scalars(select(SegmentRow).where(holders))}
            live = chain_of(state.version for state in read_live(session).domains)
            live_ids = set(session.scalars(select(live.c.segment_id)))
        found = []
        for one in documents:
            segment, is_live = segments[one.segment_id], one.segment_id in live_ids
            found.append(from_row(DocumentPlace, segment, document=one, is_live=is_live))
        return tuple(sorted(found, key=lambda place: place.snapshot_id))

    def document_text(self, document: Document) -> str:
        """Return a document's text, verified, or raise UnsupportedError where none is kept."""
        if document.text_object is None:
            raise UnsupportedError(
                f"the text of document {document.document_id} was not kept: its store was made "
                "with keep_text = false"
            )
        return self._objects.read_text(document.text_object)

    def erased(self, domain: str) -> dict[str, str]:
        """Return the ids of a domain's erased documents, with the time of erasure.

        A document that the live version holds again (a rollback with erased ones) is left out.
        """
        with self._database.reading() as session:
            query = (
                select(ErasedRow.document_id, ErasedRow.at)
                .join(DomainRow, DomainRow.id == ErasedRow.domain_id)
                .where(DomainRow.name == domain)
            )
            state = read_live(session).state(domain)
            if state is not None:
                query = query.where(ErasedRow.document_id.not_in(document_ids(state.version)))
            return {row[0]: row[1] for row in session.execute(query)}

    # Scores and evaluations

    def scores(self, subject: str, keys: Iterable[str]) -> dict[str, Score]:
        """Return the stored scores of a subject, by document key."""
        import numpy as np  # verbs that only look at the registry do without

        found: dict[str, Score] = {}
        with self._database.reading() as session:
            of_subject = select(ScoreRow).where(ScoreRow.subject == subject)
            for some in batches(keys):
                for row in session.scalars(of_subject.where(ScoreRow.document_key.in_(some))):
                    log_probs = np.frombuffer(row.log_probs, "<f8")
                    found[row.document_key] = from_row(Score, row, log_probs=log_probs)
        return found

    def evaluation(self, snapshot_id: int) -> Evaluation | None:
        """Return the last evaluation of a snapshot, or None."""
        with self._database.reading() as session:
            snapshot = read_snapshot(session, snapshot_id)
            row = session.get(EvaluationRow, snapshot_id)
            return from_row(Evaluation, row, snapshot=snapshot) if row else None

    def evaluations(self, snapshot_id: int) -> tuple[Evaluation, ...]:
        """Return the evaluations of a snapshot and of all before it, the oldest first."""
        with self._database.reading() as session:
            query = select(EvaluationRow).where(EvaluationRow.snapshot_id <= snapshot_id)
            rows = {row.snapshot_id: row for row in session.scalars(query)}
            snapshots = _read_snapshots(session, SnapshotRow.id.in_(rows))
            return tuple(from_row(Evaluation, rows[one.id], snapshot=one) for one in snapshots)

    def kept_questions(self) -> tuple[KeptQuestion, ...]:
        """Return people's questions about documents that are live and enabled, by their hash."""
        row, found = KeptQuestionRow, list[KeptQuestion]()
        with self._database.reading() as session:
            for state in read_live(session).domains:
                if state.is_enabled:
                    is_own = row.domain_id == find_domain(session, state.domain).id
                    is_live = row.document_id.in_(document_ids(state.version))
                    kept = select(row).where(is_own, is_live).order_by(row.question_sha256)
                    found += [
                        from_row(KeptQuestion, one, domain=state.domain)
                        for one in session.scalars(kept)
                    ]
        return tuple(found)

    # Runs

    def runs(self, limit: int | None = None) -> tuple[Run, ...]:
        """Return runs, the newest first."""
        query = select(RunRow).order_by(RunRow.started_at.desc()).limit(limit)
        with self._database.reading() as session:
            return tuple(_to_run(row) for row in session.scalars(query))

    def run(self, run_id: str) -> Run:
        """Return the run that an id, or the beginning of one, means, or raise UnknownError."""
        query = select(RunRow).where(RunRow.id.startswith(run_id, autoescape=True)).limit(2)
        with self._database.reading() as session:
            rows = session.scalars(query).all()
        if len(rows) != 1:
            raise UnknownError(f"no run, or several, with id {run_id[:80]!r}; see `peer-cl runs`")
        return _to_run(rows[0])


def from_row(kind: type[_T], row: Base, **others: Any) -> _T:
    """Return a dataclass with the fields of a row, and others."""
    names = [field.name for field in dataclasses.fields(kind) if field.name not in others]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names}, **others)


def _to_segment(row: SegmentRow, domain: str) -> Segment:
    return from_row(
        Segment,
        row,
        domain=domain,
        host_layers=tuple(row.host_layers),
        losses=tuple((step, train, validation) for step, train, validation in row.losses),
        is_purged=row.purged_at is not None,
    )


def _to_run(row: RunRow) -> Run:
    is_ours = row.host == socket.gethostname()
    return from_row(
        Run,
        row,
        losses=tuple((step, nats) for step, nats in row.losses),
        is_lost=row.state == "running" and is_ours and not _is_alive(row.pid),
    )


def _is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # another user's
    return True


def _read_documents(session: Session, where: ColumnElement[bool]) -> tuple[Document, ...]:
    """Return the documents that fit a condition: the oldest segment's first, in their order."""
    row = SegmentDocumentRow
    found = session.execute(
        select(row, DomainRow.name)
        .join(SegmentRow, SegmentRow.id == row.segment_id)
        .join(DomainRow, DomainRow.id == SegmentRow.domain_id)
        .where(where)
        .order_by(SegmentRow.ordinal, row.position)
    )
    return tuple(from_row(Document, link, domain=name) for link, name in found)


def _resolve_document(session: Session, text: str) -> str:
    """Return the id of the one document that an id, or the beginning of one, means."""
    wanted = text.strip().lower()
    column = SegmentDocumentRow.document_id
    at_least = select(column).where(column >= wanted).distinct().order_by(column).limit(2)
    fit = [found for found in session.scalars(at_least) if found.startswith(wanted)]
    if len(fit) == 1 and len(wanted) >= MIN_PREFIX:
        return fit[0]
    why = "several begin so" if len(fit) > 1 else "none begins so"
    raise UnknownError(
        f"no document {text[:80]!r} ({why}): give its id, or the first {MIN_PREFIX} or more of its "
        "64 hex digits; see `peer-cl documents DOMAIN`"
    )


def _read_summaries(session: Session) -> tuple[DomainSummary, ...]:
    live = read_live(session)
    versions = [state.version for state in live.domains]
    chains, counts = read_chains(session, versions), _count_documents(session, versions)
    sizes = select(SegmentRow.domain_id, func.sum(SegmentRow.size_bytes))
    sizes = sizes.where(SegmentRow.purged_at.is_(None)).group_by(SegmentRow.domain_id)
    stored = {domain_id: int(size) for domain_id, size in session.execute(sizes)}
    changed = _changed_at(session)
    summaries = []
    for row in session.scalars(select(DomainRow).order_by(DomainRow.name)):
        state = live.state(row.name)
        chain = chains[state.version] if state else ()
        held = counts[state.version] if state else Counter()
        texts, facts = (sum(held[key] for key in held if key[0] == k) for k in ("text", "fact"))
        summaries.append(
            DomainSummary(
                **(vars(state) if state else _NO_STATE | {"domain": row.name}),
                is_live=state is not None,
                is_purged=row.id not in stored,
                num_segments=len(chain),
                num_documents=held.total(),
                num_texts=held["text", "train"],
                num_facts=facts,
                num_held_out=texts - held["text", "train"],
                num_tokens=sum(segment.num_tokens for segment in chain),
                num_experts=sum(segment.num_experts for segment in chain),
                size_bytes=sum(segment.size_bytes for segment in chain),
                stored_bytes=stored.get(row.id, 0),
                created_at=row.created_at,
                changed_at=changed.get(row.name, ""),
            )
        )
    return tuple(summaries)


def _count_documents(
    session: Session, versions: Iterable[str]
) -> dict[str, Counter[tuple[str, str]]]:
    """Return how many documents of each (kind, split) each version has, each of them once.

    One that was held out in a segment and learned in another counts as learned.
    """
    found: dict[str, Counter[tuple[str, str]]] = {version: Counter() for version in versions}
    chain, row = chain_of(found), SegmentDocumentRow
    order = case((row.split == "train", "0"), else_="1")
    standing = func.min(order + "/" + row.kind + "/" + row.split).label("standing")
    held = select(chain.c.version, standing).join(chain, chain.c.segment_id == row.segment_id)
    each = held.group_by(chain.c.version, row.document_id).subquery()
    query = select(each.c.version, each.c.standing, func.count())
    for version, found_as, num in session.execute(query.group_by(each.c.version, each.c.standing)):
        _, kind, split = found_as.split("/")
        found[version][kind, split] = num
    return found


def _read_events(session: Session, limit: int | None, domain: str | None) -> tuple[Event, ...]:
    query = (
        select(EventRow, DomainRow.name, SegmentRow.label)
        .outerjoin(DomainRow, DomainRow.id == EventRow.domain_id)
        .outerjoin(SegmentRow, SegmentRow.id == EventRow.segment_id)
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    if domain is not None:
        own = EventRow.domain_id == find_domain(session, domain).id
        rolled = [one.id for one, names in _store_rollbacks(session) if domain in names]
        is_rolled = EventRow.domain_id.is_(None) & EventRow.snapshot_id.in_(rolled)
        query = query.where(own | is_rolled)
    return tuple(
        from_row(Event, row, domain=name, version=row.segment_id, label=label)
        for row, name, label in session.execute(query)
    )


def _changed_at(session: Session) -> dict[str, str]:
    """Return the time of the last act that changed each domain."""
    query = select(DomainRow.name, func.max(EventRow.at)).join(EventRow).group_by(DomainRow.name)
    found = {row[0]: row[1] for row in session.execute(query)}
    for snapshot, names in _store_rollbacks(session):
        found |= {name: max(found[name], snapshot.created_at) for name in names}
    return found


def _store_rollbacks(session: Session) -> list[tuple[Snapshot, set[str]]]:
    """Return the snapshots of rollbacks of the whole store, with the domains that each changed.

    Their events name no domain, so each is compared with the snapshot before it.
    """
    is_rolled = SnapshotRow.action == ROLLBACK_STORE
    before = select(SnapshotRow.parent_id).where(is_rolled)
    found = {
        one.id: one for one in _read_snapshots(session, is_rolled | SnapshotRow.id.in_(before))
    }
    return [
        (one, {change.domain for change in changes(found[one.parent_id], one)})
        for one in found.values()
        if one.action == ROLLBACK_STORE and one.parent_id is not None
    ]
