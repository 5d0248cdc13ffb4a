"""Recording: from the first byte of a data set to the moment at which success may be answered.

An `Incoming` is where the association puts a data set. It hashes and scans what arrives. A small
instance waits in memory; beyond 4 MiB, or when memory is short, it goes to disk as it arrives,
encrypted (holdings/spill.py). `finish` returns when the instance is durable and visible.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from harmoni.dicom import part10, uids
from harmoni.dicom.scanner import Scanner
from harmoni.holdings.chunks import ChunkPool
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.open_pack import OpenPack
from harmoni.holdings.open_packs import OpenPacks
from harmoni.holdings.presence import Presence
from harmoni.holdings.spill import Spill
from harmoni.index import lookup
from harmoni.model.errors import InvalidInput
from harmoni.model.header import SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, Header
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.runtime.clock import Clock
from harmoni.sealing import pack, provenance, streaming, tar

SMALL_BYTES: Final = 4 << 20
"""What one instance may hold in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a C-STORE request says before its data set comes (PS3.7 9.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: uids.TransferSyntax
    origin: Origin
    original_prefix: bytes | None = None
    """Preamble and file meta of an object that came as a file, kept so that it can be given back
    exactly."""
    fetched: bool = False
    """It comes back from where it was sent to: its job, if it needs one, asks before it sends."""


class Recorder:
    """Takes instances for one hospital in one worker.

    Args:
        packs: where they go.
        index: knows what is held already.
        presence: looks at the files of what is held already.
        chunks: the worker's memory for small instances.
        clock: the time.
    """

    def __init__(
        self,
        *,
        packs: OpenPacks,
        index: LiveIndex,
        presence: Presence,
        chunks: ChunkPool,
        clock: Clock,
    ) -> None:
        self.packs = packs
        self.index = index
        self.presence = presence
        self.chunks = chunks
        self.clock = clock

    def begin(self, announced: Announced) -> "Incoming":
        """Prepare to receive one data set; the caller must `finish` or `abandon` it."""
        return Incoming(self, announced)


class Incoming:
    """One data set on its way in; also a `DataSink` for the association.

    Args:
        recorder: the worker's recorder for this hospital.
        announced: what the request said.
    """

    def __init__(self, recorder: Recorder, announced: Announced) -> None:
        self._recorder = recorder
        self._announced = announced
        self._received_at_ms = recorder.clock.now_ms()
        self._salt = os.urandom(provenance.SALT_BYTES)
        self._hash = hashlib.sha256()
        self._scanner = Scanner(announced.transfer_syntax)
        self._size_bytes = 0
        self._chunks: list[bytearray] = []
        self._filled = 0
        self._spill: Spill | None = None

    def reserve(self, wanted: int) -> memoryview:
        """Memory for the next bytes: up to `wanted`, at least one."""
        if self._spill is not None:
            return self._spill.reserve(wanted)
        if not self._chunks or self._filled == len(self._chunks[-1]):
            chunk = self._recorder.chunks.take()
            if chunk is None:
                return self._go_to_disk().reserve(wanted)
            self._chunks.append(chunk)
            self._filled = 0
        return memoryview(self._chunks[-1])[self._filled : self._filled + wanted]

    def commit(self, count: int) -> None:
        """Take the first `count` bytes of what `reserve` gave last.

        Raises:
            OutOfResources, StorageFailed: a large instance could not be written; abandon it.
        """
        if self._spill is not None:
            arrived = self._spill.arrived(count)
        else:
            arrived = memoryview(self._chunks[-1])[self._filled : self._filled + count]
            self._filled += count
        self._hash.update(arrived)
        if not self._scanner.done:
            self._scanner.feed(arrived)
        self._size_bytes += count
        if self._spill is not None:
            self._spill.take(arrived)
        elif self._size_bytes >= SMALL_BYTES:
            self._go_to_disk()

    def finish(self) -> Header:
        """Return when the instance is durable and visible, or was held already.

        Returns:
            What the scanner read of it.

        Raises:
            InvalidInput: the data set is not what the request announced (answer A900).
            OutOfResources, StorageFailed: it could not be stored; nothing is acknowledged.
        """
        try:
            header = self._scanner.header()
            self._check(header)
            identity = Identity(
                self._announced.transfer_syntax.uid, self._hash.digest(), self._size_bytes
            )
            if not self._held_already(identity):
                self._store(header, identity)
        finally:
            self.abandon()
        return header

    def abandon(self) -> None:
        """Give memory and unfinished files back. Calling it again does nothing."""
        self._recorder.chunks.give_back(self._chunks)
        self._chunks = []
        if self._spill is not None:
            self._spill.abandon()
            self._spill = None

    def _check(self, header: Header) -> None:
        announced = self._announced
        for tag, expected, name in (
            (SOP_CLASS_UID, announced.sop_class_uid, "SOP Class UID"),
            (SOP_INSTANCE_UID, announced.sop_instance_uid, "SOP Instance UID"),
        ):
            found = header.uid(tag)
            if found != expected:
                raise InvalidInput(
                    f"the data set's {name} {found!r} is not the command's {expected!r}; "
                    "the sender must send what it announces"
                )

    def _held_already(self, identity: Identity) -> bool:
        with self._recorder.index.reader() as connection:
            versions = lookup.versions(connection, self._announced.sop_instance_uid)
        # A row is visible only after its bytes were flushed, so a sound row with its file is a
        # safe copy.
        return any(
            held.identity == identity and held.sound and self._recorder.presence.has(held.location)
            for held in versions
        )

    def _store(self, header: Header, identity: Identity) -> None:
        if self._spill is not None:
            self._spill.store(
                lambda location: self._instance(header, identity, location),
                doubtful=self._announced.fetched,
            )
            return
        packs = self._recorder.packs
        target = packs.enter(header, self._announced.sop_class_uid)
        try:
            target.commit(self._append(target, header, identity), doubtful=self._announced.fetched)
        finally:
            packs.retire_if_full(target)
            target.leave(self._recorder.clock.monotonic_s())

    def _append(self, target: OpenPack, header: Header, identity: Identity) -> Instance:
        writer = target.writer
        sequence = writer.next_sequence()
        data: list[bytes | bytearray | memoryview] = [self.prefix(), *self._chunks]
        data[-1] = memoryview(self._chunks[-1])[: self._filled] if self._chunks else data[-1]
        member = pack.encrypted_member(
            data,
            name=pack.instance_name(sequence),
            mtime_s=self._received_at_ms // 1000,
            data_key=writer.data_key,
            associated_data=pack.associated_data(
                kind=pack.Kind.INSTANCE,
                hospital=writer.hospital,
                pack_id=writer.pack_id,
                sequence=sequence,
            ),
            salt=os.urandom(streaming.SALT_BYTES),
            nonce_prefix=os.urandom(streaming.NONCE_PREFIX_BYTES),
        )
        offset = writer.append([member]) + tar.BLOCK_BYTES
        size_bytes = streaming.ciphertext_size(sum(len(part) for part in data))
        return self._instance(
            header, identity, Location(writer.pack_id, sequence, offset, size_bytes)
        )

    def prefix(self) -> bytes:
        """What stands before the data set in the member: preamble and file meta of ours."""
        announced = self._announced
        return part10.file_meta(
            sop_class_uid=announced.sop_class_uid,
            sop_instance_uid=announced.sop_instance_uid,
            transfer_syntax_uid=announced.transfer_syntax.uid,
            private_information=provenance.encode(
                provenance.Provenance(
                    origin=announced.origin,
                    received_at_ms=self._received_at_ms,
                    salt=self._salt,
                    original_prefix=announced.original_prefix,
                )
            ),
        )

    def _instance(self, header: Header, identity: Identity, location: Location) -> Instance:
        return Instance(
            sop_class_uid=self._announced.sop_class_uid,
            sop_instance_uid=self._announced.sop_instance_uid,
            header=header,
            identity=identity,
            location=location,
            salt=self._salt,
            received_at_ms=self._received_at_ms,
            origin=self._announced.origin,
        )

    def _go_to_disk(self) -> Spill:
        """Move what has arrived into a spill; what follows goes there directly."""
        header = self._scanner.header()
        # Without a Study Instance UID so far, and still scanning, nobody can say which pack it
        # belongs to: it gets one of its own, as a giant does.
        known = self._scanner.done or header.uid(STUDY_INSTANCE_UID) != ""
        # Noted before anything is written: if that fails, `abandon` must leave the spill's pack,
        # which nobody could finish otherwise.
        self._spill = spill = Spill(
            packs=self._recorder.packs,
            clock=self._recorder.clock,
            mtime_s=self._received_at_ms // 1000,
            header=header if known else None,
            sop_class_uid=self._announced.sop_class_uid,
        )
        spill.take(memoryview(self.prefix()))
        for chunk in self._chunks[:-1]:
            spill.take(memoryview(chunk))
        if self._chunks:
            spill.take(memoryview(self._chunks[-1])[: self._filled])
        self._recorder.chunks.give_back(self._chunks)
        self._chunks = []
        return spill
