"""Jobs of a gateway, what its destination has committed itself to, what was retrieved when."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Three tables, empty: only a gateway fills them. A reference may name the syntax it means."""
    op.create_table(
        "safe",
        sa.Column("sop_hash", sa.Integer(), nullable=False),
        sa.Column("dataset_sha256", sa.BLOB(), nullable=False),
        sa.Column("transfer_syntax_no", sa.Integer(), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transfer_syntax_no"],
            ["transfer_syntax.transfer_syntax_no"],
            name=op.f("fk_safe_transfer_syntax_no"),
        ),
        sa.PrimaryKeyConstraint(
            "sop_hash", "dataset_sha256", "transfer_syntax_no", name=op.f("pk_safe")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        sa.Column("pack_no", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("series_no", sa.Integer(), nullable=False),
        sa.Column("study_no", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Integer(), nullable=False),
        sa.Column("queued_at_ms", sa.Integer(), nullable=False),
        sa.Column("due_at_ms", sa.Integer(), nullable=False),
        sa.Column("lease_until_ms", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(["pack_no"], ["pack.pack_no"], name=op.f("fk_job_pack_no")),
        sa.ForeignKeyConstraint(["series_no"], ["series.series_no"], name=op.f("fk_job_series_no")),
        sa.ForeignKeyConstraint(["study_no"], ["study.study_no"], name=op.f("fk_job_study_no")),
        sa.PrimaryKeyConstraint("pack_no", "sequence", "destination", name=op.f("pk_job")),
        sqlite_with_rowid=False,
    )
    op.add_column(
        "commitment_reference",
        sa.Column("version_syntax_uid", sa.Text(), server_default=sa.text("''"), nullable=False),
    )
    op.create_table(
        "access",
        sa.Column("study_no", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_no"], ["study.study_no"], name=op.f("fk_access_study_no")),
        sa.PrimaryKeyConstraint("study_no", name=op.f("pk_access")),
    )
    op.create_index(
        op.f("ix_job_destination_state_urgency_due_at_ms"),
        "job",
        ["destination", "state", "urgency", "due_at_ms"],
    )
    op.create_index(op.f("ix_job_study_no"), "job", ["study_no"])
