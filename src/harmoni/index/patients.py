"""Patient rows: found by their key, saying what their first study says, gone with their last."""

from collections.abc import Iterable

from harmoni.dicom import matching
from harmoni.index import attributes
from harmoni.index.attributes import pack_uid
from harmoni.index.database import Connection
from harmoni.model import header
from harmoni.model.instance import Instance


def number_of(connection: Connection, instance: Instance, domain: str) -> int:
    """The number of the patient by key (issuer or the source's domain, Patient ID).

    Without a Patient ID every study is a patient of its own.
    """
    value = attributes.reader(
        attributes.with_character_set(instance.header.patient, instance.header.character_set)
    )
    patient_id = searchable(value(header.PATIENT_ID))
    if patient_id:
        key = (patient_id, value(header.ISSUER_OF_PATIENT_ID) or domain, b"")
    else:
        key = ("", "", pack_uid(instance.study_instance_uid))
    row = connection.execute(
        "SELECT patient_no FROM patient WHERE patient_id = ? AND issuer = ? AND study_uid = ?",
        key,
    ).fetchone()
    if row is not None:
        return int(row[0])
    [(number,)] = connection.execute(
        "INSERT INTO patient (patient_id, issuer, study_uid, birth_date, several, attributes)"
        " VALUES (?, ?, ?, '', 0, x'') RETURNING patient_no",
        key,
    ).fetchall()
    return int(number)


def settle(connection: Connection, patient_no: int) -> None:
    """Let a patient say what its first study says, and go when it has none."""
    row = connection.execute(
        "SELECT patient_attributes FROM study WHERE patient_no = ?"
        " ORDER BY first_pack_id, first_sequence LIMIT 1",
        (patient_no,),
    ).fetchone()
    connection.execute("DELETE FROM patient_name WHERE patient_no = ?", (patient_no,))
    if row is None:
        connection.execute("DELETE FROM patient WHERE patient_no = ?", (patient_no,))
        return
    value = attributes.reader(attributes.unpack(row[0]))
    names = value(header.PATIENT_NAME).split("\\")
    groups = {group for name in names for group in matching.name_groups(name)} or {""}
    connection.executemany(
        "INSERT INTO patient_name (name, patient_no) VALUES (?, ?)",
        [(searchable(group), patient_no) for group in groups],
    )
    birth_date = value(attributes.PATIENT_BIRTH_DATE)
    connection.execute(
        "UPDATE patient SET birth_date = ?, several = ?, attributes = ? WHERE patient_no = ?",
        (
            matching.full_form(birth_date, "DA") or "",
            several((birth_date, value(header.PATIENT_ID))),
            row[0],
            patient_no,
        ),
    )


def several(searched: Iterable[str]) -> int:
    """1 when a value that is searched is several values, where the standard allows one."""
    return int(any("\\" in value for value in searched))


def searchable(value: str) -> str:
    """Text for GLOB, which would end at a NUL; broken senders write them."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
