"""A hospital's TLS for tools that have none: plain TCP on loopback in, mutual TLS out."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536


@contextmanager
def proxy(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Forward every connection to a port, with a client's context; gives the plain port."""
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, port, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, port: int, context: ssl.SSLContext) -> None:
    forwards: list[threading.Thread] = []
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            break
        forwards.append(threading.Thread(target=_forward, args=(plain, port, context), daemon=True))
        forwards[-1].start()
    for thread in forwards:
        thread.join()


def _forward(plain: socket.socket, port: int, context: ssl.SSLContext) -> None:
    with plain, context.wrap_socket(socket.create_connection((HOST, port))) as secured:
        back = threading.Thread(target=_copy, args=(secured, plain), daemon=True)
        back.start()
        _copy(plain, secured)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until the source ends, then tell the sink so."""
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
    with suppress(OSError):
        # Not the method of an SSLSocket, which would forget the TLS state under the other thread.
        socket.socket.shutdown(sink, socket.SHUT_WR)
