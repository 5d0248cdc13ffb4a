"""`/healthz` and `/metrics` of one process, for the machine's own monitoring.

It listens where the role says, usually on loopback, knows two paths and no patient data. Of many
clients at once those who came first are let go of: an honest one is answered in milliseconds.
"""

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from harmoni.runtime import metrics

# A client that says nothing holds a thread no longer than this.
_TIMEOUT_S: Final = 5.0
MOST_CLIENTS: Final = 16
"""At once; each is a thread and a file number of a process that has more to do."""
_BACKLOG: Final = 512
_Request = socket.socket | tuple[bytes, socket.socket]
# How often http.server looks whether it shall stop; a look costs microseconds.
_STOP_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is.

    Attributes:
        healthy: whether it does its work; if not, the answer is 503.
        text: one line on why.
    """

    healthy: bool
    text: str


class MonitoringServer:
    """Serves the two paths in threads of its own, from construction until `close`.

    Args:
        host: the address to listen at.
        port: the port; 0 lets the system choose one.
        health: asked at every GET of /healthz.
        render: gives the text of /metrics.

    Raises:
        OSError: the address is not ours or is taken.
    """

    def __init__(
        self, host: str, port: int, *, health: Callable[[], Health], render: Callable[[], bytes]
    ) -> None:
        class Handler(_Handler):
            pages = _Pages(health, render)

        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_LOOK_S,), name="monitoring", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening; returns when the last turn is over."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, None] = {}
        super().__init__(address, handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a client; beyond the limit the one that came first is shown out."""
        assert isinstance(request, socket.socket)
        with self._lock:
            self._clients[request] = None
            if len(self._clients) > MOST_CLIENTS:
                first = next(iter(self._clients))
                del self._clients[first]
                with suppress(OSError):
                    first.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        """Close the connection of a client that was served."""
        assert isinstance(request, socket.socket)
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Say nothing of a client that is gone before its answer; that is no event."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@dataclass(frozen=True, slots=True)
class _Pages:
    health: Callable[[], Health]
    render: Callable[[], bytes]

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Give status, content type and body."""
        match path.partition("?")[0]:
            case "/healthz":
                health = self.health()
                status = HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return status, "text/plain; charset=utf-8", f"{health.text}\n".encode()
            case "/metrics":
                return HTTPStatus.OK, metrics.CONTENT_TYPE, self.render()
            case _:
                body = b"/healthz and /metrics are here\n"
                return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", body


class _Handler(BaseHTTPRequestHandler):
    pages: _Pages
    timeout = _TIMEOUT_S
    server_version = "HARMONI"
    sys_version = ""

    def do_GET(self) -> None:
        status, content_type, body = self.pages.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Log nothing: a scrape every few seconds is no event."""
