"""The registry's tables. docs/schema.md is generated from this file.

Snapshots hold ids alone, events ids and what persons wrote (who, why), which stays: the store
itself puts no title and no text there, so that purging a domain leaves nothing of its documents
behind in the history.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

UUID = String(32)
SHA256 = String(64)
TIME = String(32)


class Base(DeclarativeBase):
    """The registry's metadata; constraints have names, or SQLite could not alter them later."""

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
    """A domain's name. A row stays for ever: events and old snapshots name it."""

    __tablename__ = "domains"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True, doc="What people call it.")
    created_at: Mapped[str] = mapped_column(TIME, doc="When its first segment came.")


class RunRow(Base):
    """A training run that ended well; a run that failed leaves no row."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(UUID, primary_key=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSON, doc="Everything needed to repeat it.")
    losses: Mapped[list[Any]] = mapped_column(
        JSON, doc="[step, training nats a token, validation nats a token or null]."
    )
    started_at: Mapped[str] = mapped_column(TIME)
    seconds: Mapped[float] = mapped_column(Float)


class SegmentRow(Base):
    """What one ingest grew, or which rows an erasure switched off. Its id is a domain's version."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("domain_id", "ordinal"),)
    id: Mapped[str] = mapped_column(UUID, primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id"))
    parent_id: Mapped[str | None] = mapped_column(
        ForeignKey("segments.id"), index=True, doc="The older segment it grew on; null: the first."
    )
    ordinal: Mapped[int] = mapped_column(doc="1, 2, ...: the how-manieth ever made in the domain.")
    label: Mapped[str] = mapped_column(String(16), doc='Shown to people: "v" and the ordinal.')
    kind: Mapped[str] = mapped_column(
        String(4),
        server_default="rows",
        doc='"rows": keys and rows that were learned; "mask": rows of older segments, off.',
    )
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), unique=True)
    pool_object: Mapped[str] = mapped_column(SHA256, index=True, doc="Object with the tensors.")
    use_object: Mapped[str | None] = mapped_column(
        SHA256, doc="Object with each row's mean input; null where use was not recorded."
    )
    signature_object: Mapped[str] = mapped_column(
        SHA256, index=True, doc="Object with the signature of the domain at this version."
    )
    host_layers: Mapped[list[int]] = mapped_column(JSON)
    num_experts: Mapped[int] = mapped_column(doc="Expert rows over all host layers.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, doc="Bytes of the pool's object.")
    num_tokens: Mapped[int] = mapped_column(BigInteger, doc="Training tokens, one pass.")
    created_at: Mapped[str] = mapped_column(TIME)
    purged_at: Mapped[str | None] = mapped_column(
        TIME, doc="Set when its bytes were deleted; the row stays as a tombstone."
    )


class DocumentRow(Base):
    """A text that some segment learned or was measured on."""

    __tablename__ = "documents"
    id: Mapped[str] = mapped_column(SHA256, primary_key=True, doc="sha256 of the normalised text.")
    num_tokens: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[str] = mapped_column(TIME)


class SegmentDocumentRow(Base):
    """A document within a segment. Titles stand here: domains never depend on each other."""

    __tablename__ = "segment_documents"
    __table_args__ = (
        Index(None, "segment_id", "position", unique=True),
        CheckConstraint("split IN ('train', 'validation', 'test')", name="split"),
        CheckConstraint("kind IN ('text', 'fact', 'probe')", name="kind"),
    )
    segment_id: Mapped[str] = mapped_column(ForeignKey("segments.id"), primary_key=True)
    document_id: Mapped[str] = mapped_column(
        ForeignKey("documents.id"), primary_key=True, index=True
    )
    position: Mapped[int] = mapped_column(doc="Order within the segment, from 0.")
    title: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text, doc="Where it came from: a file, a record.")
    split: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(5))
    near_group: Mapped[str] = mapped_column(
        SHA256, doc="Near-duplicates and sections of one document share it, and so a split."
    )
    text_object: Mapped[str | None] = mapped_column(
        SHA256, index=True, doc="Object with the text; null where texts are not kept."
    )
    section_of: Mapped[str | None] = mapped_column(
        Text, doc="The larger document of which this is a part; null: none."
    )
    base_nats: Mapped[float | None] = mapped_column(
        Float, doc="Loss of the base, nats a token; null where it was not learned from."
    )
    nats: Mapped[float | None] = mapped_column(
        Float, doc="Loss with the domain's pool on, right after this segment came."
    )
    use_norm: Mapped[float | None] = mapped_column(
        Float,
        doc="L2 norm, over the rows it uses, of router weight times log(learned documents / the "
        "row's effective ones); null where no use was recorded.",
    )


class DocumentUseRow(Base):
    """Which rows of one host layer a learned document uses, in one packed array."""

    __tablename__ = "document_uses"
    __table_args__ = (
        ForeignKeyConstraint(
            ["segment_id", "document_id"],
            ["segment_documents.segment_id", "segment_documents.document_id"],
        ),
    )
    segment_id: Mapped[str] = mapped_column(UUID, primary_key=True)
    document_id: Mapped[str] = mapped_column(SHA256, primary_key=True)
    host_layer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[float] = mapped_column(Float, doc="Router weight, summed over tokens and rows.")
    num_rows: Mapped[int] = mapped_column(doc="Rows that fired at least once.")
    rows: Mapped[bytes] = mapped_column(
        LargeBinary, doc="Rows and their shares of `weight`; see stores.packing."
    )


class ExpertUseRow(Base):
    """Which learned documents use one row: the inverse. A row that never fired has none."""

    __tablename__ = "expert_uses"
    segment_id: Mapped[str] = mapped_column(ForeignKey("segments.id"), primary_key=True)
    host_layer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[float] = mapped_column(
        Float, doc="Router weight, summed over tokens and documents."
    )
    num_documents: Mapped[int] = mapped_column(doc="Documents in which it fired.")
    effective_documents: Mapped[float] = mapped_column(
        Float, doc="exp of the entropy of its weight over documents."
    )
    documents: Mapped[bytes] = mapped_column(
        LargeBinary, doc="Documents' positions and their shares of `weight`; see stores.packing."
    )


class ScoreRow(Base):
    """Per-token log-probabilities of a document under a subject; they never change."""

    __tablename__ = "scores"
    subject: Mapped[str] = mapped_column(
        UUID, primary_key=True, doc='A segment\'s id (the domain at that version), or "base".'
    )
    document_key: Mapped[str] = mapped_column(
        SHA256,
        primary_key=True,
        doc="sha256 that names the text, whose it is, and how it was scored.",
    )
    document_id: Mapped[str | None] = mapped_column(
        SHA256,
        index=True,
        doc="The scored document; null for background text, all of which goes with any document.",
    )
    values: Mapped[bytes] = mapped_column("values", LargeBinary, doc="float64, little-endian.")
    num_tokens: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[str] = mapped_column(TIME)


class SnapshotRow(Base):
    """An immutable list of (domain, version, state), as a commit is in git."""

    __tablename__ = "snapshots"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("snapshots.id"), index=True, doc="The snapshot that was live before."
    )
    action: Mapped[str] = mapped_column(String(16), doc="The act that made it.")
    created_at: Mapped[str] = mapped_column(TIME)


class SnapshotDomainRow(Base):
    """One domain within a snapshot."""

    __tablename__ = "snapshot_domains"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"), primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id"), primary_key=True)
    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id"), index=True, doc="The domain's version: its last segment."
    )
    is_frozen: Mapped[bool] = mapped_column(doc="Refuses new segments.")
    is_enabled: Mapped[bool] = mapped_column(doc="False: it is never asked.")


class EvaluationRow(Base):
    """The report of an evaluation of a snapshot."""

    __tablename__ = "evaluations"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"), primary_key=True)
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[str] = mapped_column(TIME)


class LiveRow(Base):
    """One row: whose registry this is, and the snapshot that is live."""

    __tablename__ = "live"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    store_id: Mapped[str] = mapped_column(String(64), doc="The same as in store.toml.")
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"))
    claim: Mapped[str | None] = mapped_column(
        UUID, doc="Token left where the objects lie, when that is not in the folder."
    )
    claim_before: Mapped[str | None] = mapped_column(
        UUID, doc="The token before it: a crash may have kept the newer one from getting there."
    )
    salt: Mapped[str | None] = mapped_column(
        String(64), doc="Of the marks of erased documents; null: nothing was erased exactly yet."
    )


class EventRow(Base):
    """What was done, by whom, when and why. Never changed, never removed."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "domain_id", "id"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(TIME)
    who: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(16))
    domain_id: Mapped[int | None] = mapped_column(ForeignKey("domains.id"))
    segment_id: Mapped[str | None] = mapped_column(
        ForeignKey("segments.id"), doc="The domain's version after the act."
    )
    snapshot_id: Mapped[int] = mapped_column(
        ForeignKey("snapshots.id"), doc="The snapshot that was live after the act."
    )
    why: Mapped[str] = mapped_column(Text)


class ErasedRow(Base):
    """A document that was erased exactly, which no ingest learns unasked. Holds no id of it."""

    __tablename__ = "erased_documents"
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id"), primary_key=True)
    mark: Mapped[str] = mapped_column(
        SHA256, primary_key=True, doc="HMAC-SHA256 of the document's id, by the store's salt."
    )
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), doc="The erasure.")
    at: Mapped[str] = mapped_column(TIME)
    lifted_at: Mapped[str | None] = mapped_column(
        TIME, doc="When a version that holds it came on purpose; null: none is restored unasked."
    )


class JobRow(Base):
    """Work in a process of its own, and how far it is. Holds no title and no text of a document."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("kind IN ('ingest', 'evaluate', 'erase')", name="kind"),
        CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="state"
        ),
    )
    id: Mapped[str] = mapped_column(UUID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    domain: Mapped[str | None] = mapped_column(
        String(64), index=True, doc="A name: the domain may not have come yet. Null: all."
    )
    request: Mapped[dict[str, Any]] = mapped_column(
        JSON, doc="All that is needed to run it; {} once its domain or documents were purged."
    )
    who: Mapped[str] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(
        String(9), index=True, doc='"lost" is not kept: it is told where the process is gone.'
    )
    pid: Mapped[int | None] = mapped_column(BigInteger, doc="Null: not started yet.")
    host: Mapped[str] = mapped_column(Text, doc="Where the process id holds.")
    born: Mapped[str] = mapped_column(
        Text, doc="When that process began, as its machine tells it; process ids come again."
    )
    created_at: Mapped[str] = mapped_column(TIME, index=True)
    started_at: Mapped[str | None] = mapped_column(TIME, doc="When its turn came.")
    ended_at: Mapped[str | None] = mapped_column(TIME)
    cancel_asked_at: Mapped[str | None] = mapped_column(TIME, doc="It stops at its next step.")
    heartbeat: Mapped[float] = mapped_column(Float, doc="Seconds since 1970.")
    what: Mapped[str] = mapped_column(Text, doc="The piece of work that it is at.")
    done: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger, doc="0: not known.")
    note: Mapped[str] = mapped_column(Text)
    since: Mapped[float] = mapped_column(Float, doc="When that piece began, seconds since 1970.")
    done_at_first: Mapped[int] = mapped_column(
        BigInteger, doc="Of that piece, when it began: a run may go on from a checkpoint."
    )
    losses: Mapped[list[Any]] = mapped_column(
        JSON, doc="[step, training nats a token]; neighbours are averaged to bound their number."
    )
    error: Mapped[str | None] = mapped_column(Text, doc="One line.")
    snapshot_id: Mapped[int | None] = mapped_column(
        ForeignKey("snapshots.id"), doc="The snapshot that it made, or evaluated."
    )


class LeaseRow(Base):
    """One row: who writes now. An empty token means nobody."""

    __tablename__ = "lease"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[str | None] = mapped_column(UUID, doc="Known to the holder alone.")
    who: Mapped[str] = mapped_column(Text, default="")
    host: Mapped[str] = mapped_column(Text, default="")
    pid: Mapped[int] = mapped_column(BigInteger, default=0)
    taken_at: Mapped[str] = mapped_column(TIME, default="")
    heartbeat: Mapped[float] = mapped_column(Float, default=0.0, doc="Seconds since 1970.")
