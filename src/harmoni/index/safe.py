"""What another place answers for, version by version: at a gateway, what the centre has committed.

Derived from commitment events (ingest.py); the best commitment of a version counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harmoni.index.attributes import uid_hash
from harmoni.index.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """Verified copies of one version, elsewhere."""

    copies: int
    places: tuple[str, ...]
    """The sites that have them."""


def note(
    connection: Connection, versions: Iterable[tuple[str, bytes]], copies: int, places: str
) -> None:
    """Note that versions (SOP Instance UID, SHA-256) are safe; a better commitment stays.

    Args:
        connection: of a write.
        versions: which.
        copies: how many verified copies there are.
        places: the sites that have them, joined by commas.
    """
    connection.executemany(
        "INSERT INTO safe (sop_hash, dataset_sha256, copies, places) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET copies = excluded.copies, places = excluded.places"
        " WHERE (excluded.copies, excluded.places) > (copies, places)",
        [(uid_hash(uid), sha256, copies, places) for uid, sha256 in versions],
    )


def find(connection: Connection, sop_instance_uid: str, sha256: bytes) -> Safe | None:
    """How safe one version is elsewhere, or None if nobody answers for it."""
    row = connection.execute(
        "SELECT copies, places FROM safe WHERE sop_hash = ? AND dataset_sha256 = ?",
        (uid_hash(sop_instance_uid), sha256),
    ).fetchone()
    if row is None:
        return None
    return Safe(copies=row[0], places=tuple(str(row[1]).split(",")) if row[1] else ())
