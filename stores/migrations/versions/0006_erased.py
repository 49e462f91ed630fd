"""What was erased exactly is not learned again unasked: a list of it that names no document."""

import hashlib
import hmac
import secrets

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("live", sa.Column("salt", sa.String(length=64), nullable=True))
    erased = op.create_table(
        "erased_documents",
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("lifted_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_erased_documents_domain_id_domains")
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_erased_documents_event_id_events")
        ),
        sa.PrimaryKeyConstraint("domain_id", "mark", name=op.f("pk_erased_documents")),
    )
    salt = secrets.token_hex(32)
    rows = _erased_before(op.get_bind(), salt)
    if rows:
        op.execute(sa.text("UPDATE live SET salt = :salt").bindparams(salt=salt))
        op.bulk_insert(erased, rows)


def _erased_before(connection: sa.Connection, salt: str) -> list[dict[str, object]]:
    """Return what older versions erased exactly, where the old segments were not purged since.

    A mask takes no document out of its domain's chain: only exact erasures did.
    """
    found: dict[tuple[int, str], dict[str, object]] = {}
    events = connection.execute(
        sa.text(
            "SELECT e.id, e.at, e.domain_id, e.segment_id, d.segment_id FROM events e "
            "JOIN snapshots s ON s.id = e.snapshot_id "
            "JOIN snapshot_domains d ON d.snapshot_id = s.parent_id AND d.domain_id = e.domain_id "
            "WHERE e.action = 'erase' AND e.segment_id IS NOT NULL ORDER BY e.id"
        )
    ).all()
    for event_id, at, domain_id, after, before in events:
        gone = _documents(connection, before) - _documents(connection, after)
        newest = _newest(connection, domain_id) if gone else set()
        for document_id in gone:
            mark = hmac.new(bytes.fromhex(salt), document_id.encode(), hashlib.sha256).hexdigest()
            found[domain_id, mark] = {
                "domain_id": domain_id,
                "mark": mark,
                "event_id": event_id,
                "at": at,
                "lifted_at": at if document_id in newest else None,
            }
    return list(found.values())


def _newest(connection: sa.Connection, domain_id: int) -> set[str]:
    """Return the documents of a domain as it is live, or last was."""
    version = connection.execute(
        sa.text(
            "SELECT segment_id FROM snapshot_domains WHERE domain_id = :domain_id "
            "ORDER BY snapshot_id DESC LIMIT 1"
        ),
        {"domain_id": domain_id},
    ).scalar()
    return set() if version is None else _documents(connection, str(version))


def _documents(connection: sa.Connection, version: str) -> set[str]:
    """Return the documents of a version, without the questions about them."""
    query = sa.text(
        "WITH RECURSIVE chain (id, parent_id) AS ("
        "SELECT id, parent_id FROM segments WHERE id = :version UNION ALL "
        "SELECT s.id, s.parent_id FROM segments s JOIN chain c ON s.id = c.parent_id) "
        "SELECT document_id FROM segment_documents "
        "WHERE kind <> 'probe' AND segment_id IN (SELECT id FROM chain)"
    )
    return set(connection.execute(query, {"version": version}).scalars())
