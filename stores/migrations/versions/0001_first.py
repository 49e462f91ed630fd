"""The registry's first tables.

No store of an earlier schema was ever released, so they are made from `stores.schema` itself. The
first revision after a release must first write them out here, as they are by then: a published
revision never changes.
"""

from alembic import op

from stores.schema import Base

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())
