"""From bytes to PDUs, command sets and data sets (PS3.8 9.3, Annex E), as they arrive.

`Reception` owns the memory that the shell reads into. In the middle of a data fragment that is the
sink's own memory, so a stored object is copied nowhere; everything else goes through 64 KiB of
scratch. Every length is compared with its limit before memory is taken, and whatever is wrong
with a PDU, its length still says where the next one begins.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import Enum
from typing import Final

from harmoni.dicom.events import DataSink, Limits
from harmoni.dicom.pdu import (
    COMMAND_FRAGMENT,
    HEADER,
    LAST_FRAGMENT,
    PDV_HEADER,
    AbortReason,
    PduType,
)
from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

SCRATCH_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReceivedPdu:
    """A whole control PDU, not yet decoded."""

    pdu_type: int
    body: bytearray


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A whole command set, not yet decoded; `Reception.expect_data_set` may follow."""

    context_id: int
    data: bytearray


@dataclass(frozen=True, slots=True)
class ReceivedDataSet:
    """The sink has every byte of a data set."""

    context_id: int


class _Body(Enum):
    """What becomes of the rest of the current PDU."""

    SKIPPED = "skipped"
    GATHERED = "gathered"
    DATA = "data"


class Reception:
    """The receiving half of an association.

    Args:
        limits: what the peer may cost.
        admit: is asked at every PDU header with type and length: True to take the PDU, False to
            skip it. What it raises passes through `next_part`, and the PDU is skipped.
    """

    def __init__(self, limits: Limits, admit: Callable[[int, int], bool]) -> None:
        self.context_ids: Container[int] = ()
        self._limits = limits
        self._admit = admit
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._start = 0
        self._end = 0
        # The current PDU.
        self._body = _Body.SKIPPED
        self._pdu_type = 0
        self._pdu_left = 0
        self._gathered = bytearray()
        # The current fragment; it is open until its end was looked at.
        self._in_fragment = False
        self._fragment_left = 0
        self._is_last = False
        # The current message; context 0 means that none has begun.
        self._context_id = 0
        self._command = bytearray()
        self._data_set_expected = False
        self._data_set_begun = False
        self._sink: DataSink | None = None
        self._lent: memoryview | None = None
        self._empty_fragments = 0

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._context_id != 0

    @property
    def paused(self) -> bool:
        """Whether a data set waits for `attach`."""
        return self._data_set_expected and self._sink is None

    def buffer(self) -> memoryview:
        """Memory for the shell's next read; `received` says how much of it was filled.

        Raises:
            LocalProtocolError: a data set waits for its sink.
            Exception: what the sink raises, as it is.
        """
        if self.paused:
            raise LocalProtocolError("a data set waits for its sink: call receive_data_set first")
        if not self._data_set_begun or self._sink is None:
            return self._view[self._end :]
        if not self._in_fragment:
            return self._view[self._end : self._start + self._next_headers_bytes()]
        wanted = self._fragment_left
        if not self._is_last:
            # The headers of the next fragment come with the same read and are taken out again.
            wanted += self._next_headers_bytes()
        self._lent = self._sink.reserve(wanted)[:wanted]
        if not self._lent:
            raise LocalProtocolError("the data sink reserved no memory")
        return self._lent

    def _next_headers_bytes(self) -> int:
        if self._pdu_left > self._fragment_left:
            return PDV_HEADER.size
        return HEADER.size + PDV_HEADER.size

    def received(self, count: int) -> None:
        """Take `count` bytes that the shell wrote into `buffer`; `next_part` looks at them.

        Raises:
            Exception: what the sink raises, as it is; nothing is lost for a new sink.
        """
        if self._lent is None or self._sink is None:
            self._end += count
            return
        lent, self._lent = self._lent, None
        data_bytes = min(count, self._fragment_left)
        surplus = lent[data_bytes:count]
        self._view[: len(surplus)] = surplus
        self._start, self._end = 0, len(surplus)
        self._fragment_left -= data_bytes
        self._pdu_left -= data_bytes
        self._sink.commit(data_bytes)

    def expect_data_set(self) -> None:
        """Say that a data set follows the command just received; parsing pauses for `attach`."""
        self._data_set_expected = True

    def attach(self, sink: DataSink) -> None:
        """Say where the current data set goes, or where its rest goes.

        Raises:
            LocalProtocolError: no data set is expected.
        """
        if not self._data_set_expected:
            raise LocalProtocolError("no data set is expected: it follows CommandReceived")
        self._sink = sink
        self._lent = None

    def forget_message(self) -> None:
        """Skip the rest of the current PDU and message; the association is over."""
        self._body = _Body.SKIPPED
        self._gathered = bytearray()
        self._in_fragment = False
        self._fragment_left = 0
        self._lent = None
        self._end_message()

    def next_part(self) -> ReceivedPdu | ReceivedCommand | ReceivedDataSet | None:
        """Go on until something is complete; None if that takes more bytes, or a sink.

        Raises:
            RemoteProtocolError: the peer broke PS3.8; the rest of that PDU will be skipped.
            Exception: what `admit` or the sink raises, as it is.
        """
        while not self.paused:
            if self._in_fragment:
                if self._fragment_left and not self._take_fragment():
                    break
                if not self._fragment_left and (part := self._end_fragment()) is not None:
                    return part
            elif self._body is _Body.GATHERED:
                self._gathered += self._consume(self._pdu_left)
                if self._pdu_left:
                    break
                self._body = _Body.SKIPPED
                body, self._gathered = self._gathered, bytearray()
                return ReceivedPdu(self._pdu_type, body)
            elif self._pdu_left and self._body is _Body.SKIPPED:
                self._consume(self._pdu_left)
                if self._pdu_left:
                    break
            elif not (self._begin_value() if self._pdu_left else self._begin_pdu()):
                break
        self._compact()
        return None

    def _consume(self, limit: int) -> memoryview:
        """Take up to `limit` bytes of the current PDU out of scratch."""
        count = min(limit, self._end - self._start)
        data = self._view[self._start : self._start + count]
        self._start += count
        self._pdu_left -= count
        return data

    def _compact(self) -> None:
        """Move what is left, part of a header, to the front of scratch."""
        if self._start and not self.paused:
            rest = bytes(self._view[self._start : self._end])
            self._scratch[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _begin_pdu(self) -> bool:
        """Look at a PDU header; False if it is not there yet."""
        if self._end - self._start < HEADER.size:
            return False
        self._pdu_type, length = HEADER.unpack_from(self._scratch, self._start)
        self._start += HEADER.size
        self._pdu_left = length
        self._body = _Body.SKIPPED
        if self._admit(self._pdu_type, length):
            is_data = self._pdu_type == PduType.DATA_TF
            self._body = _Body.DATA if is_data else _Body.GATHERED
        return True

    def _begin_value(self) -> bool:
        """Look at the header of a presentation data value; False if it is not there yet."""
        if self._pdu_left < PDV_HEADER.size:
            raise self._broken("a presentation data value is cut short")
        if self._end - self._start < PDV_HEADER.size:
            return False
        length, context_id, control = PDV_HEADER.unpack_from(self._scratch, self._start)
        self._start += PDV_HEADER.size
        self._pdu_left -= PDV_HEADER.size
        size = length - 2
        if not 0 <= size <= self._pdu_left:
            raise self._broken(f"a presentation data value of {length} bytes")
        is_command = bool(control & COMMAND_FRAGMENT)
        self._check_value(context_id, size, is_command=is_command)
        self._context_id = context_id
        self._data_set_begun = not is_command
        self._is_last = bool(control & LAST_FRAGMENT)
        self._in_fragment = True
        self._fragment_left = size
        return True

    def _check_value(self, context_id: int, size: int, *, is_command: bool) -> None:
        """Hold a fragment against its message: nothing interleaves, nothing grows unbounded."""
        if context_id not in self.context_ids:
            raise self._broken(f"data in presentation context {context_id}, which was not accepted")
        if self._context_id not in (0, context_id):
            raise self._broken(
                f"context {context_id} within a message of context {self._context_id}",
                AbortReason.UNEXPECTED_PARAMETER,
            )
        if is_command is self._data_set_expected:
            raise self._broken(
                "a command before the end of a data set"
                if is_command
                else "a data set without a command that announces it",
                AbortReason.UNEXPECTED_PARAMETER,
            )
        if is_command and len(self._command) + size > self._limits.max_command_bytes:
            raise self._broken(f"a command set above {self._limits.max_command_bytes} bytes")
        if size == 0:
            self._empty_fragments += 1
            if self._empty_fragments > self._limits.max_empty_fragments:
                raise self._broken(f"more than {self._limits.max_empty_fragments} empty fragments")

    def _broken(
        self, message: str, reason: AbortReason = AbortReason.INVALID_VALUE
    ) -> RemoteProtocolError:
        self.forget_message()
        return RemoteProtocolError(f"malformed P-DATA-TF: {message}", reason)

    def _take_fragment(self) -> bool:
        """Move bytes of the current fragment out of scratch; False if there are none."""
        count = min(self._fragment_left, self._end - self._start)
        if count == 0:
            return False
        sink = self._sink
        if sink is None:
            self._command += self._consume(count)
            self._fragment_left -= count
            return True
        memory = sink.reserve(count)
        count = min(count, len(memory))
        if count == 0:
            raise LocalProtocolError("the data sink reserved no memory")
        memory[:count] = self._consume(count)
        self._fragment_left -= count
        sink.commit(count)
        return True

    def _end_fragment(self) -> ReceivedCommand | ReceivedDataSet | None:
        self._in_fragment = False
        if not self._is_last:
            return None
        context_id = self._context_id
        if self._data_set_expected:
            self._end_message()
            return ReceivedDataSet(context_id)
        command, self._command = self._command, bytearray()
        return ReceivedCommand(context_id, command)

    def end_command(self) -> None:
        """Say that no data set follows the command just received: the message is complete."""
        self._end_message()

    def _end_message(self) -> None:
        self._context_id = 0
        self._command = bytearray()
        self._data_set_expected = False
        self._data_set_begun = False
        self._sink = None
        self._empty_fragments = 0
