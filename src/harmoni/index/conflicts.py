"""Which instances are held in several versions, and which packs were compared for that.

A pack is compared once, after it is sealed, with those that were compared before it. So each pair
comes up with the pack that is compared second, whatever clocks say.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harmoni.index import lookup
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackState
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Identity
from harmoni.sealing import event
from harmoni.sealing.pack import PackKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two versions of one SOP Instance."""

    held: Held
    """The version that came up second."""
    before: Held
    """The earlier version that it is best compared with."""


def waiting(connection: Connection) -> list[PackId]:
    """The sealed packs of instances that are not compared yet, lowest id first.

    Those that are evicted cannot be compared, and wait on.
    """
    return _uncompared(connection, without=PackState.EVICTED)


def compared(connection: Connection, pack_ids: Iterable[PackId]) -> None:
    """Note that packs were compared; those that are not known are passed over."""
    connection.executemany(
        "UPDATE pack SET compared = 1 WHERE pack_id = ?", [(pack_id.value,) for pack_id in pack_ids]
    )


def take_over(source: Connection | None, target: Connection) -> None:
    """Let a rebuilt index wait for what the old one waited for, and for nothing else.

    Args:
        source: the old index; None when it is lost, and with it what was still to be compared.
        target: the rebuilt one.
    """
    target.execute("UPDATE pack SET compared = 1 WHERE sealed_at_ms IS NOT NULL")
    still = [] if source is None else _uncompared(source, without=None)
    target.executemany(
        "UPDATE pack SET compared = 0 WHERE pack_id = ?", [(pack_id.value,) for pack_id in still]
    )


def pairs(connection: Connection, pack_id: PackId) -> list[Pair]:
    """The new versions that a pack brings, each with an earlier one of its SOP Instance.

    Earlier are those in packs that were compared, and those before it in the pack itself. Of
    several the first with the same transfer syntax is taken, since more can be told of it, or else
    the first; and of its copies one that is sound, if there is one. A version of which every copy
    is evicted is known, but nothing is compared with it.

    Args:
        connection: from `Database.reader`.
        pack_id: a pack that waits to be compared.
    """
    members = lookup.members_with_other_copies(connection, pack_id)
    found: list[Pair] = []
    for uid in dict.fromkeys(held.sop_instance_uid for held in members):
        copies = lookup.versions(connection, uid)
        known: dict[Identity, list[Held]] = {}
        for copy in _of_compared_packs(connection, copies, pack_id):
            known.setdefault(copy.identity, []).append(copy)
        here = (copy for copy in copies if copy.location.pack_id == pack_id)
        for held in (copy for copy in here if copy.pack_state is not PackState.EVICTED):
            if held.identity not in known and (before := _best(held, known)) is not None:
                found.append(Pair(held=held, before=before))
            known.setdefault(held.identity, []).append(held)
    return found


def counts(connection: Connection, from_ms: int, until_ms: int) -> list[tuple[str, str, int]]:
    """How many versions the events of conflicts name: source, difference, count.

    One that was recorded twice, after a crash or a failure in between, counts once.

    Args:
        connection: from `Database.reader`.
        from_ms: the first time that counts, in milliseconds since 1970.
        until_ms: the first that does not.
    """
    rows = connection.execute(
        "SELECT source, difference, count(*) FROM (SELECT DISTINCT"
        " json_extract(body, '$.source') AS source,"
        " json_extract(body, '$.difference') AS difference,"
        " json_extract(one.value, '$.sop_instance_uid'), json_extract(one.value, '$.sha256')"
        " FROM fact, json_each(fact.body, '$.instances') AS one"
        " WHERE fact.kind = ? AND fact.at_ms >= ? AND fact.at_ms < ?)"
        " GROUP BY source, difference ORDER BY source, difference",
        (event.CONFLICT, from_ms, until_ms),
    )
    return [(str(source), str(difference), int(count)) for source, difference, count in rows]


def _uncompared(connection: Connection, *, without: PackState | None) -> list[PackId]:
    rows = connection.execute(
        "SELECT pack_id FROM pack WHERE compared = 0 AND kind = ? AND sealed_at_ms IS NOT NULL"
        " AND state IS NOT ? ORDER BY pack_id",
        (PackKind.INSTANCES, without),
    )
    return [PackId(pack_id) for (pack_id,) in rows]


def _of_compared_packs(
    connection: Connection, copies: Iterable[Held], pack_id: PackId
) -> list[Held]:
    """Those copies that lie in other packs which were compared before."""
    return [
        copy
        for copy in copies
        if copy.location.pack_id != pack_id and is_compared(connection, copy.location.pack_id)
    ]


def is_compared(connection: Connection, pack_id: PackId) -> bool:
    """Whether a pack was compared with other versions of what it holds."""
    row = connection.execute(
        "SELECT compared FROM pack WHERE pack_id = ?", (pack_id.value,)
    ).fetchone()
    return row is not None and row[0] == 1


def _best(held: Held, known: dict[Identity, list[Held]]) -> Held | None:
    """The copy to compare with; None where all are evicted."""
    syntax = held.identity.transfer_syntax_uid
    here = [
        copies
        for same in known.values()
        if (copies := [copy for copy in same if copy.pack_state is not PackState.EVICTED])
    ]
    same_syntax = (copies for copies in here if copies[0].identity.transfer_syntax_uid == syntax)
    best = next(same_syntax, next(iter(here), []))
    return next((copy for copy in best if copy.sound), next(iter(best), None))
