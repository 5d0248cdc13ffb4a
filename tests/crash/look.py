"""Looking at a hospital after a crash, and saying what is not as it was promised."""

import hashlib
from collections.abc import Iterator, Mapping

import house as houses
from crash.promised import Promised
from harmoni.index import lookup, packs, safe
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackRow, PackState
from harmoni.model.errors import Damaged, Erased, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.sealing import event
from harmoni.vault import reader
from house import House


class Violated(AssertionError):
    """An invariant does not hold; the harness has found a fault."""


def check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Violated(otherwise)


def what_was_told_holds(house: House, promised: Promised) -> None:
    """Before any recovery: rows that were flushed, damage, repairs and erasures that were told."""
    for number in promised.flushed:
        check(house.versions(number), f"the flushed row of instance {number} is lost")
    for pack_id, told in promised.told.items():
        with house.holding.index.reader() as connection:
            row = packs.pack(connection, PackId(pack_id))
            held = lookup.members(connection, PackId(pack_id))
        assert row is not None
        assert row.sealed is not None
        if row.state is PackState.SEALED and sha256(house, pack_id) == row.sealed.sha256:
            continue  # repaired, and nobody was told so yet
        check(row.state is told.state, f"pack {pack_id}, {told.state}, counts as {row.state}")
        believed = [each.location for each in held if each.sound]
        lost = {each.location for each in held if each.sop_instance_uid in told.sop_instance_uids}
        check(not lost.intersection(believed), f"what was told to be lost is believed: {believed}")
    for pack_id in promised.repaired:
        is_unchanged(house, pack_id, promised.sealed[pack_id])
    for study in promised.destroyed:
        for pack_id in promised.erasing[study].pack_ids:
            check(not opens(house, pack_id), f"a key of {study} is there after it was erased")


def is_readable(house: House, promised: Promised, data: Mapping[str, bytes]) -> None:
    """In the midst of an operator's work: what no disk has lost comes back bit for bit."""
    given = set()
    for _, members in _rows(house):
        for member in members:
            try:
                given.add((member.sop_instance_uid, house.recall(member)))
            except (Damaged, NotHeld):
                continue
    wrong = {sop_uid for sop_uid, content in given if data.get(sop_uid, content) != content}
    check(not wrong, f"another content: {wrong}")
    for number in promised.stored.keys() - promised.lost:
        there = (houses.uid(number), promised.stored[number]) in given
        check(there, f"acknowledged instance {number} cannot be read")


def all_is_kept(house: House, promised: Promised, data: Mapping[str, bytes]) -> None:
    """I1 to I3: after recovery nothing is lost, nothing is damaged and nothing has changed."""
    holding = house.holding
    with holding.index.reader() as connection:
        marks = _facts(connection, "mark")
        replaced = _facts(connection, "pack", event.REPAIR)
        held = {
            number: lookup.versions(connection, houses.uid(number)) for number in promised.stored
        }
        committed = {
            number
            for number, versions in held.items()
            if any(
                safe.find(connection, each.sop_instance_uid, each.identity) is not None
                for each in versions
            )
        }
    recalled = _recalled(house, data)
    # I1: what was acknowledged is given back, or was let go and is committed elsewhere.
    for number in promised.stored:
        gone = any(each.pack_state is PackState.EVICTED for each in held[number])
        check(
            houses.uid(number) in recalled or (gone and number in committed),
            f"acknowledged instance {number} is lost",
        )
    lost = promised.events - marks
    check(not lost, f"acknowledged events are lost: {sorted(lost)}")
    # What was told to be damaged is whole, so it was replaced, by whomever.
    untold = (promised.told.keys() | promised.repaired) - replaced
    check(not untold, f"no event says that packs were replaced: {untold}")
    # I3: sealed packs never change, and no key seals two of them.
    for pack_id, sealed in promised.sealed.items():
        is_unchanged(house, pack_id, sealed)
    keys = []
    for path in house.files("packs/*/p/*/*.tar"):
        with house.site.files.open(str(path.relative_to(house.root))) as file:
            keys.append(reader.read_readme(file).key_id)
    check(len(keys) == len(set(keys)), "a key seals two packs")
    for _ in holding.log.records():
        pass


def is_unchanged(house: House, pack_id: str, sealed: bytes) -> None:
    """A sealed pack is what was sealed, or was let go."""
    found = sha256(house, pack_id)
    if found is None:
        with house.holding.index.reader() as connection:
            row = packs.pack(connection, PackId(pack_id))
        evicted = row is not None and row.state is PackState.EVICTED
        check(evicted, f"sealed pack {pack_id} is gone")
    else:
        check(found == sealed, f"sealed pack {pack_id} changed")


def answers_again(house: House, promised: Promised, numbers: list[int]) -> None:
    """An identical re-send is answered, and is no second copy of what is held sound."""
    for number in numbers:
        before = house.versions(number)
        house.store(promised.stored[number], number, step=1500)
        after = house.versions(number)
        held = any(each.sound for each in before)
        check(
            len(after) == len(before) + (not held),
            f"instance {number} was held {len(before)} times, after a re-send {len(after)} times",
        )


def opens(house: House, pack_id: str) -> bool:
    """Whether there is a key to a sealed pack; asked of the files and not of anybody's memory."""
    fresh = house.again("dc1-n1-w8")
    with reader.open_file(house.site.files, house.holding.layout, PackId(pack_id)) as file:
        key_id = reader.read_readme(file).key_id
    try:
        fresh.holding.keyring.data_key(key_id)
    except Erased:
        return False
    return True


def sha256(house: House, pack_id: str) -> bytes | None:
    """The SHA-256 of a sealed pack's file; None if there is none."""
    path = house.site.files.path(house.holding.layout.sealed_pack(PackId(pack_id)))
    return hashlib.sha256(path.read_bytes()).digest() if path.exists() else None


def _recalled(house: House, data: Mapping[str, bytes]) -> set[str]:
    """I2: every row resolves to a member that verifies, or to a copy that was let go."""
    recalled = set()
    for row, members in _rows(house):
        if row.state in {PackState.EVICTED, PackState.ERASED}:
            continue
        check(row.state is PackState.SEALED, f"pack {row.pack_id} is {row.state}")
        assert row.sealed is not None
        is_unchanged(house, str(row.pack_id), row.sealed.sha256)
        for member in members:
            check(not member.damaged, f"flagged as damaged: {member.location}")
            content = house.recall(member)
            expected = data.get(member.sop_instance_uid, content)
            check(content == expected, f"another content: {member.location}")
            recalled.add(member.sop_instance_uid)
    return recalled


def _facts(connection: Connection, of: str, kind: str = "") -> set[str]:
    """One field of every event in the index, or of every one of a kind."""
    rows = connection.execute(
        "SELECT json_extract(body, ?) FROM fact WHERE kind = ? OR ? = ''", (f"$.{of}", kind, kind)
    )
    return {value for (value,) in rows.fetchall()}


def _rows(house: House) -> Iterator[tuple[PackRow, list[Held]]]:
    """Every pack that the index knows, with its members."""
    with house.holding.index.reader() as connection:
        rows = [
            (row, lookup.members(connection, row.pack_id))
            for state in PackState
            for row in packs.packs_in(connection, state)
        ]
    yield from rows
