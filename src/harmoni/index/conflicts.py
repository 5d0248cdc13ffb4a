"""Which instances are held in several versions, and what was found out about them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from harmoni.index import lookup, packs
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Location
from harmoni.sealing.pack import PackKind

_NOT_YET: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two versions of one SOP Instance, both sealed."""

    held: Held
    """The version that was sealed second."""
    before: Held
    """The first of those that were sealed before it."""


def pairs(connection: Connection, pack_id: PackId) -> list[Pair]:
    """The versions that a pack brings of instances which other versions were sealed of before.

    A pair comes up once, with the pack that is sealed second: versions in packs that are still open
    do not count. A further copy of a version that is sealed already makes no pair.

    Args:
        connection: from `Database.reader`.
        pack_id: a sealed pack.
    """
    sealed_order = _SealedOrder(connection)
    found = []
    for held in lookup.members_with_other_copies(connection, pack_id):
        mine = sealed_order.place(held)
        before = [
            (place, copy)
            for copy in lookup.versions(connection, held.sop_instance_uid)
            if (place := sealed_order.place(copy)) < mine
        ]
        if before and all(copy.identity != held.identity for _, copy in before):
            found.append(Pair(held=held, before=min(before, key=itemgetter(0))[1]))
    return found


class _SealedOrder:
    """The order in which copies were sealed; those in open packs come last."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sealed_at_ms: dict[PackId, int] = {}

    def place(self, copy: Held) -> tuple[int, Location]:
        pack_id = copy.location.pack_id
        if pack_id not in self._sealed_at_ms:
            row = packs.pack(self._connection, pack_id)
            sealed = None if row is None else row.sealed
            self._sealed_at_ms[pack_id] = _NOT_YET if sealed is None else sealed.sealed_at_ms
        return self._sealed_at_ms[pack_id], copy.location


def lately_sealed(connection: Connection, within_ms: int) -> list[PackId]:
    """The packs of instances that were sealed up to so long before the newest of them."""
    rows = connection.execute(
        "SELECT pack_id FROM pack WHERE kind = ?1 AND sealed_at_ms >="
        " (SELECT max(sealed_at_ms) FROM pack WHERE kind = ?1) - ?2 ORDER BY pack_id",
        (PackKind.INSTANCES, within_ms),
    )
    return [PackId(pack_id) for (pack_id,) in rows]


def recorded(
    connection: Connection, kind: str, pack_id: PackId, since_ms: int
) -> list[Mapping[str, object]]:
    """The bodies of the facts of a kind that name a pack, recorded since then.

    Args:
        connection: from `Database.reader`.
        kind: of facts whose body has a field `pack`.
        pack_id: the pack.
        since_ms: bounds what is read, in milliseconds since 1970.
    """
    rows = connection.execute(
        "SELECT body FROM fact WHERE kind = ? AND at_ms >= ? AND json_extract(body, '$.pack') = ?",
        (kind, since_ms, pack_id.value),
    )
    return [json.loads(body) for (body,) in rows]


def counts(
    connection: Connection, kind: str, from_ms: int, until_ms: int
) -> list[tuple[str, str, int]]:
    """How many instances facts of conflicts name: source, difference, count.

    Args:
        connection: from `Database.reader`.
        kind: of those facts.
        from_ms: the first time that counts, in milliseconds since 1970.
        until_ms: the first that does not.
    """
    rows = connection.execute(
        "SELECT json_extract(body, '$.source'), json_extract(body, '$.difference'),"
        " sum(json_array_length(body, '$.instances')) FROM fact"
        " WHERE kind = ? AND at_ms >= ? AND at_ms < ? GROUP BY 1, 2 ORDER BY 1, 2",
        (kind, from_ms, until_ms),
    )
    return [(str(source), str(difference), int(count)) for source, difference, count in rows]
