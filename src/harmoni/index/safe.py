"""What another place answers for, version by version: at a gateway, what the centre has committed.

Derived from commitment events (ingest.py); the best commitment of a version counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harmoni.index.attributes import pack_uid, uid_hash
from harmoni.index.database import Connection
from harmoni.model.instance import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """Verified copies of one version, elsewhere."""

    copies: int
    places: tuple[str, ...]
    """The sites that have them."""


def note(
    connection: Connection,
    versions: Iterable[tuple[str, bytes, int]],
    copies: int,
    places: Iterable[str],
) -> None:
    """Note that versions are safe; a better commitment stays.

    Args:
        connection: of a write.
        versions: SOP Instance UID, SHA-256, and the number of the transfer syntax.
        copies: how many verified copies there are.
        places: the sites that have them.
    """
    joined = ",".join(places)
    connection.executemany(
        "INSERT INTO safe (sop_hash, dataset_sha256, transfer_syntax_no, copies, places)"
        " VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET copies = excluded.copies, places = excluded.places"
        " WHERE (excluded.copies, excluded.places) > (copies, places)",
        [(uid_hash(uid), sha256, syntax_no, copies, joined) for uid, sha256, syntax_no in versions],
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of something is safe elsewhere, in SOP Instance UIDs."""

    instances: int
    safe: int
    """Of these some version is; the rest may be elsewhere, but nobody has answered for it."""


def of_study(connection: Connection, study_uid: str) -> Coverage:
    """How much of a study's rows is safe elsewhere; (0, 0) for an unknown study."""
    return _coverage(connection, "study.uid = ?", pack_uid(study_uid))


def of_series(connection: Connection, study_uid: str, series_uid: str) -> Coverage:
    """How much of the rows of one series of a study is safe elsewhere."""
    return _coverage(
        connection, "study.uid = ? AND series.uid = ?", pack_uid(study_uid), pack_uid(series_uid)
    )


def _coverage(connection: Connection, condition: str, *uids: bytes) -> Coverage:
    row = connection.execute(
        "SELECT count(DISTINCT sop_hash),"  # noqa: S608 - our own words
        " count(DISTINCT CASE WHEN EXISTS (SELECT 1 FROM safe"
        " WHERE safe.sop_hash = instance.sop_hash"
        " AND safe.dataset_sha256 = instance.dataset_sha256"
        " AND safe.transfer_syntax_no = instance.transfer_syntax_no) THEN sop_hash END)"
        " FROM instance JOIN series USING (series_no) JOIN study USING (study_no)"
        f" WHERE {condition}",
        uids,
    ).fetchone()
    return Coverage(0, 0) if row is None else Coverage(row[0], row[1])


def find(connection: Connection, sop_instance_uid: str, identity: Identity) -> Safe | None:
    """How safe one version is elsewhere, or None if nobody answers for it."""
    row = connection.execute(
        "SELECT copies, places FROM safe JOIN transfer_syntax USING (transfer_syntax_no)"
        " WHERE sop_hash = ? AND dataset_sha256 = ? AND uid = ?",
        (uid_hash(sop_instance_uid), identity.sha256, identity.transfer_syntax_uid),
    ).fetchone()
    if row is None:
        return None
    return Safe(copies=row[0], places=tuple(str(row[1]).split(",")) if row[1] else ())
