"""Erasure: destroying the keys of a study, so that no copy of its packs can be opened any more.

    the tombstone is durable · in the same transaction its rows are gone · the keys' rows leave
    their blocks, block by block

The tombstone comes first, so a crash leaves an erasure that is completed and never one that is
forgotten: `reapply` destroys whatever a tombstone names and is still there. The keeper calls it, as
does a rebuild before it reads anything, so that keys which came back with a restored copy go again.

The bytes of packs stay as they are. An erasure is complete when no old generation of a key block is
left in backups and on offline media, which the installation promises within its horizon. Against
somebody who kept pack, old block and custody it does not hold (docs/reference/threat-model.md).

Who may erase is not decided here: no command reaches this.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from harmoni.backends.filesystem import File, Filesystem
from harmoni.evidence.seal_log import SealRecord
from harmoni.holdings import listing
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.live_index import LiveIndex, drop_replaced
from harmoni.holdings.proven_keys import ProvenKeys
from harmoni.holdings.survey import survey
from harmoni.index import erasures, ingest, packs
from harmoni.index.database import Connection
from harmoni.index.packs import PackRow, PackState
from harmoni.model.errors import Busy, Damaged, NotHeld, Refused, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.runtime.clock import Clock
from harmoni.sealing import event
from harmoni.sealing.pack import PackKind
from harmoni.sealing.tombstone import (
    SALT_BYTES,
    ErasedEvent,
    ErasedPack,
    SealedAs,
    Tombstone,
    hash_of,
)
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What an erasure did."""

    packs: int
    """Packs of instances that cannot be opened any more."""
    events: int
    """Events that named the study, likewise."""
    keys: int
    """Data keys that were destroyed now; less, where a pack is missing or damaged and may come
    back whole."""
    complete_at_ms: int
    """From when on no copy of these keys is left anywhere."""


class Eraser:
    """Erases studies of one hospital.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: whose keys are destroyed.
        index: the hospital's live index.
        events: where the tombstone goes.
        clock: the time.
        horizon_days: after how long the installation has no old copy of a key block any more.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        keyring: Keyring,
        index: LiveIndex,
        events: EventRecorder,
        clock: Clock,
        horizon_days: float,
    ) -> None:
        self._files = files
        self._layout = layout
        self._keyring = keyring
        self._keys = ProvenKeys(files, layout, keyring)
        self._index = index
        self._events = events
        self._clock = clock
        self._horizon_ms = int(horizon_days * _DAY_MS)

    def erase(self, study_instance_uid: str) -> Erasure:
        """Destroy the keys of everything that is held of a study here, and of what is told of it.

        What arrives of the study afterwards is new, and not erased with it.

        Args:
            study_instance_uid: which study; the instances without one cannot be erased as one.

        Raises:
            NotHeld: nothing of it is here.
            Refused: another study lies in one of its packs; nothing was erased.
            Busy: a pack with something of it is still being written, or a rotation of keys runs:
                nothing was erased; try again when it is sealed, or over.
            Damaged, OutOfResources, StorageFailed: before the tombstone nothing was erased; after
                it the study is hidden, and `reapply` destroys the keys that are left.
        """
        with self._files.lock_file(self._layout.rotation_lock):
            self._events.retire()
            # No row can come while this is held: the tombstone has all that is known of the study.
            with self._index.write(durable=True) as connection:
                tombstone = self._tombstone(connection, study_instance_uid)
                fact = self._events.append(event.TOMBSTONE, tombstone.body(), subject="")
                ingest.record_facts(connection, [fact], self._index.terms)
            destroyed = self._keyring.erase(tombstone.key_ids)
        self._drop_replaced_indexes()
        return Erasure(
            packs=len(tombstone.packs),
            events=len(tombstone.events),
            keys=destroyed,
            complete_at_ms=tombstone.complete_at_ms,
        )

    def reapply(self) -> int:
        """Destroy what a tombstone of the live index names and is (again) here: keys and rows.

        Called by the keeper: an erasure may have been interrupted, key blocks may have been
        restored from an old copy, a missing pack may be back. An index that a rebuild has replaced
        since goes with its key.

        Returns:
            How many keys were destroyed.

        Raises:
            Busy: a rotation of keys runs; call it again.
            Damaged, OutOfResources, StorageFailed: some may be left; call it again.
        """
        with self._index.reader() as connection:
            tombstones = [tombstone for _, tombstone in erasures.tombstones(connection)]
            settled = all(erasures.is_noted(connection, each) for each in tombstones)
        destroyed = self._destroy(tombstones)
        if not settled:
            with self._index.write(durable=True) as connection:
                erasures.settle(connection)
        if tombstones:
            self._drop_replaced_indexes()
        return destroyed

    def reapply_from_store(self, logged: Mapping[PackId, SealRecord]) -> frozenset[PackId]:
        """The same by what the event packs say, for a rebuild: the index may be lost.

        Args:
            logged: spares opening packs of instances to see what they are.

        Returns:
            The packs of instances that were erased.

        Raises:
            Busy: a rotation of keys runs; run it again.
            OutOfResources, StorageFailed: some may be left; run it again.
        """
        tombstones = list(self._stored_tombstones(logged))
        with suppress(Damaged):  # a block that cannot be read opens nothing
            self._destroy(tombstones)
        return frozenset(each.pack_id for tombstone in tombstones for each in tombstone.packs)

    def erased_at_ms(self, study_instance_uid: str) -> int | None:
        """When a study was erased last; None if it never was."""
        with self._index.reader() as connection:
            tombstones = erasures.tombstones(connection)
        return max(
            (at_ms for at_ms, each in tombstones if each.is_of(study_instance_uid)), default=None
        )

    def _drop_replaced_indexes(self) -> None:
        # While a rebuild runs its index is not live yet; `reapply` comes again.
        with suppress(Busy), self._files.lock_file(self._layout.rebuild_lock):
            drop_replaced(self._files, self._layout)

    def _destroy(self, tombstones: list[Tombstone]) -> int:
        if not tombstones:
            return 0
        key_ids: set[str] = set()
        for tombstone in tombstones:
            key_ids |= tombstone.key_ids | self._keys_that_are_back(tombstone)
        with self._files.lock_file(self._layout.rotation_lock):
            return self._keyring.erase(key_ids)

    def _keys_that_are_back(self, tombstone: Tombstone) -> set[str]:
        """The keys that a tombstone could not name, by packs that are there, or whole, again."""
        found = {self._keys.of_pack(each.pack_id) for each in tombstone.packs if not each.key_id}
        for each in tombstone.events:
            if not each.key_id:
                keys_of = self._keys.of_events(each.pack_id, tombstone.is_of)
                found.add(keys_of.get(each.sequence, ""))
        return found - {""}

    def _tombstone(self, connection: Connection, study_instance_uid: str) -> Tombstone:
        rows = packs.packs_of_study(connection, study_instance_uid)
        events = erasures.events_about(connection, study_instance_uid)
        if not study_instance_uid or not (rows or events):
            raise NotHeld("there is nothing of that study here; see `harmoni study find`")
        of_events = dict.fromkeys(pack_id for pack_id, _ in events)
        for row in (*rows, *(packs.pack(connection, pack_id) for pack_id in of_events)):
            if row is not None and row.state is PackState.OPEN:
                raise Busy(
                    f"pack {row.pack_id} with something of the study is still being written; erase"
                    " the study when it is sealed, in some minutes"
                )
        for row in rows:
            if erasures.holds_others(connection, row.pack_id, study_instance_uid):
                raise Refused(
                    f"pack {row.pack_id} holds another study as well, whose key would go with it:"
                    " report this"
                )
        salt = os.urandom(SALT_BYTES)
        keys_of = {
            pack_id: self._keys.of_events(pack_id, study_instance_uid.__eq__)
            for pack_id in of_events
        }
        return Tombstone(
            study_hash=hash_of(study_instance_uid, salt),
            salt=salt,
            complete_at_ms=self._clock.now_ms() + self._horizon_ms,
            packs=tuple(self._erased_pack(connection, row) for row in rows),
            events=tuple(
                ErasedEvent(
                    pack_id=pack_id,
                    sequence=sequence,
                    key_id=keys_of[pack_id].get(sequence, ""),
                )
                for pack_id, sequence in events
            ),
        )

    def _erased_pack(self, connection: Connection, row: PackRow) -> ErasedPack:
        key_id = self._keys.of_pack(row.pack_id)
        if not key_id:
            key_id = str(erasures.eviction_body(connection, row.pack_id).get("key", ""))
        sealed = None
        if row.sealed is not None:
            sealed = SealedAs(
                size_bytes=row.sealed.size_bytes,
                sha256=row.sealed.sha256,
                root=row.sealed.root,
                sealed_at_ms=row.sealed.sealed_at_ms,
            )
        return ErasedPack(pack_id=row.pack_id, key_id=key_id, sealed=sealed)

    def _stored_tombstones(self, logged: Mapping[PackId, SealRecord]) -> Iterator[Tombstone]:
        """Every tombstone in the store; what cannot be read is for the rebuild to report."""
        there = self._layout.find_open(self._files) + self._layout.find_sealed(self._files)
        for pack_id, name in there:
            record = logged.get(pack_id)
            if record is not None and record.kind != PackKind.EVENTS:
                continue
            with suppress(NotHeld, Damaged, StorageFailed), self._files.open(name) as file:
                yield from self._tombstones_in(file)

    def _tombstones_in(self, file: File) -> list[Tombstone]:
        if reader.read_readme(file).kind is not PackKind.EVENTS:
            return []
        with suppress(Damaged):  # still open, or its tail is damaged: every event is opened
            contents = listing.read(file, self._keyring).manifest
            if all(listed.kind != event.TOMBSTONE for listed in contents.events):
                return []
        return [
            Tombstone.of_body(each.body)
            for _, each in survey(file, self._keyring).events
            if each.kind == event.TOMBSTONE
        ]
