"""The first schema.

Frozen: what a revision makes never changes, whatever schema.py says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table in an empty database."""
    op.create_table(
        "commitment",
        sa.Column("commitment_no", sa.Integer(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("accepted_at_ms", sa.Integer(), nullable=False),
        sa.Column("resolved_at_ms", sa.Integer(), nullable=True),
        sa.Column("answered_at_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("commitment_no", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "requester", "transaction_uid", name=op.f("uq_commitment_requester_transaction_uid")
        ),
    )
    op.create_index(
        op.f("ix_commitment_answered_at_ms_requester"),
        "commitment",
        ["answered_at_ms", "requester"],
        unique=False,
    )
    op.create_table(
        "flush",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flush")),
    )
    op.create_table(
        "origin",
        sa.Column("origin_no", sa.Integer(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("called_ae_title", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin_no", name=op.f("pk_origin")),
        sa.UniqueConstraint(
            "calling_ae_title",
            "called_ae_title",
            "address",
            "verdict",
            name=op.f("uq_origin_calling_ae_title_called_ae_title_address_verdict"),
        ),
    )
    op.create_table(
        "pack",
        sa.Column("pack_no", sa.Integer(), nullable=False),
        sa.Column("pack_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.BLOB(), nullable=True),
        sa.Column("root", sa.BLOB(), nullable=True),
        sa.Column("sealed_at_ms", sa.Integer(), nullable=True),
        sa.Column("durable_sequence", sa.Integer(), server_default="-1", nullable=False),
        sa.PrimaryKeyConstraint("pack_no", name=op.f("pk_pack")),
        sa.UniqueConstraint("pack_id", name=op.f("uq_pack_pack_id")),
    )
    op.create_index(op.f("ix_pack_state"), "pack", ["state"], unique=False)
    op.create_table(
        "patient",
        sa.Column("patient_no", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.BLOB(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=False),
        sa.Column("several", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.BLOB(), nullable=False),
        sa.PrimaryKeyConstraint("patient_no", name=op.f("pk_patient")),
        sa.UniqueConstraint(
            "patient_id", "issuer", "study_uid", name=op.f("uq_patient_patient_id_issuer_study_uid")
        ),
    )
    op.create_index(
        op.f("ix_patient_several"),
        "patient",
        ["several"],
        unique=False,
        sqlite_where=sa.text("several = 1"),
    )
    op.create_table(
        "seal_request",
        sa.Column("pack_id", sa.Text(), nullable=False),
        sa.Column("requested_at_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pack_id", name=op.f("pk_seal_request")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sop_class",
        sa.Column("sop_class_no", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_class_no", name=op.f("pk_sop_class")),
        sa.UniqueConstraint("uid", name=op.f("uq_sop_class_uid")),
    )
    op.create_table(
        "transfer_syntax",
        sa.Column("transfer_syntax_no", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("transfer_syntax_no", name=op.f("pk_transfer_syntax")),
        sa.UniqueConstraint("uid", name=op.f("uq_transfer_syntax_uid")),
    )
    op.create_table(
        "commitment_reference",
        sa.Column("commitment_no", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sha256", sa.BLOB(), nullable=True),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["commitment_no"],
            ["commitment.commitment_no"],
            name=op.f("fk_commitment_reference_commitment_no"),
        ),
        sa.PrimaryKeyConstraint("commitment_no", "position", name=op.f("pk_commitment_reference")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fact",
        sa.Column("pack_no", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pack_no"], ["pack.pack_no"], name=op.f("fk_fact_pack_no")),
        sa.PrimaryKeyConstraint("pack_no", "sequence", name=op.f("pk_fact")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_fact_kind_at_ms"), "fact", ["kind", "at_ms"], unique=False)
    op.create_table(
        "patient_name",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("patient_no", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_no"], ["patient.patient_no"], name=op.f("fk_patient_name_patient_no")
        ),
        sa.PrimaryKeyConstraint("name", "patient_no", name=op.f("pk_patient_name")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_patient_name_patient_no"), "patient_name", ["patient_no"], unique=False
    )
    op.create_table(
        "study",
        sa.Column("study_no", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BLOB(), nullable=False),
        sa.Column("patient_no", sa.Integer(), nullable=False),
        sa.Column("first_pack_id", sa.Text(), nullable=False),
        sa.Column("first_sequence", sa.Integer(), nullable=False),
        sa.Column("date", sa.Text(), nullable=False),
        sa.Column("time", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("several", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.BLOB(), nullable=False),
        sa.Column("patient_attributes", sa.BLOB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_no"], ["patient.patient_no"], name=op.f("fk_study_patient_no")
        ),
        sa.PrimaryKeyConstraint("study_no", name=op.f("pk_study")),
        sa.UniqueConstraint("uid", name=op.f("uq_study_uid")),
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index(op.f("ix_study_date"), "study", ["date"], unique=False)
    op.create_index(
        op.f("ix_study_patient_no_first_pack_id_first_sequence"),
        "study",
        ["patient_no", "first_pack_id", "first_sequence"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_several"),
        "study",
        ["several"],
        unique=False,
        sqlite_where=sa.text("several = 1"),
    )
    op.create_table(
        "series",
        sa.Column("series_no", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BLOB(), nullable=False),
        sa.Column("study_no", sa.Integer(), nullable=False),
        sa.Column("first_pack_id", sa.Text(), nullable=False),
        sa.Column("first_sequence", sa.Integer(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("series_number", sa.Text(), nullable=False),
        sa.Column("several", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.BLOB(), nullable=False),
        sa.ForeignKeyConstraint(["study_no"], ["study.study_no"], name=op.f("fk_series_study_no")),
        sa.PrimaryKeyConstraint("series_no", name=op.f("pk_series")),
        sa.UniqueConstraint("uid", "study_no", name=op.f("uq_series_uid_study_no")),
    )
    op.create_index(
        op.f("ix_series_several"),
        "series",
        ["several"],
        unique=False,
        sqlite_where=sa.text("several = 1"),
    )
    op.create_index(
        op.f("ix_series_study_no_modality"), "series", ["study_no", "modality"], unique=False
    )
    op.create_table(
        "instance",
        sa.Column("series_no", sa.Integer(), nullable=False),
        sa.Column("pack_no", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("sop_hash", sa.Integer(), nullable=False),
        sa.Column("sop_uid", sa.BLOB(), nullable=False),
        sa.Column("sop_class_no", sa.Integer(), nullable=False),
        sa.Column("transfer_syntax_no", sa.Integer(), nullable=False),
        sa.Column("origin_no", sa.Integer(), nullable=False),
        sa.Column("received_at_ms", sa.Integer(), nullable=False),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("dataset_size_bytes", sa.Integer(), nullable=False),
        sa.Column("dataset_sha256", sa.BLOB(), nullable=False),
        sa.Column("attributes", sa.BLOB(), nullable=False),
        sa.Column("damaged", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["origin_no"], ["origin.origin_no"], name=op.f("fk_instance_origin_no")
        ),
        sa.ForeignKeyConstraint(["pack_no"], ["pack.pack_no"], name=op.f("fk_instance_pack_no")),
        sa.ForeignKeyConstraint(
            ["series_no"], ["series.series_no"], name=op.f("fk_instance_series_no")
        ),
        sa.ForeignKeyConstraint(
            ["sop_class_no"], ["sop_class.sop_class_no"], name=op.f("fk_instance_sop_class_no")
        ),
        sa.ForeignKeyConstraint(
            ["transfer_syntax_no"],
            ["transfer_syntax.transfer_syntax_no"],
            name=op.f("fk_instance_transfer_syntax_no"),
        ),
        sa.PrimaryKeyConstraint("series_no", "pack_no", "sequence", name=op.f("pk_instance")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_instance_pack_no"), "instance", ["pack_no"], unique=False)
    op.create_index(op.f("ix_instance_sop_hash"), "instance", ["sop_hash"], unique=False)
    op.execute("INSERT INTO flush (id, count) VALUES (1, 0)")
