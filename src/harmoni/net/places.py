"""How many associations each address has, over all processes that accept for it.

The supervisor makes one table in memory and hands it down by number. Each worker owns a column of
it, which it clears when it starts: so what a worker that died had counted is gone with its
successor's first act. A row belongs to an address as long as any column of it counts.

    row     SHA-256 of the address, 16 bytes | one count of two bytes for each of 64 workers
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

MOST_WORKERS: Final = 64
_ROWS: Final = 8192
_DIGEST_BYTES: Final = 16
_COUNTS: Final = struct.Struct(f"<{MOST_WORKERS}H")
_ROW_BYTES: Final = _DIGEST_BYTES + _COUNTS.size


class Places(Protocol):
    """Counts connections by address."""

    def take(self, address: str) -> int:
        """Count one more; give how many the address has now, this one included."""
        ...

    def give_back(self, address: str) -> None:
        """Count one less."""
        ...


class OwnPlaces:
    """Counts for one process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def take(self, address: str) -> int:
        """Count one more."""
        with self._lock:
            self._counts[address] += 1
            return self._counts[address]

    def give_back(self, address: str) -> None:
        """Count one less."""
        with self._lock:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]


def create_table() -> int:
    """Make an empty table; give its descriptor, to be inherited by executed workers."""
    descriptor = os.memfd_create("harmoni-places", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _ROWS * _ROW_BYTES)
    return descriptor


class SharedPlaces:
    """Counts for one worker in the table of all.

    Args:
        descriptor: of the table, inherited.
        worker: this worker's column, 0 to 63; no two live workers may have the same.
    """

    def __init__(self, descriptor: int, worker: int) -> None:
        self._descriptor = descriptor
        self._worker = worker
        self._lock = threading.Lock()
        self._table = mmap.mmap(descriptor, _ROWS * _ROW_BYTES)
        with self._locked():
            for row in range(_ROWS):
                if any(self._digest(row)):
                    self._set(row, 0)

    def take(self, address: str) -> int:
        """Count one more.

        With more addresses at once than the table has rows, which no limit of ours lets come
        about, an address counts as new.
        """
        digest = _digest(address)
        with self._locked():
            row = self._find(digest)
            if row is None:
                return 1
            start = row * _ROW_BYTES
            self._table[start : start + _DIGEST_BYTES] = digest
            self._set(row, self._counts(row)[self._worker] + 1)
            return sum(self._counts(row))

    def give_back(self, address: str) -> None:
        """Count one less."""
        digest = _digest(address)
        with self._locked():
            row = self._find(digest)
            if row is not None and self._digest(row) == digest:
                self._set(row, max(0, self._counts(row)[self._worker] - 1))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads and processes; a lock between processes ends with its process."""
        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _find(self, digest: bytes) -> int | None:
        """The row of an address, or else the first one that is free for it."""
        first = int.from_bytes(digest[:4], "big") % _ROWS
        free = None
        for step in range(_ROWS):
            row = (first + step) % _ROWS
            found = self._digest(row)
            if found == digest:
                return row
            if free is None and not any(self._counts(row)):
                free = row
            if not any(found):
                # Never used: the address has no row beyond this one.
                break
        return free

    def _digest(self, row: int) -> bytes:
        start = row * _ROW_BYTES
        return self._table[start : start + _DIGEST_BYTES]

    def _counts(self, row: int) -> tuple[int, ...]:
        counts: tuple[int, ...] = _COUNTS.unpack_from(self._table, row * _ROW_BYTES + _DIGEST_BYTES)
        return counts

    def _set(self, row: int, count: int) -> None:
        struct.pack_into(
            "<H", self._table, row * _ROW_BYTES + _DIGEST_BYTES + 2 * self._worker, count
        )


def _digest(address: str) -> bytes:
    return hashlib.sha256(address.encode()).digest()[:_DIGEST_BYTES]
