"""The audit spool: a durable, encrypted, hash-chained, append-only file per writer and start.

The format is docs/reference/audit-spool.md. The rules it keeps: a file has one writer and is never
appended to by another; each record authenticates its number and the hash of the one before, so that
a record that was changed, removed, repeated or moved is found; after a failed write or flush the
file is fenced for ever. What is cut off cleanly at the end of a file cannot be told from what was
never written: the repository that the events are delivered to keeps the count.
"""

import hashlib
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harmoni.audit.event import AuditEvent
from harmoni.backends.filesystem import File, Filesystem
from harmoni.model.errors import Damaged, HarmoniError, InvalidInput, OutOfResources, StorageFailed
from harmoni.model.identifiers import WriterId

FOLDER: Final = "audit"
VERSION: Final = 1
"""Of the file. Frozen."""
MAGIC: Final = b"HZSPOOL%d" % VERSION
SALT_BYTES: Final = 32
KEY_BYTES: Final = 32
MAX_EVENT_BYTES: Final = 16 << 20
"""The longest event, encoded: 200,000 study UIDs of the longest kind."""

_HEAD: Final = struct.Struct(">IQ32s")  # length of the ciphertext, sequence, previous hash
_HEADER_BYTES: Final = len(MAGIC) + SALT_BYTES
_TAG_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_RESUME_RECORDS: Final = 16  # how many following numbers are looked for beyond a broken length


class Spool:
    """The spool of one writer since its start. Any thread may append.

    Build it with `create`. An event is durable only after the `flush` that follows its `append`:
    whoever must not go on without it calls both; flushes that find nothing new cost nothing.
    """

    def __init__(self, file: File, cipher: AESGCM, header: bytes) -> None:
        self._file = file
        self._cipher = cipher
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._previous = hashlib.sha256(header).digest()
        self._sequence = 0
        self._end = len(header)
        self._durable = 0
        self._fenced = False
        self._unflushable = False

    @classmethod
    def create(
        cls, filesystem: Filesystem, *, writer: WriterId, started_ms: int, key: bytes, salt: bytes
    ) -> Self:
        """Create the file `audit/<writer>-<start>.spool`; its name and header are durable.

        Args:
            filesystem: rooted at the role's data directory.
            writer: who appends; never two processes with one name.
            started_ms: when the writer started, in milliseconds since 1970.
            key: 32 bytes, the role's audit key.
            salt: 32 random bytes, new for each file; the file's own key hangs on them.

        Raises:
            AlreadyHeld: that writer has a spool of that start.
            StorageFailed, OutOfResources: the file cannot be made durable.
        """
        name = f"{FOLDER}/{writer}-{started_ms}.spool"
        header = MAGIC + salt
        cipher = _cipher(key, header, name)
        filesystem.make_directory(FOLDER)
        file = filesystem.create(name)
        try:
            file.write([header], 0)
            file.sync()
            filesystem.sync_directory(FOLDER)
        except (StorageFailed, OutOfResources):
            file.close()
            # Whoever tries again on a full disk must not leave a file each time.
            with suppress(HarmoniError):
                filesystem.remove(name)
            raise
        return cls(file, cipher, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fenced(self) -> bool:
        """Whether a write or a flush failed: then it takes nothing any more."""
        return self._fenced

    @property
    def name(self) -> str:
        """The file's name below the data directory."""
        return self._file.name

    def append(self, event: AuditEvent) -> int:
        """Write one event; it is durable after the next `flush`.

        Returns:
            The record's sequence number, counted from 0.

        Raises:
            InvalidInput: the event is longer than MAX_EVENT_BYTES; nothing was written.
            StorageFailed, OutOfResources: the write failed, now or before; the spool is fenced and
                the caller must stop what it cannot audit.
        """
        plaintext = event.encode()
        if len(plaintext) > MAX_EVENT_BYTES:
            raise InvalidInput(
                f"an audit event of {len(plaintext)} bytes exceeds {MAX_EVENT_BYTES}; "
                "write several events"
            )
        with self._lock:
            self._require_sound()
            sequence = self._sequence
            head = _HEAD.pack(len(plaintext) + _TAG_BYTES, sequence, self._previous)
            ciphertext = self._cipher.encrypt(_nonce(sequence), plaintext, head)
            try:
                self._end += self._file.write([head, ciphertext], self._end)
            except (StorageFailed, OutOfResources):
                # A part may stand in the file. Writing this number again would use its nonce twice.
                self._fenced = True
                raise
            self._previous = hashlib.sha256(head + ciphertext).digest()
            self._sequence += 1
            return sequence

    def flush(self) -> None:
        """Make every event appended so far durable.

        Raises:
            StorageFailed: it failed, now or before; the spool is fenced.
        """
        with self._flush_lock:
            with self._lock:
                self._require_sound()
            self._sync()

    def close(self) -> None:
        """Make what was appended durable, also where a later write failed; then close the file.

        Raises:
            StorageFailed: it is not; each close says so.
        """
        try:
            with self._flush_lock:
                self._sync()
        finally:
            self._file.close()

    def _sync(self) -> None:
        with self._lock:
            written = self._sequence
        if written == self._durable:
            return
        if self._unflushable:
            # The kernel may have dropped what it could not write: flushing again settles nothing.
            raise StorageFailed(
                f"the last {written - self._durable} events of the audit spool {self.name} may be "
                "lost: a flush failed before; check the disk"
            )
        try:
            self._file.sync()
        except (StorageFailed, OutOfResources):
            with self._lock:
                self._fenced = self._unflushable = True
            raise
        self._durable = written

    def _require_sound(self) -> None:
        if self._fenced:
            raise StorageFailed(
                f"the audit spool {self.name} failed before and is closed for good; "
                "check the disk; what comes next goes to a new spool"
            )


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it stands in a spool."""

    sequence: int
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Findings:
    """What `verify` found in one spool."""

    records: int
    """Records that are whole and authentic."""
    torn_bytes: int
    """Bytes at the end that are no whole record: a write that a crash interrupted."""
    problems: tuple[str, ...]
    """A sentence for each gap, swap or change."""


def names(filesystem: Filesystem) -> list[str]:
    """The spools below a data directory, sorted."""
    return [f"{FOLDER}/{name}" for name in filesystem.names(FOLDER) if name.endswith(".spool")]


def next_start_ms(filesystem: Filesystem, writer: WriterId, now_ms: int) -> int:
    """When the next spool of a writer starts: now, and later than each one before it.

    The clock may have been set back since; the order of a writer's spools is that of their names.
    """
    begins = f"{FOLDER}/{writer}-"
    starts = [
        name.removeprefix(begins).removesuffix(".spool")
        for name in names(filesystem)
        if name.startswith(begins)
    ]
    return max([now_ms, *(int(start) + 1 for start in starts if start.isdecimal())])


def read(filesystem: Filesystem, name: str, key: bytes) -> Iterator[Entry]:
    """The events of a spool in order; a torn tail ends it quietly, `verify` reports it.

    Raises:
        NotHeld: there is no such spool.
        Damaged: at the first record that is not what was written; those before it were yielded.
    """
    for found in _walk(filesystem, name, key):
        match found:
            case Entry():
                yield found
            case str():
                raise Damaged(f"{found}; fetch the events from the audit record repository")
            case int():
                return


def verify(filesystem: Filesystem, name: str, key: bytes) -> Findings:
    """Check every record of a spool and name all that is wrong.

    Raises:
        NotHeld: there is no such spool.
    """
    records = torn_bytes = 0
    problems: list[str] = []
    for found in _walk(filesystem, name, key):
        match found:
            case Entry():
                records += 1
            case str():
                problems.append(found)
            case int():
                torn_bytes = found
    return Findings(records, torn_bytes, tuple(problems))


def _walk(filesystem: Filesystem, name: str, key: bytes) -> Iterator[Entry | str | int]:
    """Entries, problems (a text) and at last the length of a torn tail (a number)."""
    with filesystem.open(name) as file:
        end = file.size_bytes()
        if end < _HEADER_BYTES:
            yield end
            return
        header = file.read(0, _HEADER_BYTES)
        if not header.startswith(MAGIC):
            yield f"{name} does not begin like an audit spool of version {VERSION}"
            return
        cipher = _cipher(key, header, name)
        expected, previous, offset = 0, hashlib.sha256(header).digest(), _HEADER_BYTES
        while offset < end:
            record = _record(file, offset, end)
            if record is None:
                resumed = _resume(file, cipher, expected, offset + 1, end)
                if resumed is None:
                    yield end - offset
                    return
                yield f"{name}: record {expected} at byte {offset} has a broken length"
                offset, expected = resumed
                previous = b""
                continue
            sequence = _sequence(record)
            event = _open(cipher, record)
            if not isinstance(event, AuditEvent):
                yield f"{name}: record {expected} at byte {offset} {_why_unread(event)}"
                previous = b""
            elif sequence != expected:
                yield f"{name}: record {sequence} stands where {expected} is due"
                yield Entry(sequence, event)
            elif previous and _previous(record) != previous:
                yield f"{name}: record {sequence} does not follow the one before it"
                yield Entry(sequence, event)
            else:
                yield Entry(sequence, event)
            if event is not None:
                expected = sequence
                previous = hashlib.sha256(record).digest()
            expected += 1
            offset += len(record)


def _record(file: File, offset: int, end: int) -> bytes | None:
    """The whole record at an offset, or None when its length cannot be right."""
    if end - offset < _HEAD.size + _TAG_BYTES:
        return None
    head = file.read(offset, _HEAD.size)
    length: int = _HEAD.unpack(head)[0]
    if not _TAG_BYTES < length <= MAX_EVENT_BYTES + _TAG_BYTES:
        return None
    if offset + _HEAD.size + length > end:
        return None
    return head + file.read(offset + _HEAD.size, length)


def _resume(
    file: File, cipher: AESGCM, broken: int, offset: int, end: int
) -> tuple[int, int] | None:
    """Where the next authentic record after a broken length begins, and its number."""
    window = file.read(offset, min(end - offset, MAX_EVENT_BYTES + 2 * _HEAD.size))
    for sequence in range(broken + 1, broken + 1 + _RESUME_RECORDS):
        mark = struct.pack(">Q", sequence)
        found = window.find(mark, 4)
        while found >= 0:
            start = offset + found - 4
            record = _record(file, start, end)
            if record is not None and _open(cipher, record) is not None:
                return start, sequence
            found = window.find(mark, found + 1)
    return None


def _open(cipher: AESGCM, record: bytes) -> AuditEvent | Damaged | None:
    """The event; None if it was altered; why not, if it is authentic and not known here."""
    head = record[: _HEAD.size]
    try:
        plaintext = cipher.decrypt(_nonce(_sequence(record)), record[_HEAD.size :], head)
    except InvalidTag:
        return None
    try:
        return AuditEvent.decode(plaintext)
    except Damaged as error:
        return error


def _why_unread(error: Damaged | None) -> str:
    return "was altered" if error is None else f"is authentic and not known here: {error}"


def _sequence(record: bytes) -> int:
    sequence: int = _HEAD.unpack_from(record)[1]
    return sequence


def _previous(record: bytes) -> bytes:
    previous: bytes = _HEAD.unpack_from(record)[2]
    return previous


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(_NONCE_BYTES, "big")


def _cipher(key: bytes, header: bytes, name: str) -> AESGCM:
    """The cipher of one file: its key hangs on the salt and the name, so none is used twice."""
    if len(key) != KEY_BYTES or len(header) != _HEADER_BYTES:
        raise InvalidInput(
            f"an audit spool needs a key of {KEY_BYTES} and a salt of {SALT_BYTES} bytes"
        )
    derivation = HKDF(
        algorithm=SHA256(),
        length=KEY_BYTES,
        salt=header[len(MAGIC) :],
        info=b"harmoni audit spool %d " % VERSION + name.encode(),
    )
    return AESGCM(derivation.derive(key))
