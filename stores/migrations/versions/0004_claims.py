"""Whose a place of objects is: the registry knows the token that it left there."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("live", sa.Column("claim", sa.String(length=32), nullable=True))
    op.add_column("live", sa.Column("claim_before", sa.String(length=32), nullable=True))
