"""Relaying: what there is no room for here goes from the centre straight to whoever asked.

Nothing of it is written: a few chunks are in memory, and the centre is read no faster than the
receiver takes it. The last chunk is given when the hash is that of the version that is wanted, so
that a receiver never has a whole wrong object. One association for each instance.
"""

import hashlib
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from harmoni.gateway.catalogue import Listed
from harmoni.gateway.centre import Centre
from harmoni.gateway.fetch import get_all
from harmoni.model.errors import Damaged, HarmoniError, NotHeld, Unreachable
from harmoni.runtime.clock import Clock
from harmoni.services.storage import Incoming

_CHUNK_BYTES: Final = 256 << 10
_CHUNKS: Final = 8
_LOOK_S: Final = 1.0

_Passed = memoryview | HarmoniError | None
"""A chunk, why there is no other, or the end."""


def relay(wanted: Listed, centre: Centre, clock: Clock) -> Iterator[memoryview]:
    """The data set of an instance as the centre sends it now; it is kept nowhere.

    Raises:
        NotHeld: the centre did not send it.
        Damaged: what it sent is not the version that is wanted; in place of the last chunk.
        Unreachable: the centre is away, or went away.
    """
    passing = _Passing(wanted)

    def run() -> None:
        error: HarmoniError | None = None
        with suppress(_NobodyWaits):
            try:
                get_all(centre, [wanted.pair], [wanted], passing, clock)
            except HarmoniError as failure:
                error = failure
            passing.end(error)

    threading.Thread(target=run, name="relay", daemon=True).start()
    try:
        yield from passing.chunks()
    finally:
        passing.ended.set()


class _NobodyWaits(Exception):
    """The receiver has gone, or could not be given more."""


class _Passing:
    """What comes on one side and goes on the other (services.storage.StoreHandler, Incoming)."""

    def __init__(self, wanted: Listed) -> None:
        self.ended = threading.Event()
        self._wanted = wanted
        self._queue: queue.Queue[_Passed] = queue.Queue(_CHUNKS)
        self._hash = hashlib.sha256()
        self._chunk = bytearray()
        self._filled = 0
        self._finished = False
        self._error: HarmoniError | None = None

    def begin(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Incoming:
        """Prepare for the instance."""
        wanted = self._wanted
        if (
            self._filled
            or self._finished
            or (
                (sop_class_uid, transfer_syntax_uid, sop_instance_uid)
                != (*wanted.pair, wanted.sop_instance_uid)
            )
        ):
            raise NotHeld("the centre sends something else than was asked for")
        return self

    def reserve(self, wanted: int) -> memoryview:
        """Memory for the next bytes."""
        if self._filled == len(self._chunk):
            # A full one is given on when it is known not to be the last.
            self._put_chunk()
            self._chunk = bytearray(_CHUNK_BYTES)
        return memoryview(self._chunk)[self._filled : self._filled + wanted]

    def commit(self, count: int) -> None:
        """Take the first `count` bytes of it."""
        self._hash.update(memoryview(self._chunk)[self._filled : self._filled + count])
        self._filled += count

    def finish(self) -> None:
        """Give the last chunk, if all of it is what is wanted."""
        if self._wanted.sha256 not in (None, self._hash.digest()):
            self._error = Damaged("what the centre sent has another hash than it told")
            raise self._error
        self._put_chunk()
        self._finished = True

    def abandon(self) -> None:
        """It will not be complete: `end` says why."""

    def end(self, error: HarmoniError | None) -> None:
        """The association is over."""
        if self._finished:
            self._put(None)
        elif self._error is not None:
            self._put(self._error)
        elif error is not None:
            self._put(Unreachable(f"it could not be relayed from the centre: {error}"))
        else:
            self._put(NotHeld("the centre did not send it; look at its log"))

    def chunks(self) -> Iterator[memoryview]:
        """What has come, chunk by chunk, to its end."""
        while (passed := self._queue.get()) is not None:
            if isinstance(passed, HarmoniError):
                raise passed
            yield passed

    def _put_chunk(self) -> None:
        if self._filled:
            self._put(memoryview(self._chunk)[: self._filled])
            self._filled = 0

    def _put(self, passed: _Passed) -> None:
        while not self.ended.is_set():
            try:
                self._queue.put(passed, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
        raise _NobodyWaits
