"""A pack being written: appended to by one process, flushed, and never opened for writing again.

The pack is its own journal (docs/decisions/0011). Order of durability: what `append` wrote counts
only after `sync` has returned; the first `sync` makes the pack's name durable too. After any
failure the pack is fenced: nothing more is written and nothing more is flushed.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress

from harmoni.backends.filesystem import Buffer, File, Filesystem
from harmoni.model.errors import HarmoniError, StorageFailed
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.sealing import pack, tar
from harmoni.sealing.keys import KeyId
from harmoni.vault.layout import Layout


class PackWriter:
    """One open pack, locked by this process until `close`.

    Threads may append at once; offsets are handed out under a lock.

    Args:
        files: the store.
        hospital: whose pack.
        site: the site that writes it.
        pack_id: its new id.
        kind: what its members are.
        key_id: the data key's id, written plainly into the pack.
        data_key: the key itself; never written.

    Raises:
        OutOfResources, StorageFailed: nothing was created that counts.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        hospital: HospitalId,
        site: SiteId,
        pack_id: PackId,
        kind: pack.PackKind,
        key_id: KeyId,
        data_key: bytes,
    ) -> None:
        self.pack_id = pack_id
        self.hospital = hospital
        self.kind = kind
        self.data_key = data_key
        self._files = files
        self._layout = Layout(hospital)
        self._lock = threading.Lock()
        self._sequence = 0
        self._named = False
        self._fenced = False
        readme = pack.Readme(
            pack_id=pack_id, hospital=hospital, site=site, kind=kind, key_id=str(key_id)
        )
        opened_s = pack_id.time_ms // 1000
        self._file, self._end = self._begin(
            tar.plain_member(pack.README_NAME, readme.encode(), opened_s)
        )

    @property
    def size_bytes(self) -> int:
        """How long the pack is now, flushed or not."""
        return self._end

    @property
    def fenced(self) -> bool:
        """Whether a write or a flush has failed: then nobody may add to this pack."""
        return self._fenced

    def next_sequence(self) -> int:
        """The number of the next member; a number given out and not used leaves a gap."""
        with self._lock:
            sequence = self._sequence
            self._sequence += 1
            return sequence

    def append(self, member: Sequence[Buffer]) -> int:
        """Write a whole member: tar header, ciphertext and padding.

        Returns:
            The offset in the pack at which the member begins.

        Raises:
            OutOfResources, StorageFailed: the pack is fenced from now on.
        """
        with self._lock:
            offset = self._end
            self._end += self._write(member, offset)
            return offset

    def append_file(self, header: Buffer, part: File, size_bytes: int, padding: int) -> int:
        """Move a large member in from its part file, without passing through memory.

        Args:
            header: the member's tar header.
            part: the ciphertext.
            size_bytes: its length.
            padding: zero bytes to write after it.

        Returns:
            The offset in the pack at which the member begins.

        Raises:
            OutOfResources, StorageFailed: the pack is fenced from now on.
        """
        with self._lock:
            offset = self._end
            written = self._write([header], offset)
            try:
                self._file.copy_from(part, size_bytes=size_bytes, offset=offset + written)
            except HarmoniError:
                self._fence()
                raise
            written += size_bytes
            written += self._write([bytes(padding)], offset + written)
            self._end = offset + written
            return offset

    def write_at(self, buffers: Sequence[Buffer], offset: int) -> int:
        """Write into the room of a giant that has this pack for itself.

        Returns:
            The number of bytes written.

        Raises:
            OutOfResources, StorageFailed: the pack is fenced from now on.
        """
        with self._lock:
            written = self._write(buffers, offset)
            self._end = max(self._end, offset + written)
            return written

    def sync(self) -> None:
        """Make everything appended before this call durable, and the pack's name with it.

        Raises:
            StorageFailed: the pack is fenced; nothing since the last good `sync` counts.
        """
        if self._fenced:
            raise StorageFailed(f"pack {self.pack_id} is fenced after a failed write; use another")
        try:
            self._file.sync()
            if not self._named:
                self._files.sync_directory(self._layout.open_packs)
                self._named = True
        except HarmoniError:
            self._fence()
            raise

    def close(self) -> None:
        """Let go: the lock is free, and whoever takes it finishes the pack."""
        self._file.close()

    def _begin(self, readme: Buffer) -> tuple[File, int]:
        """Make the file; it gets its name when it is locked.

        Under its name and without a lock it would look like the pack of a writer that died, and
        whoever finishes packs would take it away.
        """
        new = self._layout.new_pack(self.pack_id)
        file = self._files.create(new)
        try:
            if not file.lock():
                raise StorageFailed(f"pack {self.pack_id} is locked by another process")
            end = file.write([readme], 0)
            self._files.rename(new, self._layout.open_pack(self.pack_id))
        except HarmoniError:
            file.close()
            with suppress(HarmoniError):
                self._files.remove(new)
            raise
        return file, end

    def _write(self, buffers: Sequence[Buffer], offset: int) -> int:
        if self._fenced:
            raise StorageFailed(f"pack {self.pack_id} is fenced after a failed write; use another")
        try:
            return self._file.write(buffers, offset)
        except HarmoniError:
            self._fence()
            raise

    def _fence(self) -> None:
        """Mark the pack, best effort: whoever finishes it copies instead of appending a tail."""
        self._fenced = True
        try:
            self._files.publish(self._layout.fenced(self.pack_id), b"")
        except HarmoniError:
            # The disk is full or gone. The mark only spares the finisher a failed attempt: it
            # fences the pack itself when its own write or flush fails.
            return
