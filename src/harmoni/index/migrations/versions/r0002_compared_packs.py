"""Which packs were compared for conflicts, how long a commitment's grace is, no notes of rows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Packs that are sealed now count as compared; open transactions keep ten minutes of grace."""
    op.add_column(
        "pack", sa.Column("compared", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.execute("UPDATE pack SET compared = 1 WHERE sealed_at_ms IS NOT NULL")
    op.create_index(
        op.f("ix_pack_compared"), "pack", ["compared"], sqlite_where=sa.text("compared = 0")
    )
    op.execute("ALTER TABLE pack DROP COLUMN durable_sequence")
    op.add_column(
        "commitment",
        sa.Column("grace_until_ms", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.execute("UPDATE commitment SET grace_until_ms = accepted_at_ms + 600000")
