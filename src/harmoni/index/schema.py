"""The tables of an index, what may be rebuilt and what may not.

    patient ◀── study ◀── series ◀── instance ──▶ pack, sop_class, transfer_syntax, origin
    fact ──▶ pack                       commitment ◀── commitment_reference        seal_request
    job ──▶ instance                    access ──▶ study                           safe

One `instance` row is one stored copy of one version of a SOP Instance; several rows may have the
same SOP Instance UID. Patient, study and series rows say what their *first* instance says, the one
with the lowest (pack id, sequence), so they do not depend on the order of arrival.

Derived from the store, gone and rebuilt at will: everything but `commitment`,
`commitment_reference`, `seal_request`, `job`, `access` and `flush`, and the columns
`instance.damaged` and `pack.compared`. Internal numbers (`*_no`) mean nothing outside one database
file.

Bytes count: an archive holds hundreds of millions of instances. Their table has no rowid, is keyed
by (series, pack, sequence) so that rows of a series lie together and come in order, and finds a SOP
Instance UID by a 64-bit hash; UIDs and raw elements are packed (attributes.py).
"""

from typing import Final

from sqlalchemy import (
    BLOB,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# What the search columns hold: text decoded from the element, "" when it is absent; dates and times
# in the form that orders as text (dicom/matching.py). They narrow a search, no more; a row with
# `several` = 1, several values in one of them where the standard allows one, is a candidate for
# every search. Partial indexes find those few.

patient: Final = Table(
    "patient",
    metadata,
    Column("patient_no", Integer, primary_key=True),
    Column("patient_id", Text, nullable=False),
    # Issuer of Patient ID, or else the domain configured for the source.
    Column("issuer", Text, nullable=False),
    # Without a Patient ID every study is a patient of its own, and this is its packed UID.
    Column("study_uid", BLOB, nullable=False),
    Column("birth_date", Text, nullable=False),
    Column("several", Integer, nullable=False),
    Column("attributes", BLOB, nullable=False),
    UniqueConstraint("patient_id", "issuer", "study_uid"),
)

# Each component group of each patient's name, as names are compared; "" for no name.
patient_name: Final = Table(
    "patient_name",
    metadata,
    Column("name", Text, primary_key=True),
    Column("patient_no", ForeignKey("patient.patient_no"), primary_key=True),
    Index(None, "patient_no"),
    sqlite_with_rowid=False,
)

study: Final = Table(
    "study",
    metadata,
    Column("study_no", Integer, primary_key=True),
    # Packed; empty for the instances that belong to no study.
    Column("uid", BLOB, nullable=False, unique=True),
    Column("patient_no", ForeignKey("patient.patient_no"), nullable=False),
    Column("first_pack_id", Text, nullable=False),
    Column("first_sequence", Integer, nullable=False),
    Column("date", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("study_id", Text, nullable=False),
    Column("several", Integer, nullable=False),
    Column("attributes", BLOB, nullable=False),
    # Those of the first instance: when the patient's first study goes, another one's take over.
    Column("patient_attributes", BLOB, nullable=False),
    Index(None, "patient_no", "first_pack_id", "first_sequence"),
    Index(None, "date"),
    Index(None, "accession_number"),
)

series: Final = Table(
    "series",
    metadata,
    Column("series_no", Integer, primary_key=True),
    Column("uid", BLOB, nullable=False),
    Column("study_no", ForeignKey("study.study_no"), nullable=False),
    Column("first_pack_id", Text, nullable=False),
    Column("first_sequence", Integer, nullable=False),
    Column("modality", Text, nullable=False),
    Column("series_number", Text, nullable=False),
    Column("several", Integer, nullable=False),
    Column("attributes", BLOB, nullable=False),
    UniqueConstraint("uid", "study_no"),
    Index(None, "study_no", "modality"),
)

for _several in (patient.c.several, study.c.several, series.c.several):
    Index(None, _several, sqlite_where=_several == literal_column("1"))

sop_class: Final = Table(
    "sop_class",
    metadata,
    Column("sop_class_no", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
)

transfer_syntax: Final = Table(
    "transfer_syntax",
    metadata,
    Column("transfer_syntax_no", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
)

origin: Final = Table(
    "origin",
    metadata,
    Column("origin_no", Integer, primary_key=True),
    Column("calling_ae_title", Text, nullable=False),
    Column("called_ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    # JSON: a list of [factor, verdict].
    Column("verdict", Text, nullable=False),
    UniqueConstraint("calling_ae_title", "called_ae_title", "address", "verdict"),
)

pack: Final = Table(
    "pack",
    metadata,
    Column("pack_no", Integer, primary_key=True),
    Column("pack_id", Text, nullable=False, unique=True),
    # Values of packs.PackKind and packs.PackState.
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("size_bytes", Integer),
    Column("sha256", BLOB),
    Column("root", BLOB),
    Column("sealed_at_ms", Integer),
    # 1 once its instances were compared with other versions of theirs.
    Column("compared", Integer, nullable=False, server_default=text("0")),
    # When its file was last read whole; 0 before the first time.
    Column("scrubbed_at_ms", Integer, nullable=False, server_default=text("0")),
    Index(None, "state", "scrubbed_at_ms", "sealed_at_ms"),
    Index(None, "compared", sqlite_where=literal_column("compared") == literal_column("0")),
)

instance: Final = Table(
    "instance",
    metadata,
    Column("series_no", ForeignKey("series.series_no"), primary_key=True),
    Column("pack_no", ForeignKey("pack.pack_no"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("sop_hash", Integer, nullable=False),
    Column("sop_uid", BLOB, nullable=False),
    Column("sop_class_no", ForeignKey("sop_class.sop_class_no"), nullable=False),
    Column("transfer_syntax_no", ForeignKey("transfer_syntax.transfer_syntax_no"), nullable=False),
    Column("origin_no", ForeignKey("origin.origin_no"), nullable=False),
    Column("received_at_ms", Integer, nullable=False),
    # Of the ciphertext in the pack's file.
    Column("offset", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    # Of the dataset as received.
    Column("dataset_size_bytes", Integer, nullable=False),
    Column("dataset_sha256", BLOB, nullable=False),
    Column("attributes", BLOB, nullable=False),
    Column("damaged", Integer, nullable=False, server_default="0"),
    Index(None, "sop_hash"),
    # A pack that is finished is compared with its rows; without this that would read them all.
    Index(None, "pack_no"),
    sqlite_with_rowid=False,
)

fact: Final = Table(
    "fact",
    metadata,
    Column("pack_no", ForeignKey("pack.pack_no"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("at_ms", Integer, nullable=False),
    # The study that it names, "" for none: what is told of a study is erased with it.
    Column("subject", Text, nullable=False, server_default=text("''")),
    # JSON, keys sorted.
    Column("body", Text, nullable=False),
    Index(None, "kind", "at_ms"),
    Index(None, "subject", sqlite_where=literal_column("subject") != literal_column("''")),
    sqlite_with_rowid=False,
)

commitment: Final = Table(
    "commitment",
    metadata,
    Column("commitment_no", Integer, primary_key=True),
    Column("requester", Text, nullable=False),
    Column("transaction_uid", Text, nullable=False),
    Column("accepted_at_ms", Integer, nullable=False),
    # Until then what is unknown may still arrive.
    Column("grace_until_ms", Integer, nullable=False, server_default=text("0")),
    # Null until every reference is final, and until the report was answered.
    Column("resolved_at_ms", Integer),
    Column("answered_at_ms", Integer),
    UniqueConstraint("requester", "transaction_uid"),
    Index(None, "answered_at_ms", "requester"),
)

commitment_reference: Final = Table(
    "commitment_reference",
    metadata,
    Column("commitment_no", ForeignKey("commitment.commitment_no"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    # The version that is meant, named by our own nodes only.
    Column("sha256", BLOB),
    Column("version_syntax_uid", Text, nullable=False, server_default=text("''")),
    # A failure reason of PS3.3 C.14.1.1; null is committed, once the transaction is resolved.
    Column("failure_reason", Integer),
    sqlite_with_rowid=False,
)

seal_request: Final = Table(
    "seal_request",
    metadata,
    Column("pack_id", Text, primary_key=True),
    Column("requested_at_ms", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# What another place has committed itself to, by version; only a gateway has any (jobs.py).
safe: Final = Table(
    "safe",
    metadata,
    Column("sop_hash", Integer, primary_key=True),
    Column("dataset_sha256", BLOB, primary_key=True),
    Column(
        "transfer_syntax_no", ForeignKey("transfer_syntax.transfer_syntax_no"), primary_key=True
    ),
    # Verified copies, and the sites that have them, joined by commas.
    Column("copies", Integer, nullable=False),
    Column("places", Text, nullable=False),
    sqlite_with_rowid=False,
)

# One per stored copy and destination, until the destination has committed itself (jobs.py).
job: Final = Table(
    "job",
    metadata,
    Column("pack_no", ForeignKey("pack.pack_no"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("destination", Text, primary_key=True),
    # Where its instance is found: the key of that table begins with the series.
    Column("series_no", ForeignKey("series.series_no"), nullable=False),
    Column("study_no", ForeignKey("study.study_no"), nullable=False),
    Column("state", Text, nullable=False),
    Column("urgency", Integer, nullable=False),
    Column("queued_at_ms", Integer, nullable=False),
    Column("due_at_ms", Integer, nullable=False),
    Column("lease_until_ms", Integer, nullable=False, server_default=text("0")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Index(None, "destination", "state", "urgency", "due_at_ms"),
    Index(None, "study_no"),
    sqlite_with_rowid=False,
)

# When a study was retrieved last, so that a gateway lets go of others first; a rebuild forgets it.
access: Final = Table(
    "access",
    metadata,
    Column("study_no", ForeignKey("study.study_no"), primary_key=True),
    Column("at_ms", Integer, nullable=False),
)

# One row, changed by a flush that has nothing else to write.
flush: Final = Table(
    "flush",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)
