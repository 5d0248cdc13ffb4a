"""Reading packs: members found by walking or by location, opened segment by segment.

Every segment is authenticated before a byte of it is handed out.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final

from harmoni.backends.filesystem import File, Filesystem
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.sealing import pack, streaming, tail, tar
from harmoni.vault.layout import Layout

_RUN_BYTES: Final = 8 * streaming.SEGMENT_BYTES
"""Ciphertext read and opened at once: eight whole segments."""
_OPEN_PACKS: Final = 64


@dataclass(frozen=True, slots=True)
class Member:
    """One member met while walking a pack."""

    name: str
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Where the next member's header begins."""
        return self.offset + self.size_bytes + tar.padding(self.size_bytes)


def walk(file: File) -> Iterator[Member]:
    """The members of a pack in order, by their tar headers alone.

    Ends at the zero blocks, at the end of the file, or before the first header that is torn or
    whose member would lie beyond the end: what follows was never acknowledged, or is damage that
    the caller finds by comparing with what it knows.
    """
    size_bytes = file.size_bytes()
    offset = 0
    while offset + tar.BLOCK_BYTES <= size_bytes:
        room = min(tar.PAX_HEADER_BYTES, size_bytes - offset)
        try:
            header = tar.parse_member_header(file.read(offset, room))
        except Damaged:
            return
        if header is None or offset + header.header_bytes + header.size_bytes > size_bytes:
            return
        member = Member(header.name, offset + header.header_bytes, header.size_bytes)
        yield member
        offset = member.end


def read_readme(file: File) -> pack.Readme:
    """The plain first member of a pack: which pack it is and which key opens it.

    Raises:
        Damaged: it is altered or cut.
    """
    member = next(walk(file), None)
    if member is None or member.name != pack.README_NAME:
        raise Damaged(f"{file.name} does not begin with a README; use another copy")
    return pack.Readme.decode(file.read(member.offset, member.size_bytes))


def read_tail(file: File) -> tuple[tail.Footer, tail.ParsedTail]:
    """The end of a sealed pack: what it lists, checked as far as that is possible without a key.

    Raises:
        Damaged: there is no whole tail, or a byte of it was altered.
        StorageFailed: the disk does not give some byte of it.
    """
    size_bytes = file.size_bytes()
    if size_bytes < tail.END_BYTES:
        raise Damaged(f"{file.name} is too short to be a sealed pack; use another copy")
    footer = tail.parse_footer(file.read(size_bytes - tail.END_BYTES, tail.END_BYTES))
    if footer.pack_size != size_bytes:
        raise Damaged(f"{file.name} has another length than its footer says; use another copy")
    start = footer.tail_offset
    return footer, tail.parse_tail(file.read(start, size_bytes - start), footer)


class RunMemory:
    """What runs are read and opened in, for whoever opens many members one after the other.

    New memory for each costs more than to read and to open it: the kernel clears every page.
    """

    def __init__(self) -> None:
        self.ciphertext = memoryview(bytearray(_RUN_BYTES))
        self.plaintext = memoryview(bytearray(_RUN_BYTES))


def open_member(
    file: File,
    *,
    offset: int,
    size_bytes: int,
    data_key: bytes,
    associated_data: bytes,
    observe: Callable[[memoryview], object] | None = None,
    memory: RunMemory | None = None,
) -> Iterator[memoryview]:
    """The plaintext of a member, in runs of up to 512 KiB, each authenticated before it is given.

    Args:
        file: the pack, or the part file of a large instance.
        offset: where the ciphertext begins.
        size_bytes: its length.
        data_key: of the pack, or of the event.
        associated_data: what the member must be bound to.
        observe: is shown the ciphertext of each run, in order, before it is opened.
        memory: where runs are read and opened; each run is then valid until the next is asked for.
            Without it each run has memory of its own.

    Raises:
        Damaged: a segment fails; nothing of its run was given.
    """
    decryptor = None
    for start in range(0, max(size_bytes, 1), _RUN_BYTES):
        length = min(_RUN_BYTES, size_bytes - start)
        ciphertext = _some(memory.ciphertext if memory else None, length)
        file.read_into(ciphertext, offset + start)
        if observe is not None:
            observe(ciphertext)
        if decryptor is None:
            decryptor = streaming.Decryptor(
                data_key=data_key,
                associated_data=associated_data,
                header=ciphertext[: streaming.HEADER_BYTES],
                ciphertext_size=size_bytes,
            )
            ciphertext = ciphertext[streaming.HEADER_BYTES :]
        room = _some(memory.plaintext if memory else None, length)
        filled = decryptor.open_run_into(start // streaming.SEGMENT_BYTES, ciphertext, room)
        yield room[:filled]


def _some(memory: memoryview | None, size_bytes: int) -> memoryview:
    return memoryview(bytearray(size_bytes)) if memory is None else memory[:size_bytes]


def runs(file: File, offset: int, size_bytes: int) -> Iterator[memoryview]:
    """A stretch of a file as it lies there, in runs of up to 512 KiB, nothing of it verified.

    Yields:
        The runs; each is valid until the next is asked for.

    Raises:
        Damaged: the file ends before the stretch does.
        StorageFailed: the disk does not give some byte of it.
    """
    memory = memoryview(bytearray(min(size_bytes, _RUN_BYTES)))
    for start in range(offset, offset + size_bytes, _RUN_BYTES):
        run = memory[: offset + size_bytes - start]
        file.read_into(run, start)
        yield run


def running_hash(file: File, size_bytes: int) -> tail.Hash:
    """A SHA-256 that has taken the first so many bytes of a file and can take more."""
    running = hashlib.sha256()
    for run in runs(file, 0, size_bytes):
        running.update(run)
    return running


def open_file(files: Filesystem, layout: Layout, pack_id: PackId) -> File:
    """The file of a pack, sealed or still open.

    Raises:
        NotHeld: neither is there: the pack is missing.
    """
    for name in layout.places_of_pack(pack_id):
        with suppress(NotHeld):
            return files.open(name)
    raise NotHeld(f"pack {pack_id} of {layout.hospital} is missing; repair it from another copy")


@dataclass(frozen=True, slots=True)
class OpenedPack:
    """A pack that is open for reading, with its key."""

    file: File
    pack_id: PackId
    data_key: bytes


class PackReader:
    """The packs of one hospital, opened as they are asked for; the last 64 stay open.

    Args:
        files: the store.
        layout: the hospital's names.
        data_key: finds a data key by the id that stands in a pack.
    """

    def __init__(self, files: Filesystem, layout: Layout, data_key: Callable[[str], bytes]) -> None:
        self._files = files
        self._layout = layout
        self._data_key = data_key
        self._opened: OrderedDict[PackId, OpenedPack] = OrderedDict()
        self._lock = Lock()

    def open(self, pack_id: PackId) -> OpenedPack:
        """A pack, sealed or still open.

        Raises:
            NotHeld: neither is there: the pack is missing.
            Damaged: its README cannot be read.
        """
        with self._lock:
            opened = self._opened.get(pack_id)
            if opened is None or (opened.file.is_removed() and self._is_there(pack_id)):
                # New, or repaired since: another file has the name.
                opened = self._open(pack_id)
                self._opened[pack_id] = opened
                if len(self._opened) > _OPEN_PACKS:
                    # Not closed here: a reader may be in the middle of it. The file closes when
                    # the last reference goes.
                    self._opened.popitem(last=False)
            self._opened.move_to_end(pack_id)
            return opened

    def forget_gone(self) -> None:
        """Let go of packs that have no name any more; whoever reads one reads it to its end."""
        with self._lock:
            for pack_id, opened in list(self._opened.items()):
                if opened.file.is_removed():
                    del self._opened[pack_id]

    def forget_all(self) -> None:
        """Let go of every pack and its key; whoever reads one reads it to its end."""
        with self._lock:
            self._opened.clear()

    def _is_there(self, pack_id: PackId) -> bool:
        return self._files.exists(self._layout.sealed_pack(pack_id))

    def _open(self, pack_id: PackId) -> OpenedPack:
        file = open_file(self._files, self._layout, pack_id)
        return OpenedPack(file, pack_id, self._data_key(read_readme(file).key_id))
