"""The memory in which small instances wait for their end: one fixed pool per worker.

The pool is the budget. When it is empty, an instance goes to disk, encrypted, as it arrives.
"""

import threading
from typing import Final

CHUNK_BYTES: Final = 256 * 1024
"""Two P-DATA PDUs of the usual length; chunks are reused, so their pages stay warm."""


class ChunkPool:
    """Chunks of 256 KiB, handed out and taken back.

    Args:
        budget_bytes: how much memory all chunks together may take.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._left = budget_bytes // CHUNK_BYTES
        self._idle: list[bytearray] = []
        self._lock = threading.Lock()

    def take(self) -> bytearray | None:
        """A chunk with old content in it, or None when the budget is used up."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._left == 0:
                return None
            self._left -= 1
        return bytearray(CHUNK_BYTES)

    def give_back(self, chunks: list[bytearray]) -> None:
        """Return chunks that nobody reads or writes any more."""
        with self._lock:
            self._idle.extend(chunks)
