"""`/healthz` and `/metrics` of one process, for the machine's own monitoring.

It listens where the role says, usually on loopback, knows two paths and no patient data.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from harmoni.runtime import metrics

# A client that says nothing holds a thread no longer than this.
_TIMEOUT_S: Final = 5.0
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

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
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
