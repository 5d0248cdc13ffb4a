"""Erased studies: their rows are gone, and what the store still has of them is told apart.

Derived from tombstones, which are facts like others (ingest.py): a rebuild comes to the same rows.
A pack whose key was destroyed stays in the table as ERASED, so that nobody looks for its instances,
takes it for damaged, or asks another site for it.
"""

import json

from harmoni.index import patients
from harmoni.index.attributes import pack_uid, uid_hash, unpack_uid
from harmoni.index.database import Connection
from harmoni.index.packs import PackState
from harmoni.model.identifiers import PackId
from harmoni.sealing import event
from harmoni.sealing.pack import PackKind
from harmoni.sealing.tombstone import Tombstone


def tombstones(connection: Connection) -> list[tuple[int, Tombstone]]:
    """Every tombstone with its time, oldest first."""
    rows = connection.execute(
        "SELECT at_ms, body FROM fact WHERE kind = ? ORDER BY at_ms, pack_no, sequence",
        (event.TOMBSTONE,),
    )
    return [(int(at_ms), Tombstone.of_body(json.loads(str(body)))) for at_ms, body in rows]


def events_about(connection: Connection, study_instance_uid: str) -> list[tuple[PackId, int]]:
    """Where the events lie that name a study: pack and sequence."""
    rows = connection.execute(
        "SELECT pack_id, sequence FROM fact JOIN pack USING (pack_no) WHERE subject = ?"
        " ORDER BY pack_id, sequence",
        (study_instance_uid,),
    )
    return [(PackId(pack_id), int(sequence)) for pack_id, sequence in rows]


def holds_others(connection: Connection, pack_id: PackId, study_instance_uid: str) -> bool:
    """Whether a pack has instances of another study, as none of ours has."""
    row = connection.execute(
        "SELECT 1 FROM instance JOIN series USING (series_no) JOIN study USING (study_no)"
        " WHERE pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?) AND study.uid <> ? LIMIT 1",
        (pack_id.value, pack_uid(study_instance_uid)),
    ).fetchone()
    return row is not None


def eviction_body(connection: Connection, pack_id: PackId) -> dict[str, object]:
    """What the event says by which a pack was let go; empty if there is none."""
    row = connection.execute(
        "SELECT body FROM fact WHERE kind = ? AND json_extract(body, '$.pack') = ?",
        (event.EVICTION, pack_id.value),
    ).fetchone()
    return {} if row is None else dict(json.loads(str(row[0])))


def note(connection: Connection, tombstone: Tombstone) -> None:
    """Take every row of an erased study away, and what was derived from it.

    The pages that held them are overwritten with zeros; older ones in the database's log go when
    the log is used again. Repeating it changes nothing.

    Args:
        connection: of a write.
        tombstone: what was erased.
    """
    connection.execute("PRAGMA secure_delete = ON")
    try:
        for each in tombstone.packs:
            _forget_instances(connection, each.pack_id)
            sealed = each.sealed
            connection.execute(
                "INSERT INTO pack"
                " (pack_id, kind, state, size_bytes, sha256, root, sealed_at_ms, compared)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (pack_id) DO UPDATE SET"
                " state = excluded.state, compared = 1",
                (
                    each.pack_id.value,
                    PackKind.INSTANCES,
                    PackState.ERASED,
                    None if sealed is None else sealed.size_bytes,
                    None if sealed is None else sealed.sha256,
                    None if sealed is None else sealed.root,
                    None if sealed is None else sealed.sealed_at_ms,
                ),
            )
        connection.executemany(
            "DELETE FROM fact WHERE sequence = ?"
            " AND pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
            [(each.sequence, each.pack_id.value) for each in tombstone.events],
        )
    finally:
        connection.execute("PRAGMA secure_delete = OFF")


def settle(connection: Connection) -> bool:
    """Take away again what tombstones have taken away and something has brought back.

    An older index that was restored does, and a pack of events that was missing at that time.

    Returns:
        Whether there was anything.
    """
    left = [told for _, told in tombstones(connection) if not is_noted(connection, told)]
    for tombstone in left:
        note(connection, tombstone)
    return bool(left)


def is_noted(connection: Connection, tombstone: Tombstone) -> bool:
    """Whether nothing is here of what a tombstone names."""
    for each in tombstone.packs:
        row = connection.execute(
            "SELECT state, EXISTS (SELECT 1 FROM instance WHERE instance.pack_no = pack.pack_no)"
            " FROM pack WHERE pack_id = ?",
            (each.pack_id.value,),
        ).fetchone()
        if row is None or row[0] != PackState.ERASED or row[1]:
            return False
    return not any(
        connection.execute(
            "SELECT 1 FROM fact JOIN pack USING (pack_no) WHERE pack_id = ? AND sequence = ?",
            (each.pack_id.value, each.sequence),
        ).fetchall()
        for each in tombstone.events
    )


def _forget_instances(connection: Connection, pack_id: PackId) -> None:
    """Drop the instances of a pack, and then whatever has no instance any more."""
    held = connection.execute(
        "SELECT DISTINCT series_no, study_no FROM instance JOIN series USING (series_no)"
        " WHERE pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
        (pack_id.value,),
    ).fetchall()
    _forget_promises(connection, pack_id)
    for table in ("job", "instance"):
        connection.execute(
            f"DELETE FROM {table} WHERE"  # noqa: S608 - our own words
            " pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
            (pack_id.value,),
        )
    connection.execute("DELETE FROM seal_request WHERE pack_id = ?", (pack_id.value,))
    for series_no, _ in held:
        connection.execute(
            "DELETE FROM series WHERE series_no = ?"
            " AND NOT EXISTS (SELECT 1 FROM instance WHERE instance.series_no = series.series_no)",
            (series_no,),
        )
    for study_no in {study_no for _, study_no in held}:
        _forget_study(connection, study_no)


def _forget_study(connection: Connection, study_no: object) -> None:
    row = connection.execute(
        "SELECT patient_no FROM study WHERE study_no = ?"
        " AND NOT EXISTS (SELECT 1 FROM series WHERE series.study_no = study.study_no)",
        (study_no,),
    ).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM access WHERE study_no = ?", (study_no,))
    connection.execute("DELETE FROM study WHERE study_no = ?", (study_no,))
    patients.settle(connection, int(row[0]))


def _forget_promises(connection: Connection, pack_id: PackId) -> None:
    """What others have committed themselves to, and what we have, about the instances of a pack."""
    rows = connection.execute(
        "SELECT sop_hash, dataset_sha256, transfer_syntax_no, sop_uid FROM instance"
        " WHERE pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
        (pack_id.value,),
    ).fetchall()
    connection.executemany(
        "DELETE FROM safe WHERE sop_hash = ? AND dataset_sha256 = ? AND transfer_syntax_no = ?",
        [row[:3] for row in rows],
    )
    uids = [unpack_uid(row[3]) for row in rows]
    connection.execute(
        "DELETE FROM commitment_reference WHERE sop_instance_uid IN"
        " (SELECT value FROM json_each(?)) AND commitment_no IN"
        " (SELECT commitment_no FROM commitment WHERE answered_at_ms IS NOT NULL)",
        (json.dumps(uids),),
    )


def forget_answered(connection: Connection, requester: str, transaction_uid: str) -> None:
    """Drop what an answered commitment says of erased instances; an erasure lets it be answered.

    Args:
        connection: of a write.
        requester: whose transaction.
        transaction_uid: which.
    """
    if not tombstones(connection):
        return
    rows = connection.execute(
        "SELECT commitment_no, position, sop_instance_uid FROM commitment_reference"
        " JOIN commitment USING (commitment_no)"
        " WHERE requester = ? AND transaction_uid = ? AND failure_reason IS NULL",
        (requester, transaction_uid),
    ).fetchall()
    connection.executemany(
        "DELETE FROM commitment_reference WHERE commitment_no = ? AND position = ?"
        " AND NOT EXISTS (SELECT 1 FROM instance WHERE sop_hash = ?)",
        [(number, position, uid_hash(uid)) for number, position, uid in rows],
    )
