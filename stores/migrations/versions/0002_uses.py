"""Which rows hold which documents; masks; scores know their document.

Scores of older stores do not say whose they are, and a purge could not find them: they go, and the
next evaluation scores again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.text("DELETE FROM scores"))
    op.add_column("scores", sa.Column("document_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_scores_document_id"), "scores", ["document_id"], unique=False)
    op.add_column(
        "segments",
        sa.Column("kind", sa.String(length=4), server_default="rows", nullable=False),
    )
    op.add_column("segments", sa.Column("use_object", sa.String(length=64), nullable=True))
    op.add_column("segment_documents", sa.Column("section_of", sa.Text(), nullable=True))
    op.add_column("segment_documents", sa.Column("base_nats", sa.Float(), nullable=True))
    op.add_column("segment_documents", sa.Column("nats", sa.Float(), nullable=True))
    op.add_column("segment_documents", sa.Column("use_norm", sa.Float(), nullable=True))
    op.create_index(
        op.f("ix_segment_documents_segment_id_position"),
        "segment_documents",
        ["segment_id", "position"],
        unique=True,
    )
    op.create_table(
        "document_uses",
        sa.Column("segment_id", sa.String(length=32), nullable=False),
        sa.Column("document_id", sa.String(length=64), nullable=False),
        sa.Column("host_layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["segment_id", "document_id"],
            ["segment_documents.segment_id", "segment_documents.document_id"],
            name=op.f("fk_document_uses_segment_id_document_id_segment_documents"),
        ),
        sa.PrimaryKeyConstraint(
            "segment_id", "document_id", "host_layer", name=op.f("pk_document_uses")
        ),
    )
    op.create_table(
        "expert_uses",
        sa.Column("segment_id", sa.String(length=32), nullable=False),
        sa.Column("host_layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("num_documents", sa.Integer(), nullable=False),
        sa.Column("effective_documents", sa.Float(), nullable=False),
        sa.Column("documents", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["segment_id"], ["segments.id"], name=op.f("fk_expert_uses_segment_id_segments")
        ),
        sa.PrimaryKeyConstraint("segment_id", "host_layer", "row", name=op.f("pk_expert_uses")),
    )
