"""The registry's tables. docs/schema.md is generated from this file.

Snapshots and events hold ids and what people wrote (author, message), never a title or a text of a
document, so a purge leaves nothing of its documents in the history.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

UUID = String(32)
SHA256 = String(64)
TIME = String(32)
_AS_JSON: dict[Any, Any] = dict.fromkeys((list[int], list[Any], dict[str, Any]), JSON)


def _to(table: str) -> ForeignKey:
    return ForeignKey(f"{table}.id")


class Base(DeclarativeBase):
    """The registry's metadata; constraints have names, or SQLite could not alter them later."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text, float: Float, **_AS_JSON}
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class DomainRow(Base):
    """A domain's name. The row stays for ever: events and old snapshots refer to it."""

    __tablename__ = "domains"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[str] = mapped_column(TIME, doc="When its first segment came.")


class RunRow(Base):
    """An act that takes long, in one process, and its progress."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint("kind IN ('ingest', 'evaluate', 'erase')", name="kind"),
        CheckConstraint("state IN ('running', 'done', 'failed', 'cancelled')", name="state"),
    )
    id: Mapped[str] = mapped_column(UUID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    domain: Mapped[str | None] = mapped_column(String(64), doc="A name: it may not exist yet.")
    state: Mapped[str] = mapped_column(String(9))
    author: Mapped[str]
    message: Mapped[str]
    host: Mapped[str] = mapped_column(doc="Where the process runs.")
    pid: Mapped[int] = mapped_column(BigInteger)
    what: Mapped[str] = mapped_column(default="", doc="The present step of the work.")
    done: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0, doc="0: not known.")
    note: Mapped[str] = mapped_column(default="")
    losses: Mapped[list[Any]] = mapped_column(default=list, doc="[step, training nats a token].")
    started_at: Mapped[str] = mapped_column(TIME)
    updated_at: Mapped[str] = mapped_column(TIME)
    ended_at: Mapped[str | None] = mapped_column(TIME)
    error: Mapped[str | None] = mapped_column(doc="One line.")
    snapshot_id: Mapped[int | None] = mapped_column(_to("snapshots"), doc="Made or evaluated.")


class SegmentRow(Base):
    """What one ingest grew. Its id is a version of the domain."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("domain_id", "ordinal"),)
    id: Mapped[str] = mapped_column(UUID, primary_key=True)
    domain_id: Mapped[int] = mapped_column(_to("domains"))
    parent_id: Mapped[str | None] = mapped_column(
        _to("segments"), index=True, doc="The segment it grew on."
    )
    snapshot_id: Mapped[int] = mapped_column(_to("snapshots"), doc="The snapshot it came with.")
    run_id: Mapped[str | None] = mapped_column(_to("runs"))
    ordinal: Mapped[int] = mapped_column(doc="Version number within the domain, from 1.")
    label: Mapped[str] = mapped_column(String(16), doc='"v" and the ordinal.')
    objects: Mapped[dict[str, Any]] = mapped_column(
        doc="Ids by name: shared.N, use.N, facts.N, passages.N, key; null: to be trained anew."
    )
    host_layers: Mapped[list[int]] = mapped_column(doc="Of the shared experts.")
    num_experts: Mapped[int] = mapped_column(doc="Shared ones, over all host layers.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, doc="Of all experts.")
    num_tokens: Mapped[int] = mapped_column(BigInteger, doc="Training tokens, one pass.")
    config: Mapped[dict[str, Any]] = mapped_column(doc="Needed to repeat the training.")
    losses: Mapped[list[Any]] = mapped_column(doc="[step, training nats, validation nats or null].")
    seconds: Mapped[float] = mapped_column(doc="Duration of the training.")
    created_at: Mapped[str] = mapped_column(TIME)
    purged_at: Mapped[str | None] = mapped_column(TIME, doc="Its bytes are deleted since then.")


class SegmentDocumentRow(Base):
    """A document that a segment learned or was measured on."""

    __tablename__ = "segment_documents"
    __table_args__ = (
        Index(None, "segment_id", "position", unique=True),
        CheckConstraint("split IN ('train', 'validation', 'test')", name="split"),
        CheckConstraint("kind IN ('text', 'fact', 'question')", name="kind"),
    )
    segment_id: Mapped[str] = mapped_column(_to("segments"), primary_key=True)
    document_id: Mapped[str] = mapped_column(
        SHA256, primary_key=True, index=True, doc="sha256 of the normalised text."
    )
    position: Mapped[int] = mapped_column(doc="Order within the segment, from 0.")
    title: Mapped[str]
    source: Mapped[str] = mapped_column(doc="A file, a record.")
    split: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(8))
    num_tokens: Mapped[int] = mapped_column(BigInteger)
    near_group: Mapped[str] = mapped_column(SHA256, doc="Shared by near-duplicates and sections.")
    text_object: Mapped[str | None] = mapped_column(SHA256)
    section_of: Mapped[str | None] = mapped_column(doc="The larger document.")
    file: Mapped[str | None] = mapped_column(doc="The path that it was read from.")
    base_nats: Mapped[float | None] = mapped_column(doc="Loss of the base, nats a token.")
    nats: Mapped[float | None] = mapped_column(doc="Loss after the training.")


class ScoreRow(Base):
    """Log probabilities of a text under a subject; they never change."""

    __tablename__ = "scores"
    subject: Mapped[str] = mapped_column(UUID, primary_key=True, doc='A version, or "base".')
    document_key: Mapped[str] = mapped_column(
        SHA256, primary_key=True, doc="Names the text and how it was scored."
    )
    document_id: Mapped[str | None] = mapped_column(SHA256, index=True, doc="Null: background.")
    log_probs: Mapped[bytes] = mapped_column(doc="float64, little-endian, nats.")
    is_found: Mapped[bool | None] = mapped_column(doc="By the router, from the whole text.")
    is_found_by_half: Mapped[bool | None] = mapped_column(doc="From the text's first half.")
    created_at: Mapped[str] = mapped_column(TIME)


class SnapshotRow(Base):
    """An immutable list of (domain, version, state), as a commit is in git."""

    __tablename__ = "snapshots"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(_to("snapshots"), doc="The snapshot live before.")
    action: Mapped[str] = mapped_column(String(16), doc="The act that made it.")
    calibration: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), doc="Of requests; null: the project's own."
    )
    created_at: Mapped[str] = mapped_column(TIME)


class SnapshotDomainRow(Base):
    """One domain within a snapshot.

    Each act writes a row for every live domain, so the table is its own index and has no other.
    """

    __tablename__ = "snapshot_domains"
    __table_args__ = ({"sqlite_with_rowid": False},)
    snapshot_id: Mapped[int] = mapped_column(_to("snapshots"), primary_key=True)
    domain_id: Mapped[int] = mapped_column(_to("domains"), primary_key=True)
    segment_id: Mapped[str] = mapped_column(_to("segments"), doc="Its version.")
    is_frozen: Mapped[bool] = mapped_column(doc="Refuses new segments.")
    is_enabled: Mapped[bool] = mapped_column(doc="False: it is never active.")


class EvaluationRow(Base):
    """The report of a snapshot's last evaluation."""

    __tablename__ = "evaluations"
    snapshot_id: Mapped[int] = mapped_column(_to("snapshots"), primary_key=True)
    report: Mapped[dict[str, Any]]
    created_at: Mapped[str] = mapped_column(TIME)


class LiveRow(Base):
    """One row: whose registry this is, and the snapshot that is live."""

    __tablename__ = "live"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    store_id: Mapped[str] = mapped_column(UUID, doc="As in store.toml.")
    snapshot_id: Mapped[int] = mapped_column(_to("snapshots"))


class EventRow(Base):
    """What was done, by whom, when and why. Never changed, never removed."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "domain_id", "id"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(TIME)
    author: Mapped[str]
    action: Mapped[str] = mapped_column(String(16))
    domain_id: Mapped[int | None] = mapped_column(_to("domains"))
    segment_id: Mapped[str | None] = mapped_column(_to("segments"), doc="Version after the act.")
    snapshot_id: Mapped[int] = mapped_column(_to("snapshots"), doc="Live after the act.")
    message: Mapped[str]


class KeptQuestionRow(Base):
    """A question of people about a document, to be asked again and again; nothing learns it."""

    __tablename__ = "kept_questions"
    domain_id: Mapped[int] = mapped_column(_to("domains"), primary_key=True)
    document_id: Mapped[str] = mapped_column(SHA256, primary_key=True, index=True)
    question_sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    question: Mapped[str]
    answer: Mapped[str]


class ErasedRow(Base):
    """A document that was erased from a domain; `ingest` leaves it out."""

    __tablename__ = "erased_documents"
    domain_id: Mapped[int] = mapped_column(_to("domains"), primary_key=True)
    document_id: Mapped[str] = mapped_column(SHA256, primary_key=True)
    event_id: Mapped[int] = mapped_column(_to("events"), doc="The erasure.")
    at: Mapped[str] = mapped_column(TIME)
