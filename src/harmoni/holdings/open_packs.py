"""The open packs of one worker for one hospital: one per study, let go when they are due."""

import threading
from contextlib import suppress
from dataclasses import dataclass

from harmoni.backends.filesystem import File, Filesystem
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.open_pack import OpenPack
from harmoni.holdings.room import Room
from harmoni.index import packs
from harmoni.model.errors import OutOfResources, StorageFailed
from harmoni.model.header import STUDY_INSTANCE_UID as STUDY
from harmoni.model.header import Header
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.runtime.clock import Clock
from harmoni.sealing.pack import PackKind
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds
from harmoni.vault.writer import PackWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """When a worker lets go of a pack (docs/decisions/0011)."""

    quiet_s: float = 600.0
    max_age_s: float = 3600.0
    max_bytes: int = 256 << 20
    max_open: int = 512
    commitment_quiet_s: float = 20.0


class OpenPacks:
    """Finds the pack that an instance belongs to, and retires packs that are due.

    Args:
        files: the store.
        hospital: whose packs.
        site: this site.
        keyring: gives each new pack its data key.
        index: the hospital's live index.
        clock: the time.
        pack_ids: gives each new pack its id.
        limits: when to let go.
        room: says whether there is any.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        hospital: HospitalId,
        site: SiteId,
        keyring: Keyring,
        index: LiveIndex,
        clock: Clock,
        pack_ids: PackIds,
        limits: PackLimits,
        room: Room,
    ) -> None:
        self.limits = limits
        self.room = room
        self._files = files
        self._hospital = hospital
        self._layout = Layout(hospital)
        self._site = site
        self._keyring = keyring
        self._index = index
        self._clock = clock
        self._pack_ids = pack_ids
        self._lock = threading.Lock()
        self._packs: dict[tuple[str, str], OpenPack] = {}

    def enter(self, header: Header, sop_class_uid: str) -> OpenPack:
        """The pack of an instance's study, opened if need be; the caller must `leave` it.

        An instance without a Study Instance UID belongs to the pack of its SOP class.

        Raises:
            OutOfResources, StorageFailed: no pack could be opened, or there is no room.
        """
        self.room.require()
        study = header.uid(STUDY)
        key = ("study", study) if study else ("class", sop_class_uid)
        while True:
            with self._lock:
                found = self._packs.get(key)
                if found is None or found.writer.fenced:
                    found = self._packs[key] = self._open(alone=False)
            if found.enter():
                return found
            self._forget(key, found)

    def enter_alone(self) -> OpenPack:
        """A new pack for one giant; the caller must `leave` and `retire` it."""
        self.room.require()
        giant = self._open(alone=True)
        giant.enter()
        return giant

    def retire_due(self) -> int:
        """Let go of every pack that is quiet, old, big, fenced, surplus or asked for.

        Called every second. Returns the number of packs let go of.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            held = list(self._packs.items())
        if not held:
            return 0
        with self._index.reader() as connection:
            wanted = packs.seal_requests(connection)
        surplus = max(0, len(held) - self.limits.max_open)
        oldest_first = sorted(held, key=lambda item: item[1].touched_s)
        due = [
            (key, candidate)
            for rank, (key, candidate) in enumerate(oldest_first)
            if rank < surplus
            or candidate.writer.fenced
            or (
                candidate.writer.pack_id in wanted
                and now_s - candidate.touched_s >= self.limits.commitment_quiet_s
            )
            or candidate.writer.size_bytes >= self.limits.max_bytes
            or now_s - candidate.touched_s >= self.limits.quiet_s
            or now_s - candidate.opened_s >= self.limits.max_age_s
        ]
        for key, candidate in due:
            self._forget(key, candidate)
        return len(due)

    def retire_if_full(self, full: OpenPack) -> None:
        """Let go of a pack that has just reached its limit, so that the next one goes elsewhere."""
        if full.writer.size_bytes >= self.limits.max_bytes or full.writer.fenced:
            with self._lock:
                keys = [key for key, held in self._packs.items() if held is full]
            for key in keys:
                self._forget(key, full)

    def retire_all(self) -> None:
        """Let go of every pack: the worker ends."""
        with self._lock:
            held = list(self._packs.items())
        for key, each in held:
            self._forget(key, each)

    def create_part(self, pack_id: PackId, sequence: int) -> File:
        """A file for a large instance on its way into a pack."""
        return self._files.create(self._layout.part(pack_id, sequence))

    def remove_part(self, pack_id: PackId, sequence: int) -> None:
        """Drop a part file: its instance is in the pack now, or was given up.

        One that cannot be removed is in nobody's way, and goes when its pack is finished: what the
        sender is told must not depend on it, nor that the pack is let go of.
        """
        with suppress(StorageFailed, OutOfResources):
            self._files.remove(self._layout.part(pack_id, sequence))

    def _forget(self, key: tuple[str, str], retired: OpenPack) -> None:
        with self._lock:
            if self._packs.get(key) is retired:
                del self._packs[key]
        retired.retire()

    def _open(self, *, alone: bool) -> OpenPack:
        key_id, data_key = self._keyring.mint()
        writer = PackWriter(
            files=self._files,
            hospital=self._hospital,
            site=self._site,
            pack_id=self._pack_ids.mint(),
            kind=PackKind.INSTANCES,
            key_id=key_id,
            data_key=data_key,
        )
        return OpenPack(writer, self._index, opened_s=self._clock.monotonic_s(), alone=alone)
