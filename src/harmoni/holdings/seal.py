"""Finishing a pack: recovery after a crash and sealing are one act.

A pack whose lock is free belongs to nobody: its worker let go, or died. It is walked, every segment
is opened, hashes are compared with those that were taken on the wire, and what was never
acknowledged at the torn end is cut. Then come manifest, public table and footer, a re-read, the log
record, a flushed commit, and the move to its place. Each step can be repeated after a crash.

An acknowledged member that does not verify is never cut: an instance is flagged and reported, and a
pack with such an event is reported and left as it is.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from harmoni.backends.filesystem import TEMPORARY_SUFFIX, File, Filesystem
from harmoni.dicom.scanner import SCANNER_VERSION
from harmoni.evidence.seal_log import SealLog, SealRecord
from harmoni.holdings import listing, salvage
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.survey import Survey, survey
from harmoni.index import ingest, lookup, packs
from harmoni.model.errors import (
    AlreadyHeld,
    Damaged,
    HarmoniError,
    InvalidInput,
    NotHeld,
    StorageFailed,
    UnknownFormat,
)
from harmoni.model.identifiers import HospitalId, PackId
from harmoni.runtime.clock import Clock
from harmoni.sealing import manifest, pack, tail, tar
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import (
    FENCED_SUFFIX,
    NEW_SUFFIX,
    PACK_SUFFIX,
    PART_SUFFIX,
    Layout,
)

_ABANDONED_MS: Final = 60_000
_LONGEST_PAUSE_S: Final = 60.0
_OF_A_PACK: Final = (PART_SUFFIX, FENCED_SUFFIX, TEMPORARY_SUFFIX)
"""What lies beside a pack, and means nothing without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What finishing one pack came to."""

    pack_id: PackId
    sealed: SealRecord | None
    """None when the pack held nothing that counts and is gone."""
    adopted: int
    """Whole members that had no row: stored, but not acknowledged."""
    cut_bytes: int
    """Bytes of a torn end that nobody was told about."""
    damaged: tuple[lookup.Held, ...]
    """Acknowledged members that do not verify."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A pack that could not be finished."""

    why: str
    tries: int
    again_s: float


class Sealer:
    """Finishes the packs of one hospital that nobody holds.

    Args:
        files: the store.
        hospital: whose packs.
        keyring: the hospital's keys.
        index: its live index.
        log: its seal log at this site.
        clock: the time.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        hospital: HospitalId,
        keyring: Keyring,
        index: LiveIndex,
        log: SealLog,
        clock: Clock,
    ) -> None:
        self._files = files
        self._keyring = keyring
        self._index = index
        self._log = log
        self._clock = clock
        self._layout = Layout(hospital)
        self._troubles: dict[PackId, _Trouble] = {}

    def finish_free(self) -> tuple[list[Finished], dict[str, str]]:
        """Finish every pack whose lock is free.

        Returns:
            What was finished, and for each pack that could not be, by id, why: it stays as it is
            and is tried again, at once and then ever more seldom, since each try reads it whole.
            A file that is no pack of ours is named as well.
        """
        finished, failures = [], {}
        parts: dict[PackId, list[str]] = {}
        for name in self._files.names(self._layout.open_packs):
            try:
                pack_id = PackId(name.removeprefix(".").partition(".")[0])
            except InvalidInput:
                failures[name] = "no pack of ours: somebody put it there; move it away"
                continue
            if name.endswith(NEW_SUFFIX):
                self._drop_abandoned(pack_id)
            elif name.endswith(_OF_A_PACK):
                self._drop_orphan(name, pack_id)
            if name.endswith(PART_SUFFIX):
                # Before its pack's own name, by the order of names.
                parts.setdefault(pack_id, []).append(name)
            if name.endswith(PACK_SUFFIX):
                done = self._try(pack_id, parts.get(pack_id, ()))
                if isinstance(done, _Trouble):
                    failures[str(pack_id)] = done.why
                elif done is not None:
                    finished.append(done)
        return finished, failures

    def _try(self, pack_id: PackId, parts: Sequence[str]) -> Finished | _Trouble | None:
        """Finish a pack, unless it gave trouble and its pause is not over."""
        now_s = self._clock.monotonic_s()
        trouble = self._troubles.get(pack_id)
        if trouble is not None and now_s < trouble.again_s:
            return trouble
        try:
            done = self.finish(pack_id, parts)
        except HarmoniError as error:
            tries = 1 if trouble is None else trouble.tries + 1
            pause_s = 0.0 if tries == 1 else min(_LONGEST_PAUSE_S, 2.0**tries)
            trouble = _Trouble(f"{error.code} {error}", tries, now_s + pause_s)
            self._troubles[pack_id] = trouble
            return trouble
        self._troubles.pop(pack_id, None)
        return done

    def finish(self, pack_id: PackId, parts: Sequence[str] = ()) -> Finished | None:
        """Finish one pack; None if somebody else holds it or has finished it.

        Args:
            pack_id: which one.
            parts: the part files beside it. Without a writer they hold nothing that was
                acknowledged, and their room may be what is missing.

        Raises:
            Damaged: nothing of it can be read although rows say that it was acknowledged, or a
                recorded event does not verify: it stays as it is.
            OutOfResources, StorageFailed: it stays as it is.
        """
        name = self._layout.open_pack(pack_id)
        try:
            file = self._files.open(name, writable=True)
        except NotHeld:
            return None
        with file:
            if not file.lock() or not self._files.exists(name):
                return None
            for part in parts:
                with suppress(NotHeld):
                    self._files.remove(f"{self._layout.open_packs}/{part}")
            # A pack that is in the log was flushed whole: it is moved, whatever failed later.
            fenced = self._files.exists(self._layout.fenced(pack_id))
            fenced = fenced and self._log.find(pack_id) is None
            try:
                if not fenced:
                    # Whoever wrote it may have died between write and flush.
                    file.sync()
                # What is verified is what the disk says and not what the cache remembers.
                file.forget_cache()
                saved = self._save(file, pack_id) if fenced else None
                if saved is None:
                    return self._finish(file, pack_id)
            except StorageFailed:
                self._fence(pack_id)
                raise
        return self.finish(saved)

    def _save(self, file: File, pack_id: PackId) -> PackId | None:
        """Take what a fenced pack holds into a new pack, and let the old one go.

        Members without a row go along: the index may have lost the rows of the last second, so
        that nobody can say that they were not acknowledged.

        Returns:
            The new pack, to be finished; None when there is no member, or an acknowledged one does
            not verify: then the old pack is finished where it lies and the member is flagged,
            since nothing better can be saved and nothing may be cut.
        """
        with self._index.reader() as connection:
            rows = lookup.members(connection, pack_id)
            facts = packs.fact_sequences(connection, pack_id)
        found = survey(file, self._keyring)
        verified = {instance.location: instance.identity for instance in found.instances}
        told = {listed.sequence for listed, _ in found.events}
        if (
            not found.members
            or found.keyless
            or any(verified.get(row.location) != row.identity for row in rows)
            or not facts <= told
        ):
            return None
        writer, places = salvage.salvage(
            file, found, files=self._files, layout=self._layout, keyring=self._keyring
        )
        try:
            with self._index.write(durable=True) as connection:
                packs.replaced(connection, pack_id, writer.pack_id, places)
        finally:
            writer.close()
        self._files.remove(self._layout.open_pack(pack_id))
        self._drop_mark(pack_id)
        self._files.sync_directory(self._layout.open_packs)
        return writer.pack_id

    def _fence(self, pack_id: PackId) -> None:
        """Mark a pack that could not be flushed: the next attempt copies it."""
        with suppress(HarmoniError):
            self._files.publish(self._layout.fenced(pack_id), b"")

    def _finish(self, file: File, pack_id: PackId) -> Finished:
        with self._index.reader() as connection:
            rows = lookup.members(connection, pack_id)
            facts = packs.fact_sequences(connection, pack_id)
        try:
            found = survey(file, self._keyring)
        except UnknownFormat:
            raise
        except Damaged:
            if rows or facts:
                raise
            # The README itself was torn: nothing after it was ever flushed.
            return self._discard(file, pack_id)
        for why in found.keyless.values():
            raise NotHeld(f"{file.name}: {why}")
        lost = facts - {listed.sequence for listed, _ in found.events}
        if lost:
            # A fact's row does not say where its event ends, so that nothing may be cut.
            raise Damaged(
                f"{file.name}: recorded events {sorted(lost)} do not verify; restore the pack from "
                "another copy"
            )
        verified = {instance.location: instance.identity for instance in found.instances}
        damaged = tuple(row for row in rows if verified.get(row.location) != row.identity)
        if not found.members and not damaged:
            return self._discard(file, pack_id)
        end = max([found.end, *(_end(row) for row in damaged)])
        known = {row.location for row in rows}
        cut_bytes = 0
        record = self._whole_tail(file, found, end)
        if record is None:
            cut_bytes = file.size_bytes() - end
            if cut_bytes and self._log.find(pack_id) is not None:
                raise Damaged(
                    f"{file.name} was sealed and its end does not verify any more; "
                    "restore the pack from another copy"
                )
            file.truncate(end)
            record = self._write_tail(file, found, end)
            self._log.append(record)
        else:
            # Interrupted between the tail and the move: the log may have its record already.
            self._log_once(record)
        self._settle(file, found, record, damaged)
        return Finished(
            pack_id=pack_id,
            sealed=record,
            adopted=sum(instance.location not in known for instance in found.instances),
            cut_bytes=cut_bytes,
            damaged=damaged,
        )

    def _write_tail(self, file: File, found: Survey, end: int) -> SealRecord:
        """Append manifest, public table and footer, flush, and read them back."""
        readme = found.readme
        # Not before it was opened, though the clock may have been set back since.
        sealed_ms = max(self._clock.now_ms(), readme.pack_id.time_ms)
        events = tuple(listed for listed, _ in found.events)
        root = (
            manifest.event_root(events)
            if readme.kind is pack.PackKind.EVENTS
            else manifest.pack_root(found.instances)
        )
        contents = manifest.Manifest(
            hospital=readme.hospital,
            site=readme.site,
            pack_id=readme.pack_id,
            kind=readme.kind,
            opened_ms=readme.pack_id.time_ms,
            sealed_ms=sealed_ms,
            root=root,
            scanner_version=SCANNER_VERSION,
            instances=tuple(found.instances),
            events=events,
        )
        written = tail.tail(
            manifest_ciphertext=listing.encrypt(contents, self._keyring.data_key(readme.key_id)),
            public=pack.PublicTable(
                pack_id=readme.pack_id,
                hospital=readme.hospital,
                site=readme.site,
                kind=readme.kind,
                key_id=readme.key_id,
                members=tuple(found.members),
            ),
            offset=end,
            mtime_s=sealed_ms // 1000,
            prefix_hash=reader.running_hash(file, end),
        )
        file.write([written.data], end)
        file.sync()
        file.forget_cache()
        if file.read(end, len(written.data)) != written.data:
            raise StorageFailed(
                f"{file.name}: the tail reads back differently than it was written; "
                "check the disk before trusting it again"
            )
        return SealRecord(
            kind=readme.kind.value,
            pack_id=readme.pack_id,
            size_bytes=written.pack_size,
            sha256=written.sha256,
            root=root,
            sealed_at_ms=sealed_ms,
        )

    def _whole_tail(self, file: File, found: Survey, end: int) -> SealRecord | None:
        """The record of a pack that was sealed already, but not yet moved; None if it was not."""
        try:
            sealed = listing.read(file, self._keyring)
        except Damaged:
            return None
        footer = sealed.footer
        if footer.tail_offset != end:
            return None
        size_bytes = footer.pack_size
        body_end = size_bytes - tail.FOOTER_FROM_END
        running = reader.running_hash(file, body_end)
        if running.digest() != footer.sha256:
            return None
        running.update(file.read(body_end, tail.FOOTER_FROM_END))
        return SealRecord(
            kind=found.readme.kind.value,
            pack_id=found.readme.pack_id,
            size_bytes=size_bytes,
            sha256=running.digest(),
            root=sealed.manifest.root,
            sealed_at_ms=sealed.manifest.sealed_ms,
        )

    def _log_once(self, record: SealRecord) -> None:
        logged = self._log.find(record.pack_id)
        if logged is None:
            self._log.append(record)
        elif logged != record:
            raise Damaged(
                f"pack {record.pack_id} is not what the seal log recorded of it; "
                "fetch it from another copy"
            )

    def _settle(
        self, file: File, found: Survey, record: SealRecord, damaged: tuple[lookup.Held, ...]
    ) -> None:
        """Flushed rows, then the new place: in this order, each step repeatable."""
        pack_id = record.pack_id
        with self._index.write(durable=True) as connection:
            ingest.record(connection, found.instances, self._index.terms, doubtful=True)
            ingest.record_facts(connection, found.facts(), self._index.terms)
            packs.sealed(
                connection,
                packs.SealedPack(
                    pack_id=pack_id,
                    kind=found.readme.kind,
                    size_bytes=record.size_bytes,
                    sha256=record.sha256,
                    root=record.root,
                    sealed_at_ms=record.sealed_at_ms,
                ),
            )
            for row in damaged:
                packs.flag_damaged(connection, row.sop_instance_uid, row.location)
        folder = f"{self._layout.sealed_packs}/{pack_id.folder}"
        self._files.make_directory(folder)
        # It keeps its old name until the new one is durable: else nobody would come again to flush
        # the new one, and a flush of the old folder would leave neither.
        old, new = self._layout.open_pack(pack_id), self._layout.sealed_pack(pack_id)
        try:
            self._files.link(old, new)
        except AlreadyHeld:  # an attempt before this one came so far
            self._files.rename(old, new)
        self._files.sync_directory(folder)
        with suppress(NotHeld):
            self._files.remove(old)
        self._drop_mark(pack_id)
        self._files.sync_directory(self._layout.open_packs)
        # Last: whoever tries again opens the file for writing.
        file.make_read_only()

    def _discard(self, file: File, pack_id: PackId) -> Finished:
        """Remove a pack in which nothing was ever acknowledged or whole."""
        cut_bytes = file.size_bytes()
        with self._index.write() as connection:
            packs.forget(connection, pack_id)
        self._files.remove(self._layout.open_pack(pack_id))
        self._drop_mark(pack_id)
        self._files.sync_directory(self._layout.open_packs)
        return Finished(pack_id=pack_id, sealed=None, adopted=0, cut_bytes=cut_bytes, damaged=())

    def _drop_mark(self, pack_id: PackId) -> None:
        """A pack that is finished needs no mark of a failed write any more."""
        with suppress(NotHeld):
            self._files.remove(self._layout.fenced(pack_id))

    def _drop_abandoned(self, pack_id: PackId) -> None:
        """A pack whose maker died before it had a lock; a maker that lives needs no minute."""
        if self._clock.now_ms() - pack_id.time_ms > _ABANDONED_MS:
            with suppress(NotHeld):
                self._files.remove(self._layout.new_pack(pack_id))

    def _drop_orphan(self, name: str, pack_id: PackId) -> None:
        """What a crash left of a pack that is moved or gone: a mark, whole or not, or a part."""
        if not self._files.exists(self._layout.open_pack(pack_id)):
            with suppress(NotHeld):
                self._files.remove(f"{self._layout.open_packs}/{name}")


def _end(row: lookup.Held) -> int:
    """Where a member ends by its row, padding included."""
    location = row.location
    return location.offset + location.size_bytes + tar.padding(location.size_bytes)
