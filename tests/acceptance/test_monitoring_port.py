"""The port of health and metrics of both roles, with clients that are none.

It belongs to the keeper, which has more to do; it answers whoever asks properly meanwhile.
"""

import socket
import struct
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from archive_role import HOST
from wire import PATIENCE_S

SILENT = 200
RUBBISH = {
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": bytes.fromhex("160301020001fc0303") + bytes(500),
    "DICOM": bytes.fromhex("0100000000ce0001") + bytes(200),
    "an endless line": b"GET /" + b"a" * 200_000,
    "endless headers": b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    "one endless header": b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    "an absurd length": b"POST /healthz HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a negative length": b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "no method": b"\r\n\r\n",
    "another version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "a path upwards": b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    "NUL": bytes(70_000),
}


@pytest.fixture(autouse=True)
def _log_without_traceback(door, neighbour):
    yield
    assert "Traceback" not in door.log()


def knock(door):
    return socket.create_connection((HOST, door.http_port), timeout=PATIENCE_S)


def assert_answered(door):
    connection = HTTPConnection(HOST, door.http_port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/healthz")
        # 503 where it has something to say: one hospital of the archive is without its keys.
        assert connection.getresponse().status in {200, 503}
    finally:
        connection.close()


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_is_refused_or_closed(door, what):
    with knock(door) as client:
        said = b""
        try:
            client.sendall(RUBBISH[what])
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(4096):
                said += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was told off while it still spoke
    assert b"harmoni" not in said.lower().replace(b"server: harmoni", b"")
    assert b"root:" not in said
    assert_answered(door)


def test_silent_and_slow_clients_keep_nobody_out(door):
    with ExitStack() as stack:
        for number in range(SILENT):
            client = stack.enter_context(knock(door))
            if number % 2:
                client.sendall(b"GET /heal")
            if number % 10 == 0:
                assert_answered(door)
        assert_answered(door)


def test_probes_leave_nothing_behind(door):
    for number in range(SILENT):
        with knock(door) as probe:
            if number % 2:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if number % 3 == 0:
                probe.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert_answered(door)
