"""A large instance on its way to disk, encrypted as it arrives; no plaintext is ever written.

    up to 4 MiB       held in memory (holdings/record.py), never here
    below 256 MiB     open/<pack id>.<sequence>.part, moved into the study's pack when complete
    from 256 MiB on   opened and encrypted anew, once, into a pack of its own, and on from there

Room for a giant's tar header is left at its start and filled in last, before the flush.
"""

import os
from collections.abc import Callable
from typing import Final

from harmoni.backends.filesystem import File
from harmoni.holdings.chunks import CHUNK_BYTES
from harmoni.holdings.open_packs import OpenPacks
from harmoni.model.errors import HarmoniError
from harmoni.model.header import Header
from harmoni.model.instance import Instance, Location
from harmoni.runtime.clock import Clock
from harmoni.sealing import pack, streaming, tar
from harmoni.vault import reader

GIANT_BYTES: Final = 256 << 20
_WRITE_BYTES: Final = 1 << 20
"""Ciphertext gathered for one write."""


class Spill:
    """The encrypted part of one large instance.

    Args:
        packs: where it belongs.
        clock: the time.
        mtime_s: receive time, for the tar header.
        header: what was scanned, or None if the study is not known yet.
        sop_class_uid: of the instance.
    """

    def __init__(
        self,
        *,
        packs: OpenPacks,
        clock: Clock,
        mtime_s: int,
        header: Header | None,
        sop_class_uid: str,
    ) -> None:
        self._packs = packs
        self._clock = clock
        self._mtime_s = mtime_s
        self._left = False
        self._chunk = bytearray(CHUNK_BYTES)
        self._out = bytearray()
        self._written = 0
        self._part: File | None = None
        self._pack = packs.enter_alone() if header is None else packs.enter(header, sop_class_uid)
        try:
            self._begin()
        except HarmoniError:
            self.abandon()
            raise

    def reserve(self, wanted: int) -> memoryview:
        """Memory for the next bytes."""
        return memoryview(self._chunk)[:wanted]

    def arrived(self, count: int) -> memoryview:
        """The first `count` bytes of what `reserve` gave."""
        return memoryview(self._chunk)[:count]

    def take(self, plaintext: memoryview) -> None:
        """Encrypt the next bytes and write what has gathered.

        Raises:
            OutOfResources, StorageFailed: the instance cannot be stored; abandon it.
        """
        self._encryptor.update(plaintext, self._out)
        if len(self._out) >= _WRITE_BYTES:
            self._write()
            if not self._pack.alone and self._written >= GIANT_BYTES:
                self._become_giant()

    def store(self, instance: Callable[[Location], Instance], *, doubtful: bool) -> None:
        """Complete the member and return when it is durable and visible.

        Args:
            instance: makes the row, given where the member lies.
            doubtful: as `OpenPack.commit`.

        Raises:
            OutOfResources, StorageFailed: it is not stored.
        """
        self._encryptor.finish(self._out)
        self._write()
        writer, name = self._pack.writer, pack.instance_name(self._sequence)
        padding = bytes(tar.padding(self._written))
        if self._part is not None:
            # It goes in as a copy, which must not fence the pack for want of room.
            self._packs.room.require(self._written)
            header = tar.member_header(name, self._written, self._mtime_s)
            start = writer.append_file(header, self._part, self._written, len(padding))
            offset = start + len(header)
        else:
            header = tar.member_header(name, self._written, self._mtime_s, always_pax=True)
            offset = self._start + len(header)
            writer.write_at([padding], offset + self._written)
            # Last: until the header is there, nobody who walks the pack sees the member.
            writer.write_at([header], self._start)
        place = Location(writer.pack_id, self._sequence, offset, self._written)
        self._pack.commit(instance(place), doubtful=doubtful)

    def abandon(self) -> None:
        """Leave the pack and drop the part file. Calling it again does nothing."""
        if self._left:
            return
        self._left = True
        if self._part is not None:
            self._part.close()
            self._packs.remove_part(self._pack.writer.pack_id, self._sequence)
            self._part = None
        if self._pack.alone:
            self._pack.retire()
        else:
            self._packs.retire_if_full(self._pack)
        self._pack.leave(self._clock.monotonic_s())

    def _begin(self) -> None:
        writer = self._pack.writer
        self._sequence = writer.next_sequence()
        self._start = writer.size_bytes
        self._written = 0
        self._encryptor = streaming.Encryptor(
            data_key=writer.data_key,
            associated_data=self._associated_data(),
            salt=os.urandom(streaming.SALT_BYTES),
            nonce_prefix=os.urandom(streaming.NONCE_PREFIX_BYTES),
        )
        if not self._pack.alone:
            self._part = self._packs.create_part(writer.pack_id, self._sequence)

    def _become_giant(self) -> None:
        """Encrypt what is on disk anew into a pack of its own, and go on there."""
        self._encryptor.finish(self._out)
        self._write()
        part, former, sequence = self._part, self._pack, self._sequence
        assert part is not None
        self._packs.room.require(self._written)
        plaintext = reader.open_member(
            part,
            offset=0,
            size_bytes=self._written,
            data_key=former.writer.data_key,
            associated_data=self._associated_data(),
        )
        self._part = None
        try:
            self._pack = self._packs.enter_alone()
            self._begin()
            for run in plaintext:
                self.take(run)
        finally:
            part.close()
            self._packs.remove_part(former.writer.pack_id, sequence)
            if self._pack is not former:
                former.leave(self._clock.monotonic_s())

    def _associated_data(self) -> bytes:
        writer = self._pack.writer
        return pack.associated_data(
            kind=pack.Kind.INSTANCE,
            hospital=writer.hospital,
            pack_id=writer.pack_id,
            sequence=self._sequence,
        )

    def _write(self) -> None:
        self._packs.room.require()
        if self._part is not None:
            self._written += self._part.write([self._out], self._written)
        else:
            room = tar.PAX_HEADER_BYTES
            self._written += self._pack.writer.write_at(
                [self._out], self._start + room + self._written
            )
        self._out.clear()
