"""What a caller hands to the registry to be written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from peer_cl.errors import InputError

if TYPE_CHECKING:  # verbs that only look at the registry do without numpy
    import numpy as np
    from numpy.typing import NDArray

BASE_SUBJECT = "base"
"""The subject of the bare base's scores; so no domain may be called so."""
MAX_TEXT = 2000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_domain_name(name: str) -> str:
    """Return the name, or raise InputError where no domain may be called so.

    Names are typed in commands and shown in tables, so they are short, plain and unlike paths.

    Example:
        >>> check_domain_name("law-2024")
        'law-2024'
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"a domain cannot be called {name[:80]!r}: use 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    if name == BASE_SUBJECT:
        raise InputError(f"a domain cannot be called {name!r}: tables name the bare model so")
    return name


def check_text(what: str, text: str) -> str:
    """Return a message or an author, or raise InputError where no database can keep it.

    Checked before the work begins: an ingest would else fail after hours, at its last step.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"the {what} has {len(text):,} characters; use at most {MAX_TEXT:,}")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"the {what} {text[:40]!a} holds NUL or a byte that is not UTF-8")
    return text


@dataclass(frozen=True, kw_only=True)
class NewDocument:
    """A document of a new segment."""

    document_id: str
    """sha256 of the normalised text."""
    title: str
    source: str
    split: str
    """train, validation or test."""
    num_tokens: int
    near_group: str
    """Near-duplicates and sections of one document share it."""
    kind: str = "text"
    """text, fact or question."""
    text_object: str | None = None
    """None where texts are not kept."""
    section_of: str | None = None
    """The larger document of which this is a part."""
    file: str | None = None
    """The path of the file that it was read from; None where it came from none."""
    base_nats: float | None = None
    """Loss of the base, nats a token; None where it was not measured."""
    nats: float | None = None
    """The same with the domain's pool, after the segment was trained."""


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What an ingest grew; its objects are in the object store already."""

    domain: str
    objects: Mapping[str, str | None] = field(default_factory=dict)
    """Ids by name: "shared.N", the shared experts of shard N, and "use.N", their use; "facts.N" and
    "passages.N", own experts; "key", by which the router finds texts like the domain's. None:
    shared experts that wait to be trained anew, since a document was erased."""
    host_layers: tuple[int, ...] = ()
    """Of shared experts."""
    num_experts: int = 0
    """Shared ones, over all host layers."""
    size_bytes: int
    num_tokens: int
    """Training tokens, one pass."""
    config: dict[str, Any] = field(default_factory=dict)
    """Everything needed to repeat the training; JSON."""
    losses: Sequence[tuple[int, float, float | None]] = ()
    """Step, training nats a token, validation nats a token where measured."""
    seconds: float = 0.0
    run_id: str | None = None

    def objects_of(self, kind: str) -> dict[int, str]:
        """Return the ids of its objects of a kind ("shared", "facts", ...), by number."""
        found = {
            int(name.partition(".")[2]): key
            for name, key in self.objects.items()
            if name.startswith(f"{kind}.") and key is not None
        }
        return dict(sorted(found.items()))

    @property
    def pending_shards(self) -> tuple[int, ...]:
        """Shards whose shared experts wait to be trained anew."""
        return tuple(sorted(int(k.partition(".")[2]) for k, v in self.objects.items() if v is None))


@dataclass(frozen=True, kw_only=True)
class NewSegment(Grown):
    """What an ingest grew, ready to be committed."""

    parent: str | None
    """The domain's live version when the run began; None when it was not live."""
    documents: Sequence[NewDocument]
    """Held-out ones too."""
    segment_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class KeptQuestion:
    """A question about a document that nothing was trained on."""

    domain: str
    document_id: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What a subject makes of a text."""

    log_probs: NDArray[np.float64]
    """(T,), nats, one a scored token."""
    is_found: bool | None = None
    """Whether the router finds the domain by the whole text; None for the base."""
    is_found_by_half: bool | None = None
    """The same by the first half of the text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NewScore(Score):
    """Per-token log probabilities of one document under one subject."""

    subject: str
    """A segment's id (the domain at that version), or "base"."""
    document_key: str
    """64 hex digits that name the text, whose it is, and how it was scored."""
    document_id: str | None = None
    """The stored document, so that a purge finds its scores; None for background text."""


def utc_now() -> str:
    """Return the present moment as ISO 8601 in UTC, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
