"""One TCP connection, plain or TLS, as an association needs it: waits that end, writes that gather.

`TCP_NODELAY` always: an answer must not wait for the peer's delayed acknowledgement. On Linux
`TCP_QUICKACK` is re-armed after each read, since the kernel takes it back: a sender with Nagle's
algorithm on (many modalities) holds the end of an object until we acknowledge its beginning, which
costs 40 ms per object otherwise (22 against 1,600 small objects a second, measured).
"""

import select
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from harmoni.runtime.clock import Clock

Buffer = bytes | bytearray | memoryview
_Argument = TypeVar("_Argument")

TICK_S: Final = 1.0
"""The longest single wait in the kernel; deadlines and requests to end are looked at in between."""

_SHORTEST_WAIT_S: Final = 0.001  # a socket timeout of 0 would mean non-blocking
_NEARLY: Final = 0.9
_MAX_BUFFERS: Final = 1024  # IOV_MAX on Linux
_TLS_WRITE_BYTES: Final = 256 * 1024
_TLS_RECORD_BYTES: Final = 16 * 1024
# How long a peer may take to agree to the end of the TLS connection.
_FAREWELL_S: Final = 1.0
_LAST_READS: Final = 16
_LAST_READ_BYTES: Final = 4096
# Absent on systems other than Linux.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class TransportFailed(Exception):
    """The connection broke, or (`stalled`) the peer took no bytes for too long."""

    def __init__(self, why: str, *, stalled: bool = False) -> None:
        super().__init__(why)
        self.stalled = stalled


class Transport:
    """One connection; used by the one thread of its association.

    Args:
        connection: connected; an `ssl.SSLSocket` whose handshake is over, or a plain one. It
            belongs to the transport from here on.
        clock: monotonic time.
        stall_s: how long a peer may take none of our bytes.
    """

    def __init__(self, connection: socket.socket, *, clock: Clock, stall_s: float) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.ended = False
        """Nothing more can be read: the peer closed, or the connection broke."""
        self.failure = ""
        """Why the connection broke; empty after an orderly end."""
        self._connection = connection
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self._clock = clock
        self._stall_s = stall_s
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._is_tcp = connection.family in {socket.AF_INET, socket.AF_INET6}
        if self._is_tcp:
            with suppress(OSError):  # the peer may be gone already; the first read will tell
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout_s = TICK_S
        connection.settimeout(TICK_S)
        self._acknowledge_quickly()

    def read_into(self, memory: memoryview, wait_s: float) -> int | None:
        """Read what is there, waiting for the first byte.

        Args:
            memory: at least one byte; it need not be filled.
            wait_s: how long to wait, at most `TICK_S`.

        Returns:
            How many bytes; 0 when the connection ended (see `failure`); None if none came in time.
        """
        self._limit_waits(wait_s)
        try:
            count = self._connection.recv_into(memory)
            if self._tls is not None:
                count = self._read_on(memory, count)
        except TimeoutError:
            return None
        except OSError as error:  # ssl.SSLError is one
            self.failure = describe(error)
            count = 0
        if count == 0:
            self.ended = True
        else:
            self.bytes_received += count
            self._acknowledge_quickly()
        return count

    def _read_on(self, memory: memoryview, count: int) -> int:
        """Read further TLS records that are here already.

        OpenSSL gives at most one record of 16 KiB per call, while a fragment has 128 KiB; each
        return to the association costs more than a look at the socket.
        """
        last = count
        while last and len(memory) - count >= _TLS_RECORD_BYTES and self.is_readable():
            try:
                last = self._connection.recv_into(memory[count:])
            except TimeoutError:
                break  # the rest of a record is still on its way
            except OSError as error:
                # The next read ends; what came before it broke must not be lost.
                self.failure = describe(error)
                break
            count += last
        return count

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all of the buffers, in as few system calls as there can be.

        Raises:
            TransportFailed: the connection broke, or the peer took nothing for `stall_s`; how
                much it got is not known.
        """
        self._limit_waits(min(TICK_S, self._stall_s))
        try:
            if self._tls is None:
                self._write_gathered(list(buffers))
            else:
                for piece in _joined(buffers):
                    self._write_whole(piece)
        except OSError as error:
            self.failure = describe(error)
            raise TransportFailed(self.failure) from error

    def _write_gathered(self, buffers: list[Buffer]) -> None:
        first = 0
        while first < len(buffers):
            batch = buffers[first : first + _MAX_BUFFERS]
            sent = self._patiently(self._connection.sendmsg, batch)
            self.bytes_sent += sent
            while first < len(buffers) and sent >= len(buffers[first]):
                sent -= len(buffers[first])
                first += 1
            if sent:
                buffers[first] = memoryview(buffers[first])[sent:]

    def _write_whole(self, piece: Buffer) -> None:
        rest = memoryview(piece)
        while rest:
            # After a timeout OpenSSL must be given the very same bytes again; rest has not moved.
            sent = self._patiently(self._connection.send, rest)
            self.bytes_sent += sent
            rest = rest[sent:]

    def _patiently(self, act: Callable[[_Argument], int], argument: _Argument) -> int:
        until_s = self._clock.monotonic_s() + self._stall_s
        while True:
            try:
                return act(argument)
            except TimeoutError:
                if self._clock.monotonic_s() >= until_s:
                    self.failure = f"the peer took no bytes for {self._stall_s:g} s"
                    raise TransportFailed(self.failure, stalled=True) from None

    def is_readable(self) -> bool:
        """Whether a read would give something now: bytes, or the end."""
        if self._tls is not None and self._tls.pending():
            return True
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """End the connection: TLS first if it still stands, then TCP; never raises."""
        if self._tls is not None and not self.failure:
            self._limit_waits(_FAREWELL_S)
            # ValueError: the drain of a server shut the connection at the same moment.
            with suppress(OSError, ValueError):
                self._tls.unwrap()
        self._connection.close()

    def interrupt(self) -> None:
        """Let every wait of the owning thread end now; the one method for other threads."""
        with suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def _limit_waits(self, wait_s: float) -> None:
        # Each change costs a system call, so what is nearly the same wait stays the same.
        timeout_s = max(_SHORTEST_WAIT_S, wait_s)
        if not self._timeout_s * _NEARLY <= timeout_s <= self._timeout_s:
            self._connection.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _acknowledge_quickly(self) -> None:
        if self._is_tcp and _QUICKACK is not None:
            with suppress(OSError):
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def linger(connection: socket.socket) -> None:
    """Let the peer read our last words, such as a TLS alert; the caller then closes.

    To close while bytes of the peer lie unread resets the connection, and the peer would learn
    nothing of why. It gets 16 reads of 4 KiB, and a second for each.
    """
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.settimeout(_FAREWELL_S)
        for _ in range(_LAST_READS):
            if not socket.socket.recv(connection, _LAST_READ_BYTES):
                return


def _joined(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Join buffers into pieces of at most 256 KiB: TLS cannot gather, and a write is a record."""
    pieces: list[Buffer] = []
    batch: list[Buffer] = []
    room = _TLS_WRITE_BYTES
    for buffer in buffers:
        rest = memoryview(buffer)
        while rest:
            part = rest[:room]
            batch.append(part)
            room -= len(part)
            rest = rest[len(part) :]
            if room == 0:
                pieces.append(b"".join(batch))
                batch, room = [], _TLS_WRITE_BYTES
    if batch:
        pieces.append(batch[0] if len(batch) == 1 else b"".join(batch))
    return pieces


def describe(error: OSError) -> str:
    """Say in a few words what was wrong with a connection, for logs and other errors' texts."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate verify failed, {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return error.strerror or type(error).__name__
