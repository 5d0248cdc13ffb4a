"""Which study each fact names."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Facts that were recorded before do not say; a rebuild reads it from the store."""
    op.add_column(
        "fact", sa.Column("subject", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.create_index(
        op.f("ix_fact_subject"), "fact", ["subject"], sqlite_where=sa.text("subject != ''")
    )
