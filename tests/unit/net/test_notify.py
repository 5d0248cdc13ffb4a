import socket

import pytest

from harmoni.net.notify import Listener, notify


@pytest.fixture
def manager(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(path)
        door.settimeout(5)
        yield door


def test_the_service_manager_hears_the_state(manager):
    assert notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_address_is_understood(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind("")  # Linux chooses an abstract one
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + door.getsockname()[1:].decode())
        assert notify("STOPPING=1")
        assert door.recv(100) == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_a_manager_that_is_gone_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")


def test_a_listener_hears_the_state_that_it_waits_for(monkeypatch):
    with Listener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.environment["NOTIFY_SOCKET"])
        notify("STATUS=warming up")
        notify("STATUS=warm\nREADY=1")
        assert not listener.hears("READY=1", 1)
        assert listener.hears("READY=1", 1)


def test_a_listener_gives_up_when_nothing_comes():
    with Listener() as listener:
        assert not listener.hears("READY=1", 0.001)
