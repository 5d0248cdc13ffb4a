"""A line with a delay, for bench only: passes TCP on, every byte so much later, at any rate.

    python bench/delaying_proxy.py DESCRIPTOR PORT DELAY_S

Accepts on an inherited listening socket and connects to a port of loopback, in its own network
namespace. A connection costs a round trip before its first byte, as on a line. What is under way
is kept in memory, a second of a gigabit line at most; then the sender waits. Runs until SIGTERM.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Final

HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 1 << 18
_MOST_CHUNKS: Final = 512


@contextmanager
def running(listener: socket.socket, port: int, delay_s: float) -> Iterator[None]:
    """Run it as a process of its own for the length of a with block.

    Args:
        listener: where it is connected to; it stays the caller's.
        port: of loopback, where it connects to.
        delay_s: each way.
    """
    number = listener.fileno()
    command = [sys.executable, str(Path(__file__)), str(number), str(port), str(delay_s)]
    with Popen(command, pass_fds=[number]) as process:
        try:
            yield
        finally:
            process.terminate()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass one direction on until its end, in order."""
    now = asyncio.get_running_loop().time
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)

    async def arrive() -> None:
        while True:
            due_s, chunk = await underway.get()
            await asyncio.sleep(due_s - now())
            if not chunk:
                sink.write_eof()
                return
            sink.write(chunk)
            await sink.drain()

    async def depart() -> None:
        chunk = b"?"
        while chunk:
            chunk = await source.read(_CHUNK_BYTES)
            await underway.put((now() + delay_s, chunk))

    await asyncio.gather(arrive(), depart())


async def _serve(listener: socket.socket, port: int, delay_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay_s)
        with suppress(OSError):  # one of the two went away: the other learns of it by the close
            far_reader, far_writer = await asyncio.open_connection(HOST, port, limit=_CHUNK_BYTES)
            for each in (writer, far_writer):
                end = each.get_extra_info("socket")
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await asyncio.gather(
                    _carry(reader, far_writer, delay_s), _carry(far_reader, writer, delay_s)
                )
            finally:
                far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, sock=listener, limit=_CHUNK_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    descriptor, to_port, each_way_s = sys.argv[1:]
    asyncio.run(_serve(socket.socket(fileno=int(descriptor)), int(to_port), float(each_way_s)))
