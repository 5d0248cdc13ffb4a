"""Packs as the index knows them, and what passes through it between their writers and the keeper.

A pack's facts come from the store and are rebuilt with it: that it was opened, that it was sealed
and as what. The rest is bookkeeping, which no store tells: requests to seal early, which
a rebuild does without, and what it takes over from the old index: flags of damage, when a pack was
scrubbed (scrubbing.py), whether it was compared for conflicts (conflicts.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from harmoni.index.attributes import pack_uid, uid_hash, unpack_uid
from harmoni.index.database import Connection, Row
from harmoni.model.errors import NotHeld
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Location
from harmoni.sealing.pack import PackKind


class PackState(StrEnum):
    """Where a pack stands."""

    OPEN = "open"
    """Being written, or waiting for the keeper."""
    SEALED = "sealed"
    """Verified, its log record written; it never changes again."""
    MISSING = "missing"
    """Its file is gone; its members are asked for again."""
    DAMAGED = "damaged"
    """Its file does not verify; single members may still be readable."""
    EVICTED = "evicted"
    """Its file was let go: every instance in it is safe elsewhere; the rows stay."""
    ERASED = "erased"
    """Its key was destroyed on purpose: nobody can open it any more, and its rows are gone."""


LET_GO: Final = (PackState.EVICTED, PackState.ERASED)
"""States that a pack does not leave: whatever is found of its file says nothing any more."""
NOT_HERE: Final = (PackState.MISSING, *LET_GO)
"""States in which nothing can be given back from a pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPack:
    """What sealing found out about a pack."""

    pack_id: PackId
    kind: PackKind
    size_bytes: int
    """Size of the file."""
    sha256: bytes
    """SHA-256 of the file."""
    root: bytes
    """Merkle root over the salted hashes of its members."""
    sealed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRow:
    """What the index knows of a pack."""

    pack_id: PackId
    kind: PackKind
    state: PackState
    sealed: SealedPack | None
    """None before the pack was sealed."""


def opened(connection: Connection, pack_id: PackId, kind: PackKind) -> None:
    """Note a new pack; no change if it is known already."""
    connection.execute(
        "INSERT OR IGNORE INTO pack (pack_id, kind, state) VALUES (?, ?, ?)",
        (pack_id.value, kind, PackState.OPEN),
    )


def sealed(connection: Connection, pack: SealedPack) -> None:
    """Note that a pack is sealed, and drop the requests to do so. Repeating it changes nothing.

    A pack that was let go of stays so: its file may wait for its removal, and be read again.
    """
    connection.execute(
        "INSERT INTO pack (pack_id, kind, state, size_bytes, sha256, root, sealed_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pack_id) DO UPDATE SET"
        " state = CASE WHEN pack.state IN (?, ?) THEN pack.state ELSE excluded.state END,"
        " size_bytes = excluded.size_bytes, sha256 = excluded.sha256,"
        " root = excluded.root, sealed_at_ms = excluded.sealed_at_ms",
        (
            pack.pack_id.value,
            pack.kind,
            PackState.SEALED,
            pack.size_bytes,
            pack.sha256,
            pack.root,
            pack.sealed_at_ms,
            *LET_GO,
        ),
    )
    connection.execute("DELETE FROM seal_request WHERE pack_id = ?", (pack.pack_id.value,))


def set_state(connection: Connection, pack_id: PackId, state: PackState) -> None:
    """Note what has become of a known pack: it is missing, damaged, back, or let go of.

    Raises:
        NotHeld: the index knows no such pack.
    """
    changed = connection.execute(
        "UPDATE pack SET state = ? WHERE pack_id = ?", (state, pack_id.value)
    ).rowcount
    if changed == 0:
        raise NotHeld(f"the index knows no pack {pack_id}: rebuild it from the store")


def newest_ms(connection: Connection) -> int:
    """The time in the newest pack id, in milliseconds since 1970; 0 for none."""
    row = connection.execute("SELECT max(pack_id) FROM pack").fetchone()
    return 0 if row is None or row[0] is None else PackId(row[0]).time_ms


def forget(connection: Connection, pack_id: PackId) -> None:
    """Drop a pack in which nothing was ever acknowledged.

    A pack that has rows of members cannot be dropped: the foreign key refuses it.
    """
    connection.execute("DELETE FROM seal_request WHERE pack_id = ?", (pack_id.value,))
    connection.execute("DELETE FROM pack WHERE pack_id = ?", (pack_id.value,))


def replaced(connection: Connection, old: PackId, new: PackId, places: Iterable[Location]) -> None:
    """Let every row of a pack follow its members into the pack that takes its place.

    Args:
        connection: of a durable write.
        old: the pack that goes. Its members' sequence numbers are kept.
        new: its immediate successor in order, so that whatever was first stays first.
        places: where each member lies in the new pack.
    """
    connection.execute("DELETE FROM seal_request WHERE pack_id = ?", (old.value,))
    connection.execute(
        "UPDATE pack SET pack_id = ? WHERE pack_id = ?",
        (new.value, old.value),
    )
    for table in ("study", "series"):
        connection.execute(
            f"UPDATE {table} SET first_pack_id = ? WHERE first_pack_id = ?",  # noqa: S608 - ours
            (new.value, old.value),
        )
    connection.executemany(
        "UPDATE instance SET offset = ?, size_bytes = ?"
        " WHERE sequence = ? AND pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
        [(place.offset, place.size_bytes, place.sequence, new.value) for place in places],
    )


def facts(connection: Connection, pack_id: PackId) -> list[tuple[int, str, int, str, str]]:
    """The facts of a pack as they stand: sequence, kind, time, subject, body as JSON."""
    rows = connection.execute(
        "SELECT sequence, fact.kind, at_ms, subject, body FROM fact JOIN pack USING (pack_no)"
        " WHERE pack_id = ? ORDER BY sequence",
        (pack_id.value,),
    )
    return [(int(row[0]), str(row[1]), int(row[2]), str(row[3]), str(row[4])) for row in rows]


def fact_sequences(connection: Connection, pack_id: PackId) -> set[int]:
    """The sequence numbers of a pack's facts."""
    rows = connection.execute(
        "SELECT sequence FROM fact JOIN pack USING (pack_no) WHERE pack_id = ?", (pack_id.value,)
    )
    return {int(sequence) for (sequence,) in rows}


def pack(connection: Connection, pack_id: PackId) -> PackRow | None:
    """One pack, or None if the index does not know it."""
    row = connection.execute(f"{_SELECT} WHERE pack_id = ?", (pack_id.value,)).fetchone()
    return None if row is None else _pack_row(row)


def packs_in(connection: Connection, state: PackState) -> list[PackRow]:
    """Every pack in a state, lowest id first."""
    rows = connection.execute(f"{_SELECT} WHERE state = ? ORDER BY pack_id", (state,))
    return [_pack_row(row) for row in rows]


def packs_after(
    connection: Connection, after: PackId | None, states: Iterable[PackState], limit: int
) -> list[PackRow]:
    """So many packs in one of the states, lowest id first, from behind an id on; None for all.

    For whoever goes through a million packs: piece by piece, since what reads must be brief.
    """
    wanted = tuple(states)
    # The plus keeps the index over states out of it, which would sort every pack for each piece.
    rows = connection.execute(
        f"{_SELECT} WHERE pack_id > ? AND +state IN ({', '.join('?' * len(wanted))})"
        " ORDER BY pack_id LIMIT ?",
        ("" if after is None else after.value, *wanted, limit),
    )
    return [_pack_row(row) for row in rows]


def packs_of_study(connection: Connection, study_instance_uid: str) -> list[PackRow]:
    """Every pack that holds, or held, instances of a study, lowest id first."""
    rows = connection.execute(
        f"{_SELECT} WHERE pack_no IN"  # noqa: S608 - our own words
        " (SELECT pack_no FROM instance JOIN series USING (series_no)"
        " JOIN study USING (study_no) WHERE study.uid = ?) ORDER BY pack_id",
        (pack_uid(study_instance_uid),),
    )
    return [_pack_row(row) for row in rows]


def studies_held(connection: Connection) -> list[str]:
    """The studies with an instance in a pack that was not let go of, longest unused first.

    Used is: received, or retrieved (`touch`).
    """
    rows = connection.execute(
        "SELECT study.uid FROM pack JOIN instance USING (pack_no) JOIN series USING (series_no)"
        " JOIN study USING (study_no) LEFT JOIN access USING (study_no)"
        " WHERE pack.state <> ? AND study.uid <> x'' GROUP BY study_no"
        " ORDER BY max(coalesce(access.at_ms, 0), max(received_at_ms))",
        (PackState.EVICTED,),
    )
    return [unpack_uid(uid) for (uid,) in rows]


def touch(connection: Connection, study_instance_uids: Iterable[str], at_ms: int) -> None:
    """Note that studies are retrieved."""
    connection.executemany(
        "INSERT INTO access (study_no, at_ms) SELECT study_no, ? FROM study WHERE uid = ?"
        " ON CONFLICT (study_no) DO UPDATE SET at_ms = excluded.at_ms",
        [(at_ms, pack_uid(uid)) for uid in study_instance_uids],
    )


def request_seal(connection: Connection, pack_ids: Iterable[PackId], at_ms: int) -> None:
    """Ask the writers of packs to let them go early; the first request of a pack stands.

    Packs that are sealed, or unknown, are passed over.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO seal_request (pack_id, requested_at_ms)"
        " SELECT pack_id, ? FROM pack WHERE pack_id = ? AND state = ?",
        [(at_ms, pack_id.value, PackState.OPEN) for pack_id in pack_ids],
    )


def seal_requests(connection: Connection) -> dict[PackId, int]:
    """The packs that somebody waits for, and since when (milliseconds since 1970)."""
    rows = connection.execute("SELECT pack_id, requested_at_ms FROM seal_request")
    return {PackId(pack_id): requested_at_ms for pack_id, requested_at_ms in rows}


def flag_damaged(
    connection: Connection, sop_instance_uid: str, location: Location, *, damaged: bool = True
) -> None:
    """Flag one stored copy as damaged, or as sound again after a repair.

    Raises:
        NotHeld: there is no such copy.
    """
    changed = connection.execute(
        "UPDATE instance SET damaged = ? WHERE sop_hash = ? AND sequence = ?"
        " AND pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?)",
        (
            int(damaged),
            uid_hash(sop_instance_uid),
            location.sequence,
            location.pack_id.value,
        ),
    ).rowcount
    if changed == 0:
        raise NotHeld(
            f"there is no member {location.sequence} of pack {location.pack_id} in the index: "
            "rebuild it from the store"
        )


_SELECT = "SELECT pack_id, kind, state, size_bytes, sha256, root, sealed_at_ms FROM pack"


def _pack_row(row: Row) -> PackRow:
    pack_id, kind, state, size_bytes, sha256, root, sealed_at_ms = row
    return PackRow(
        pack_id=PackId(pack_id),
        kind=PackKind(kind),
        state=PackState(state),
        sealed=None
        if sealed_at_ms is None
        else SealedPack(
            pack_id=PackId(pack_id),
            kind=PackKind(kind),
            size_bytes=size_bytes,
            sha256=sha256,
            root=root,
            sealed_at_ms=sealed_at_ms,
        ),
    )
