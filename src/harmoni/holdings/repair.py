"""Repairing: a whole copy from elsewhere takes the place of a damaged or missing pack.

A copy is believed for its bytes alone: it must have the length and the SHA-256 that were sealed.
It is written beside the damaged file, flushed and read back from the disk. Then an event tells of
it, and only then it is renamed over the file: no pack is ever replaced without saying so.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from harmoni.backends.filesystem import File, Filesystem
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.scrub import UNKNOWN, Scrubber, Verdict
from harmoni.index import packs
from harmoni.index.packs import PackState, SealedPack
from harmoni.model.errors import Damaged, HarmoniError, NotHeld, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.sealing import event
from harmoni.vault import fixity, reader
from harmoni.vault.layout import Layout

Source = Callable[[PackId], File]
"""Opens another copy of a sealed pack; raises NotHeld where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What became of one pack."""

    pack_id: PackId
    repaired: bool
    why: str
    """What was wrong with the pack, or why it could not be repaired."""


def copy_below(files: Filesystem, layout: Layout) -> Source:
    """The sealed packs below another directory that is laid out as a data directory."""
    return lambda pack_id: files.open(layout.sealed_pack(pack_id))


class Repairer:
    """Repairs one hospital's sealed packs.

    Args:
        files: the store.
        layout: the hospital's names.
        index: the hospital's live index, which says what each file must be.
        scrubber: verifies what was put back.
        events: where a repair is recorded.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        index: LiveIndex,
        scrubber: Scrubber,
        events: EventRecorder,
    ) -> None:
        self._files = files
        self._layout = layout
        self._index = index
        self._scrubber = scrubber
        self._events = events

    def wanting(self) -> list[PackId]:
        """The packs that are damaged or missing."""
        with self._index.reader() as connection:
            return sorted(
                row.pack_id
                for state in (PackState.DAMAGED, PackState.MISSING)
                for row in packs.packs_in(connection, state)
            )

    def run(self, source: Source, label: str) -> Iterator[Repaired]:
        """Repair every pack that is damaged or missing, as far as the source has it whole.

        Args:
            source: where whole copies may be.
            label: what the event calls it, such as "dc2".

        Raises:
            Busy: another repair of this hospital runs.
            OutOfResources, StorageFailed: this disk does not take it; what was there is untouched.
        """
        with self._files.lock_file(self._layout.repair_lock):
            for pack_id in self.wanting():
                yield self._repair(pack_id, source, label)

    def _repair(self, pack_id: PackId, source: Source, label: str) -> Repaired:
        with self._index.reader() as connection:
            row = packs.pack(connection, pack_id)
        if row is None or row.sealed is None:
            return Repaired(pack_id=pack_id, repaired=False, why=UNKNOWN)
        # Left by a repair that was interrupted; there is one at a time.
        with suppress(NotHeld):
            self._files.remove(self._layout.repaired_pack(pack_id))
        before = self._scrubber.verify(pack_id)
        if before.sound:
            return Repaired(pack_id=pack_id, repaired=True, why="it is whole again")
        if before.key_fails:
            return Repaired(pack_id=pack_id, repaired=False, why=before.why)
        return self._mend(row.sealed, before, source, label)

    def _mend(self, sealed: SealedPack, before: Verdict, source: Source, label: str) -> Repaired:
        """Put a whole copy in the place of a pack that is damaged or missing."""
        pack_id = sealed.pack_id
        try:
            copy = source(pack_id)
        except (NotHeld, StorageFailed) as error:
            return Repaired(pack_id=pack_id, repaired=False, why=str(error))
        try:
            with copy as file:
                self._take(file, sealed)
        except (Damaged, NotHeld) as error:
            return Repaired(pack_id=pack_id, repaired=False, why=str(error))
        self._record(sealed, before, label)
        self._put_in_place(pack_id)
        after = self._scrubber.verify(pack_id, opens=True)
        if not after.sound:
            return Repaired(pack_id=pack_id, repaired=False, why=after.why)
        return Repaired(pack_id=pack_id, repaired=True, why=before.why)

    def _take(self, source: File, sealed: SealedPack) -> None:
        """Write a copy beside the pack, durable, if it is what was sealed."""
        if source.size_bytes() != sealed.size_bytes:
            raise Damaged(f"the copy {source.name} has another length than was sealed")
        beside = self._layout.repaired_pack(sealed.pack_id)
        self._files.make_directory(beside.rpartition("/")[0])
        try:
            with self._files.create(beside) as file:
                written_bytes = 0
                for run in _runs(source, sealed.size_bytes):
                    written_bytes += file.write([run], written_bytes)
                file.sync()
                if fixity.sha256(file) != sealed.sha256:
                    raise Damaged(f"the copy {source.name} has another SHA-256 than was sealed")
                file.make_read_only()
        except HarmoniError:
            self._files.remove(beside)
            raise

    def _put_in_place(self, pack_id: PackId) -> None:
        name = self._layout.sealed_pack(pack_id)
        self._files.rename(self._layout.repaired_pack(pack_id), name)
        self._files.sync_directory(name.rpartition("/")[0])

    def _record(self, sealed: SealedPack, before: Verdict, label: str) -> None:
        self._events.record(
            event.REPAIR,
            {
                "pack": str(sealed.pack_id),
                "sha256": sealed.sha256.hex(),
                "size": sealed.size_bytes,
                "from": label,
                "was": before.state.value,
                "members": list(before.members),
            },
            subject="",
        )


def _runs(source: File, size_bytes: int) -> Iterator[memoryview]:
    """All of a copy; where its disk fails, another pack's copy may be whole.

    Raises:
        Damaged: there is not so much, or its disk does not give it.
    """
    try:
        yield from reader.runs(source, 0, size_bytes)
    except StorageFailed as error:
        raise Damaged(f"the copy cannot be read: {error}") from error
