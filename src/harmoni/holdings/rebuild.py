"""Building the index anew from packs and keys alone, beside the live one, and swapping.

The tails of sealed packs say everything; packs that are still open are walked. While the swap holds
the live index's write lock nobody's row can be lost: a waiting writer finds the new database.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from harmoni.backends.filesystem import File, Filesystem
from harmoni.evidence.seal_log import SealLog, SealRecord
from harmoni.holdings import listing
from harmoni.holdings.live_index import LiveIndex, create_index, make_live
from harmoni.holdings.survey import survey
from harmoni.holdings.take_over import TakeOver, as_logged
from harmoni.index import (
    commitment,
    conflicts,
    equality,
    erasures,
    ingest,
    jobs,
    lookup,
    packs,
    scrubbing,
)
from harmoni.index.database import Connection, Database
from harmoni.index.packs import PackState
from harmoni.model.errors import Damaged, HarmoniError, NotHeld, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Instance
from harmoni.runtime.progress import Progress, unwatched
from harmoni.sealing import tail
from harmoni.sealing.manifest import Manifest
from harmoni.sealing.pack import PackKind
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds

_BATCH_ROWS: Final = 5000
"""Rows that are written at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuild found."""

    packs: int
    instances: int
    unreadable: tuple[str, ...]
    """Packs that could not be read, each with the reason; repair them from another copy."""
    missing: tuple[str, ...]
    """Packs that the log or the old index knows and that are not there; likewise."""
    damaged: int
    """Acknowledged members that could not be read; their rows are taken over and flagged."""
    equal: bool | None
    """Whether the new index says what the old one said.

    None if the old one cannot be read, or if it differs after a rescan.
    """

    @property
    def sound(self) -> bool:
        """Whether everything that was ever acknowledged is there and verifies."""
        return not (self.unreadable or self.missing or self.damaged) and self.equal is not False


def _facts(file: File, contents: Manifest, keyring: Keyring) -> list[ingest.Fact]:
    """The events of a pack that were not erased.

    Raises:
        Damaged, NotHeld: one of them does not open.
    """
    found = survey(file, keyring)
    for why in found.keyless.values():
        raise NotHeld(why)
    there = {listed.sequence for listed, _ in found.events} | found.erased
    lost = sorted({listed.sequence for listed in contents.events} - there)
    if lost:
        raise Damaged(f"events {lost} do not verify")
    return found.facts()


def _scanned(file: File, contents: Manifest, keyring: Keyring) -> tuple[Instance, ...]:
    """The instances of a manifest as their own bytes tell them.

    Raises:
        Damaged: one of them is not what the manifest says.
    """
    found = {each.location: each for each in survey(file, keyring).instances}
    for listed in contents.instances:
        read = found.get(listed.location)
        if read is None or read.identity != listed.identity:
            raise Damaged(
                f"member {listed.location.sequence} is not what the manifest says; repair the pack"
                " from another copy"
            )
    return tuple(found[listed.location] for listed in contents.instances)


def _verified(file: File, footer: tail.Footer) -> bytes:
    """The SHA-256 of a pack of which no log tells, if all of it is what its footer says.

    Raises:
        Damaged: it is not.
    """
    footer_offset = footer.pack_size - tail.FOOTER_FROM_END
    running = reader.running_hash(file, footer_offset)
    if running.digest() != footer.sha256:
        raise Damaged("its bytes are not those that were sealed; use another copy")
    running.update(file.read(footer_offset, tail.FOOTER_FROM_END))
    return running.digest()


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Let Python not look for cycles of objects: manifests have none, and looking costs a tenth."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


@dataclass(slots=True)
class _Waiting:
    """What was read and is not written yet: a transaction for each pack costs half the time."""

    instances: list[Instance] = field(default_factory=list)
    facts: list[ingest.Fact] = field(default_factory=list)
    sealed: list[packs.SealedPack] = field(default_factory=list)


class Rebuilder:
    """Rebuilds one hospital's index.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: its keys.
        index: the live index.
        log: spares reading whole packs for their hash; without its records they are read.
        pack_ids: gives the new index its id.
        reapply: destroys the keys of what was erased, by what the store says, and tells which packs
            of instances those were.
        rescan: read every instance itself, with this version's scanner, and not what the manifest
            says of it.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        keyring: Keyring,
        index: LiveIndex,
        log: SealLog,
        pack_ids: PackIds,
        reapply: Callable[[Mapping[PackId, SealRecord]], frozenset[PackId]],
        rescan: bool = False,
    ) -> None:
        self._files = files
        self._layout = layout
        self._keyring = keyring
        self._index = index
        # Jobs are taken over and made up for at the end, not made anew for everything.
        self._terms = replace(index.terms, destination="")
        self._pack_ids = pack_ids
        self._log = log
        self._reapply = reapply
        self._rescan = rescan
        self._erased: frozenset[PackId] = frozenset()
        self._logged: dict[PackId, SealRecord] = {}
        self._log_end = 0
        self._unreadable: dict[str, str] = {}
        self._kept = TakeOver(files=files, layout=layout, terms=self._terms)
        self._instances = 0
        self._seen: set[PackId] = set()
        self._waiting = _Waiting()

    def rebuild(self, progress: Progress = unwatched) -> RebuildReport:
        """Build, compare, take over what only the old index knows, and swap.

        Nothing that was acknowledged is forgotten: what cannot be read at the moment is taken over
        from the old index, flagged, or at least named from the log.

        Args:
            progress: told how many packs are done.

        Raises:
            Busy: another rebuild of this hospital runs, or a rotation of its keys after something
                was erased.
            OutOfResources, StorageFailed: the live index stays as it is.
        """
        self._files.make_directory(self._layout.index)  # which may be lost with all in it
        with self._files.lock_file(self._layout.rebuild_lock), _no_cycles():
            return self._rebuild(progress)

    def _rebuild(self, progress: Progress) -> RebuildReport:
        # Before anything is read: keys that came back with a restored copy open nothing.
        self._read_log()
        self._erased = self._reapply(self._logged)
        index_id, fresh = create_index(self._files, self._layout, self._keyring, self._pack_ids)
        self._read_sealed(fresh, progress)
        try:
            old = self._index.database()
        except HarmoniError:
            # Lost or unreadable: nothing can be compared or taken over, and nobody can write.
            self._catch_up(fresh, None)
            self._kept.name_missing(fresh, self._logged.values())
            with fresh.write() as target:
                conflicts.take_over(None, target)
                erasures.settle(target)
                self._reconcile(target)
            # Nobody would ever write the rows of sealed packs again.
            fresh.flush()
            make_live(self._files, self._layout, index_id)
            return self._report(equal=None)
        with old.write() as connection:
            self._catch_up(fresh, connection)
            self._kept.take_over(connection, fresh)
            self._kept.name_missing(fresh, self._logged.values())
            with fresh.write(durable=True) as target:
                commitment.take_over(connection, target)
                conflicts.take_over(connection, target)
                scrubbing.take_over(connection, target)
                jobs.take_over(connection, target)
                # An old index may be older than an erasure.
                erasures.settle(target)
                self._reconcile(target)
            with fresh.reader() as rebuilt:
                equal = equality.digest(connection) == equality.digest(rebuilt)
            make_live(self._files, self._layout, index_id)
        # What a rescan reads anew may differ; that is what it is for.
        return self._report(equal=equal or (None if self._rescan else False))

    def _reconcile(self, target: Connection) -> None:
        if destination := self._index.terms.destination:
            copies = jobs.unaccounted(target, self._terms.safe_copies)
            jobs.reconcile(target, destination, copies)

    def _report(self, *, equal: bool | None) -> RebuildReport:
        return RebuildReport(
            packs=len(self._seen),
            instances=self._instances,
            unreadable=tuple(f"{name}: {reason}" for name, reason in self._unreadable.items()),
            missing=tuple(self._kept.missing),
            damaged=self._kept.damaged,
            equal=equal,
        )

    def _read_log(self) -> None:
        """Read the log, or what came since it was read: senders wait while that is caught up."""
        first, self._log_end = self._log_end, self._log.end()
        self._logged |= {record.pack_id: record for record in self._log.readable(first)}

    def _read_sealed(self, fresh: Database, progress: Progress) -> None:
        self._read_log()
        there = self._layout.find_sealed(self._files)
        for done, (pack_id, name) in enumerate(there, start=1):
            if pack_id not in self._seen:
                self._add(fresh, name, pack_id)
            progress(done, len(there))
        self._write_waiting(fresh)

    def _add(self, fresh: Database, name: str, pack_id: PackId) -> None:
        if pack_id in self._erased:
            return  # the tombstone says what is to be said of it
        try:
            file = self._files.open(name)
        except NotHeld:
            # Evicted since it was listed; whoever else takes it is told by the old index and the
            # log, which know it.
            return
        except StorageFailed as error:
            self._unreadable[name] = str(error)
            return
        with file:
            self._add_sealed(fresh, name, file, pack_id)

    def _add_sealed(self, fresh: Database, name: str, file: File, pack_id: PackId) -> None:
        try:
            sealed = listing.read(file, self._keyring)
            contents, instances, facts = sealed.manifest, sealed.manifest.instances, []
            if contents.kind is PackKind.EVENTS:
                facts = _facts(file, contents, self._keyring)
            elif self._rescan:
                instances = _scanned(file, contents, self._keyring)
            record = self._logged.get(pack_id)
            sha256 = _verified(file, sealed.footer) if record is None else record.sha256
        except (Damaged, NotHeld, StorageFailed) as error:
            self._unreadable[name] = str(error)
            self._walk_damaged(fresh, file, pack_id)
            return
        self._waiting.instances += instances
        self._waiting.facts += facts
        self._waiting.sealed.append(
            packs.SealedPack(
                pack_id=pack_id,
                kind=contents.kind,
                size_bytes=sealed.footer.pack_size,
                sha256=sha256,
                root=contents.root,
                sealed_at_ms=contents.sealed_ms,
            )
        )
        self._seen.add(pack_id)
        self._instances += len(instances)
        if len(self._waiting.instances) + len(self._waiting.facts) >= _BATCH_ROWS:
            self._write_waiting(fresh)

    def _write_waiting(self, fresh: Database) -> None:
        """Write the rows of the packs that were read."""
        waiting, self._waiting = self._waiting, _Waiting()
        with fresh.write() as connection:
            ingest.record(connection, waiting.instances, self._terms)
            ingest.record_facts(connection, waiting.facts, self._terms)
            for each in waiting.sealed:
                packs.sealed(connection, each)

    def _walk_damaged(self, fresh: Database, file: File, pack_id: PackId) -> None:
        """A sealed pack whose tail cannot be read still has members: take those that verify."""
        try:
            found = survey(file, self._keyring)
        except (Damaged, NotHeld, StorageFailed):
            return
        with fresh.write() as connection:
            packs.opened(connection, pack_id, found.readme.kind)
            if (record := self._logged.get(pack_id)) is not None:
                # What it must be again: without this no copy can be compared with what was sealed.
                packs.sealed(connection, as_logged(record))
            packs.set_state(connection, pack_id, PackState.DAMAGED)
            ingest.record(connection, found.instances, self._terms)
            ingest.record_facts(connection, found.facts(), self._terms)
        self._instances += len(found.instances)

    def _catch_up(self, fresh: Database, old: Connection | None) -> None:
        """Add what was sealed meanwhile and what is still open.

        Of a pack that is being written, members without a row are left to their writer, who waits
        for the lock that is held here; with the old index lost there is nobody to ask.
        """
        # Listed before the sealed ones: a pack that moves meanwhile is in both, and not in neither.
        there = self._layout.find_open(self._files)
        self._read_sealed(fresh, unwatched)
        # What is listed gets rows, and a row says that pack and name are durable.
        self._files.sync_directory(self._layout.open_packs)
        for pack_id, name in there:
            if pack_id not in self._seen:
                self._add_open(fresh, name, pack_id, old)
        self._write_waiting(fresh)

    def _add_open(
        self, fresh: Database, name: str, pack_id: PackId, old: Connection | None
    ) -> None:
        try:
            file = self._files.open(name)
        except NotHeld:
            # It was finished since it was listed, and is sealed or held nothing.
            sealed = self._layout.sealed_pack(pack_id)
            if self._files.exists(sealed):
                self._add(fresh, sealed, pack_id)
            return
        with file:
            if self._is_sealed(pack_id, old):
                self._add_sealed(fresh, name, file, pack_id)
                return
            try:
                found = survey(file, self._keyring)
            except (Damaged, NotHeld) as error:
                self._unreadable[name] = str(error)
                return
            # Its writer may live, and not have flushed what was read here: nobody may meet a row
            # before its bytes are durable. A fenced pack is never flushed again.
            if not self._files.exists(self._layout.fenced(pack_id)):
                file.sync()
        instances, facts = found.instances, found.facts()
        if old is not None:
            rows = {held.location for held in lookup.members(old, pack_id)}
            told = packs.fact_sequences(old, pack_id)
            instances = [each for each in instances if each.location in rows]
            facts = [each for each in facts if each.sequence in told]
            if not instances and not facts:
                return
        with fresh.write() as connection:
            packs.opened(connection, pack_id, found.readme.kind)
            ingest.record(connection, instances, self._terms)
            ingest.record_facts(connection, facts, self._terms)
        self._instances += len(instances)

    def _is_sealed(self, pack_id: PackId, old: Connection | None) -> bool:
        """Whether the keeper has said that a pack is sealed, be its file moved or not.

        It says so once. A log record alone does not do: the row may still be on its way, and finds
        the new index.
        """
        if old is None:
            return pack_id in self._logged
        row = packs.pack(old, pack_id)
        return row is not None and row.sealed is not None
