import socket
import struct
import threading
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from harmoni.net import http
from harmoni.net.http import Health, MonitoringServer


@pytest.fixture
def served():
    state = {"health": Health(healthy=True, text="2 of 2 workers")}
    server = MonitoringServer(
        "127.0.0.1", 0, health=lambda: state["health"], render=lambda: b"harmoni_x_total 1.0\n"
    )
    yield server, state
    server.close()


def get(server, path):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def test_a_healthy_process_answers_200(served):
    server, _ = served
    assert get(server, "/healthz") == (200, "text/plain; charset=utf-8", b"2 of 2 workers\n")


def test_an_unhealthy_process_answers_503_and_says_why(served):
    server, state = served
    state["health"] = Health(healthy=False, text="disk full")
    status, _, body = get(server, "/healthz?verbose")
    assert (status, body) == (503, b"disk full\n")


def test_metrics_are_prometheus_text(served):
    server, _ = served
    status, content_type, body = get(server, "/metrics")
    assert (status, body) == (200, b"harmoni_x_total 1.0\n")
    assert content_type.startswith("text/plain; version=0.0.4")


def test_nothing_else_is_there(served):
    server, _ = served
    assert get(server, "/etc/passwd")[0] == 404


def test_a_silent_client_does_not_keep_others_out(served):
    server, _ = served
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/healthz")[0] == 200


def serving():
    return [each for each in threading.enumerate() if "process_request" in each.name]


def test_any_number_of_silent_clients_holds_few_threads_and_keeps_nobody_out(served):
    server, _ = served
    with ExitStack() as stack:
        for _ in range(10 * http.MOST_CLIENTS):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            assert get(server, "/healthz")[0] == 200
        # Those who were shown out end soon; there is nothing else to wait for.
        while len(serving()) > http.MOST_CLIENTS:
            pass


def test_a_client_that_goes_before_its_answer_leaves_no_trace(served, capfd):
    server, _ = served
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /metrics HT")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert get(server, "/healthz")[0] == 200
    server.close()
    assert capfd.readouterr() == ("", "")
