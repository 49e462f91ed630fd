"""What a caller hands to the registry to be written, checked at construction."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_cl.errors import InputError
from stores.domain_names import check_domain_name
from stores.objects import check_object_id
from stores.words import check_words

TRAIN = "train"
"""The split of what was learned."""
SPLITS = (TRAIN, "validation", "test")
KINDS = ("text", "fact", "probe")
ROWS, MASK = "rows", "mask"
"""Kinds of a segment: keys and rows that were learned, or rows of older segments that are off."""
BASE_SUBJECT = "base"
JOB_KINDS = ("ingest", "evaluate", "erase")
_UUID = re.compile(r"[0-9a-f]{32}")


def check_uuid(kind: str, value: str) -> str:
    """Return the value when it is a uuid in hex."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InputError(f"a {kind}'s id is a uuid4 in hex (32 digits), not {str(value)[:80]!r}")
    return value


def check_json(what: str, value: Any) -> None:
    """Refuse what JSON cannot hold, NaN and infinities too: no other reader could parse them."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} cannot be written as JSON: {error}") from None


def _check_positive(what: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{what} must be at least {least}, not {value}")


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A training run that ended well."""

    run_id: str
    """A uuid4 in hex."""
    config: dict[str, Any]
    """Everything needed to repeat the run; JSON."""
    losses: list[tuple[int, float, float | None]]
    """Step, training nats a token, validation nats a token where measured."""
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    """How long it took."""

    def __post_init__(self) -> None:
        check_uuid("run", self.run_id)
        check_json("the run's config", self.config)
        check_json("the run's losses", self.losses)


@dataclass(frozen=True, kw_only=True)
class NewDocument:
    """A document of a new segment."""

    document_id: str
    """sha256 of the normalised text."""
    title: str
    """Shown to people."""
    source: str
    """Where it came from."""
    split: str
    """train, validation or test."""
    num_tokens: int
    """Tokens, special ones not counted."""
    near_group: str
    """Near-duplicates and sections of one document share it."""
    kind: str = "text"
    """text, fact or probe."""
    text_object: str | None = None
    """Object with the text; None where texts are not kept."""
    section_of: str | None = None
    """The larger document of which this is a part."""
    base_nats: float | None = None
    """Loss of the base, nats a token; None where it was not measured."""
    nats: float | None = None
    """Loss with the domain's pool on, after the segment was trained."""

    def __post_init__(self) -> None:
        check_object_id(self.document_id)
        if self.text_object is not None:
            check_object_id(self.text_object)
        if self.split not in SPLITS:
            raise InputError(f"a document's split is one of {SPLITS}, not {self.split!r}")
        if self.kind not in KINDS:
            raise InputError(f"a document's kind is one of {KINDS}, not {self.kind!r}")
        _check_positive("a document's tokens", self.num_tokens, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class NewUse:
    """Which rows of one host layer fired in which documents; one entry a pair that met."""

    host_layer: int
    documents: NDArray[np.int64]
    """(X,), positions within the segment."""
    rows: NDArray[np.int64]
    """(X,)."""
    weights: NDArray[np.float64]
    """(X,), above 0: router weight summed over the document's tokens."""

    def __post_init__(self) -> None:
        if not len(self.documents) == len(self.rows) == len(self.weights):
            raise InputError(
                f"uses need equal lengths, not {len(self.documents)} documents, {len(self.rows)} "
                f"rows and {len(self.weights)} weights"
            )
        if len(self.weights) and not (
            float(self.weights.min()) > 0 and np.isfinite(self.weights).all()
        ):
            raise InputError("the weights of uses must be positive and finite")


@dataclass(frozen=True, kw_only=True)
class NewSegment:
    """What an ingest grew, ready to be committed: its objects are in the object store already.

    Or, as a mask, which rows of older segments an erasure switched off; it has no documents.
    """

    domain: str
    """The domain it belongs to, new or known."""
    parent: str | None
    """The domain's live version when the run began; None when it was not live."""
    run: NewRun
    """The run that trained it."""
    pool_object: str
    """Object with the tensors."""
    signature_object: str
    """Object with the domain's signature at this version."""
    host_layers: tuple[int, ...]
    """Layers beside which it stands."""
    num_experts: int
    """Expert rows over all host layers."""
    size_bytes: int
    """Bytes of the pool's object."""
    num_tokens: int
    """Training tokens, one pass."""
    documents: list[NewDocument]
    """All documents, held-out ones too."""
    uses: list[NewUse] = field(default_factory=list)
    """One a host layer, of the documents that were learned."""
    use_object: str | None = None
    """Object with each row's mean input."""
    segment_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """A uuid4 in hex."""
    kind: str = ROWS
    """rows or mask."""

    def __post_init__(self) -> None:
        check_domain_name(self.domain)
        check_uuid("segment", self.segment_id)
        check_object_id(self.pool_object)
        check_object_id(self.signature_object)
        if self.use_object is not None:
            check_object_id(self.use_object)
        for use in self.uses:
            if len(use.documents) and int(use.documents.max()) >= len(self.documents):
                raise InputError(
                    f"uses name document {int(use.documents.max())} of {len(self.documents)}"
                )
        if self.kind == MASK:
            if self.parent is None or self.num_experts or self.documents:
                raise InputError("a mask has a parent, and neither experts nor documents")
            return
        if self.kind != ROWS:
            raise InputError(f"a segment's kind is {ROWS!r} or {MASK!r}, not {self.kind!r}")
        _check_positive("a segment's experts", self.num_experts, 1)
        _check_positive("a segment's documents", len(self.documents), 1)
        ids = [document.document_id for document in self.documents]
        if len(set(ids)) < len(ids):
            twice = next(found for found in ids if ids.count(found) > 1)
            raise InputError(f"document {twice} is listed twice in the segment")


@dataclass(frozen=True, kw_only=True)
class NewScore:
    """Per-token log-probabilities of one document under one subject."""

    subject: str
    """A segment's id (the domain at that version), or "base"."""
    document_key: str
    """64 hex digits that name the text, whose it is, and how it was scored."""
    values: bytes
    """float64, little-endian, one a scored token."""
    num_tokens: int
    """Scored tokens."""
    document_id: str | None = None
    """The scored document, so that a purge finds its scores; None for background text."""

    def __post_init__(self) -> None:
        if self.subject != BASE_SUBJECT:
            check_uuid("segment", self.subject)
        check_object_id(self.document_key)
        if self.document_id is not None:
            check_object_id(self.document_id)
        if len(self.values) != 8 * self.num_tokens:
            raise InputError(
                f"scores of {self.num_tokens} tokens take {8 * self.num_tokens} bytes, "
                f"not {len(self.values)}"
            )


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """Work to be done in a process of its own."""

    kind: str
    """ingest, evaluate or erase."""
    domain: str | None
    """Which domain changes; None: the work is about all."""
    request: dict[str, Any]
    """Everything needed to run it; JSON, without a word of a document."""
    who: str
    """Who asked for it."""
    why: str = ""
    """In the person's words."""
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """A uuid4 in hex."""

    def __post_init__(self) -> None:
        check_uuid("job", self.job_id)
        check_words("who", self.who)
        check_words("why", self.why)
        check_json("the job's request", self.request)
        if self.kind not in JOB_KINDS:
            raise InputError(f"a job's kind is one of {JOB_KINDS}, not {self.kind!r}")
        if self.domain is not None:
            check_domain_name(self.domain)
        if not self.request:
            raise InputError("a job needs a request: an empty one is a purged domain's")


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """How far a job is."""

    what: str
    """The piece of work that it is at."""
    done: int
    """Of that piece."""
    total: int
    """Of that piece in all; 0: not known."""
    note: str = ""
    """Said beside it."""
    since: float = 0.0
    """When that piece began, seconds since 1970."""
    done_at_first: int = 0
    """How much of it was done when it began."""
    losses: tuple[tuple[int, float], ...] = ()
    """Step and training nats a token, so far."""
