"""When each pack was last read whole and verified."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """No pack was scrubbed yet."""
    op.add_column(
        "pack",
        sa.Column("scrubbed_at_ms", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.drop_index(op.f("ix_pack_state"), "pack")
    op.create_index(
        op.f("ix_pack_state_scrubbed_at_ms_sealed_at_ms"),
        "pack",
        ["state", "scrubbed_at_ms", "sealed_at_ms"],
    )
