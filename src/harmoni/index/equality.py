"""Whether two indexes say the same: a digest over all that is derived from the store.

Rows are read by their names (UIDs, pack ids), never by internal numbers, and in the order of those
names; so it does not matter in which order they were written. What stands in the database alone
(transactions, requests, flags of damage and comparison) is left out.
"""

import hashlib
import marshal
from typing import Final

from harmoni.index.database import Connection

# One statement per table, with a total order over names.
_STATEMENTS: Final = (
    """
    SELECT patient_id, issuer, study_uid, birth_date, attributes
    FROM patient ORDER BY patient_id, issuer, study_uid
    """,
    """
    SELECT patient_id, issuer, study_uid, name
    FROM patient_name JOIN patient USING (patient_no)
    ORDER BY patient_id, issuer, study_uid, name
    """,
    """
    SELECT study.uid, patient_id, issuer, study_uid, first_pack_id, first_sequence, date, time,
           accession_number, study_id, study.attributes, patient_attributes
    FROM study JOIN patient USING (patient_no) ORDER BY study.uid
    """,
    """
    SELECT study.uid, series.uid, series.first_pack_id, series.first_sequence, modality,
           series_number, series.attributes
    FROM series JOIN study USING (study_no) ORDER BY study.uid, series.uid
    """,
    """
    SELECT pack_id, sequence, study.uid, series.uid, sop_hash, sop_uid, sop_class.uid,
           transfer_syntax.uid, calling_ae_title, called_ae_title, address, verdict, received_at_ms,
           offset, instance.size_bytes, dataset_size_bytes, dataset_sha256, instance.attributes
    FROM instance JOIN pack USING (pack_no) JOIN series USING (series_no)
         JOIN study USING (study_no) JOIN sop_class USING (sop_class_no)
         JOIN transfer_syntax USING (transfer_syntax_no) JOIN origin USING (origin_no)
    ORDER BY pack_id, sequence
    """,
    """
    SELECT pack_id, kind, state, size_bytes, sha256, root, sealed_at_ms
    FROM pack ORDER BY pack_id
    """,
    """
    SELECT pack_id, sequence, fact.kind, at_ms, subject, body
    FROM fact JOIN pack USING (pack_no) ORDER BY pack_id, sequence
    """,
    """
    SELECT sop_hash, dataset_sha256, uid, copies, places
    FROM safe JOIN transfer_syntax USING (transfer_syntax_no)
    ORDER BY sop_hash, dataset_sha256, uid
    """,
)


def digest(connection: Connection) -> bytes:
    """SHA-256 over every store-derived row; equal if and only if the two indexes say the same.

    Reads the whole index and sorts it: meant for checks after a rebuild, not for daily use.
    """
    total = hashlib.sha256()
    for statement in _STATEMENTS:
        total.update(b"\0table\0")
        for row in connection.execute(statement):
            # It tells types apart and delimits text and bytes by itself; version 0 says equal
            # values equally, which later ones do not.
            total.update(marshal.dumps(tuple(row), 0))
    return total.digest()
