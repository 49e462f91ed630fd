"""What readers get: frozen dataclasses, one for each question."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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

    def state(self, domain: str) -> DomainState | None:
        """Return the domain's state, or None when it is not in this snapshot."""
        return next((state for state in self.domains if state.domain == domain), None)

    @property
    def index_tag(self) -> str:
        """What an index over this snapshot's signatures is tagged with.

        It depends on versions and switches alone, so freezing does not make an index stale and
        rolling back finds the old one right again.
        """
        content = [(state.domain, state.version, state.is_enabled) for state in self.domains]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Segment:
    """What one ingest grew ("rows"), or which older rows an erasure switched off ("mask")."""

    id: str
    domain: str
    label: str
    ordinal: int
    parent_id: str | None
    run_id: str
    kind: str
    pool_object: str
    use_object: str | None
    signature_object: str
    host_layers: tuple[int, ...]
    num_experts: int
    size_bytes: int
    num_tokens: int
    created_at: str
    is_purged: bool


@dataclass(frozen=True)
class Document:
    """A document within a segment."""

    document_id: str
    segment_id: str
    domain: str
    title: str
    source: str
    split: str
    kind: str
    num_tokens: int
    near_group: str
    text_object: str | None
    section_of: str | None = None
    base_nats: float | None = None
    """Loss of the base, nats a token; None where it was not learned from."""
    nats: float | None = None
    """Loss with the domain's pool on, right after the segment came."""


@dataclass(frozen=True)
class HeldDocument:
    """What people see of a document that a row holds."""

    document_id: str
    title: str
    source: str
    kind: str


@dataclass(frozen=True, eq=False)
class Ranking:
    """Documents of one segment by how alike their rows are to those that a text asks."""

    best: tuple[tuple[HeldDocument, float], ...]
    """With their scores, 0 to 1, the most alike first; none that has no row in common."""
    scores: NDArray[np.float64]
    """(X,), of every learned document that its rows tell from others, in no order of rank."""


@dataclass(frozen=True, eq=False)
class DocumentUse:
    """The rows of one host layer of one segment that a learned document uses."""

    segment_id: str
    host_layer: int
    rows: NDArray[np.int64]
    """(X,), ascending."""
    weights: NDArray[np.float64]
    """(X,), router weight summed over the document's tokens."""


@dataclass(frozen=True)
class ExpertUse:
    """How much one row is used, over all documents that its segment learned."""

    segment_id: str
    host_layer: int
    row: int
    weight: float
    """Router weight, summed over tokens and documents."""
    num_documents: int
    effective_documents: float
    """exp of the entropy of its weight over documents."""


@dataclass(frozen=True)
class HeldBy:
    """What one row holds: documents, the one with the largest share of its weight first."""

    use: ExpertUse
    documents: tuple[HeldDocument, ...]
    shares: tuple[float, ...]
    """Of the row's weight; they add up to one."""


@dataclass(frozen=True)
class DocumentPlace:
    """A document where one segment holds it.

    label: of the segment's version. snapshot_id: the snapshot in which the segment came. is_live:
    whether the segment is in its domain's live chain. is_masked: whether a mask in that chain is
    for this document, so that its own rows are off.
    """

    document: Document
    label: str
    run_id: str
    snapshot_id: int
    created_at: str
    is_live: bool
    is_masked: bool


@dataclass(frozen=True)
class Run:
    """A training run that ended well."""

    run_id: str
    segment_id: str
    config: dict[str, Any]
    losses: tuple[tuple[int, float, float | None], ...]
    started_at: str
    seconds: float


@dataclass(frozen=True)
class DomainSummary:
    """One line about a domain; counts are those of its live chain where nothing else is said."""

    domain: str
    version: str | None
    label: str | None
    is_live: bool
    is_frozen: bool
    is_enabled: bool
    is_purged: bool
    num_segments: int
    num_documents: int
    """Of every kind and split: texts, facts and test questions."""
    num_texts: int
    """Texts that were learned."""
    num_facts: int
    num_held_out: int
    """Texts that nobody learned, to measure on; test questions do not count."""
    num_tokens: int
    """That were learned, read once."""
    num_experts: int
    size_bytes: int
    kept_documents: int
    """Of all its versions, live or not, whose bytes are there."""
    kept_bytes: int
    """Of the pools of those versions."""
    created_at: str
    changed_at: str


@dataclass(frozen=True)
class DomainDetail:
    """Everything about a domain but its documents."""

    summary: DomainSummary
    chain: tuple[Segment, ...]
    versions: tuple[Segment, ...]
    runs: tuple[Run, ...]
    documents_by_split: dict[str, int]
    documents_by_kind: dict[str, int]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Event:
    """What was done, by whom, when and why."""

    id: int
    at: str
    who: str
    action: str
    domain: str | None
    version: str | None
    label: str | None
    snapshot_id: int
    why: str


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; the report is what `pipelines.evaluate.evaluate` returns."""

    snapshot: Snapshot
    """Of which it is."""
    created_at: str
    report: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Work in a process of its own, as it was told last."""

    id: str
    kind: str
    """ingest, evaluate or erase."""
    domain: str | None
    request: dict[str, Any]
    """What was asked for; {} once its domain, or a document that it is to erase, was purged."""
    who: str
    why: str
    state: str
    """waiting, running, done, failed, cancelled; lost: its process is gone without an end."""
    pid: int | None
    host: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    is_cancel_asked: bool
    heartbeat: float
    """When its process was heard of last, seconds since 1970."""
    what: str
    done: int
    total: int
    note: str
    since: float
    """When the piece of work that it is at began, seconds since 1970."""
    done_at_first: int
    losses: tuple[tuple[int, float], ...]
    """Step and training nats a token."""
    error: str | None
    snapshot_id: int | None
    """What it made, as soon as it did, or evaluated."""

    @property
    def is_open(self) -> bool:
        """Whether it goes on by itself."""
        return self.state in ("waiting", "running")

    @property
    def is_unmeasured(self) -> bool:
        """Whether what it did is in the store, but its evaluation did not end well."""
        is_changed = self.kind != "evaluate" and self.snapshot_id is not None
        return is_changed and not self.is_open and self.state != "done"

    @property
    def speed(self) -> float | None:
        """How much of the piece of work is done a second; None: not to be told yet."""
        seconds, done = self.heartbeat - self.since, self.done - self.done_at_first
        return done / seconds if self.since and seconds > 0 and done > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """How long the piece of work takes on, at its speed until now; None: not to be told."""
        speed = self.speed
        return (self.total - self.done) / speed if speed and self.total else None


@dataclass(frozen=True)
class RunSpeed:
    """How long a training run took, all passes and the recording of use included."""

    num_tokens: int
    """Of its documents, read once, facts among them."""
    num_fact_tokens: int
    seconds: float
    text_passes: float
    fact_passes: float
    least_steps: int
    tokens_per_step: int


@dataclass(frozen=True)
class EvaluatedSnapshot:
    """A snapshot of which an evaluation's report is stored."""

    snapshot_id: int
    evaluated_at: str


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """What the base, and a version run alone, make of a held-out document."""

    document_id: str
    title: str
    source: str
    base_log_probs: NDArray[np.float64]
    """(T,), nats: each token that counts (no start, no special one), given those before it."""
    log_probs: NDArray[np.float64]
    """(T,), the same with the version's pool on, whatever its signature says."""
    asked_log_probs: NDArray[np.float64] | None = None
    """(P, T), the same with each of the versions that are asked on, one at a time; None where one
    of them did not score the document."""


@dataclass(frozen=True)
class PurgeResult:
    """What a purge deleted; it was looked for again afterwards and not found."""

    domain: str
    num_segments: int
    num_documents: int
    num_scores: int
    num_evaluations: int
    num_objects: int
    num_shared_objects: int
    size_bytes: int
    snapshots: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """Something that a check of the store found.

    severity: "note" (harmless), "warning" (work was lost or is to be redone) or "error" (data of
    the live or an older snapshot is missing or damaged). action: what was done, or is to be done.
    """

    kind: str
    severity: str
    what: str
    action: str
