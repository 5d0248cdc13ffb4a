"""Where the bytes of a data set go when they do not go into the store."""

from typing import Final

from harmoni.dicom.events import DataSink
from harmoni.model.errors import HarmoniError, InvalidInput

_SCRATCH_BYTES: Final = 64 * 1024


class GuardedSink:
    """Keeps an error of the sink for later and goes on without it, to the end of the data set."""

    def __init__(self, sink: DataSink) -> None:
        self.error: HarmoniError | None = None
        self._sink = sink

    def reserve(self, wanted: int) -> memoryview:
        """Offer memory (`DataSink`)."""
        try:
            return self._sink.reserve(wanted)
        except HarmoniError as error:
            self._give_up(error)
            return self._sink.reserve(wanted)

    def commit(self, count: int) -> None:
        """Take bytes (`DataSink`)."""
        try:
            self._sink.commit(count)
        except HarmoniError as error:
            self._give_up(error)

    def _give_up(self, error: HarmoniError) -> None:
        self.error = error
        self._sink = Discarding()


class Discarding:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))

    def reserve(self, wanted: int) -> memoryview:
        """Offer memory (`DataSink`)."""
        return self._scratch[:wanted]

    def commit(self, count: int) -> None:
        """Forget the bytes."""


class Gathering:
    """A sink that keeps everything, up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.data = bytearray()
        self._limit_bytes = limit_bytes
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))

    def reserve(self, wanted: int) -> memoryview:
        """Offer memory (`DataSink`)."""
        return self._scratch[:wanted]

    def commit(self, count: int) -> None:
        """Take bytes (`DataSink`).

        Raises:
            InvalidInput: there are more than the limit.
        """
        if len(self.data) + count > self._limit_bytes:
            raise InvalidInput(
                f"a data set of more than {self._limit_bytes} bytes: no request needs so much; "
                "ask for less at a time"
            )
        self.data += self._scratch[:count]
