"""The demo's ports are different, free, and stay what they were."""

import json
import socket
from pathlib import Path

import pytest

from harmoni.backends.filesystem import Filesystem
from harmoni.demo import ports
from harmoni.model.errors import ConfigurationError


def test_ports_are_different_and_remembered(tmp_path):
    store = Filesystem(tmp_path)
    first = ports.settle(store, ours=["a", "b"], peers=["p"])
    assert len(set(first.values())) == 3
    assert ports.settle(store, ours=["a", "b"], peers=["p"]) == first


def test_ports_are_none_that_the_system_gives_to_somebody_else(tmp_path):
    """A connection that got a peer's port would keep the peer from listening there."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    first, last = map(int, text.split())
    settled = ports.settle(Filesystem(tmp_path), ours=["a", "b"], peers=["p", "q"])
    assert [port for port in settled.values() if first <= port <= last] == []


def test_a_port_of_ours_that_is_taken_is_given_up_and_a_peers_is_not(tmp_path):
    store = Filesystem(tmp_path)
    with socket.socket() as ours, socket.socket() as theirs:
        for taken in (ours, theirs):
            taken.bind((ports.HOST, 0))
            taken.listen()
        remembered = {"a": ours.getsockname()[1], "p": theirs.getsockname()[1]}
        store.publish(ports.FILE, json.dumps(remembered).encode())
        settled = ports.settle(store, ours=["a"], peers=["p"])
    assert settled["a"] != remembered["a"]
    assert settled["p"] == remembered["p"]


def test_a_broken_memory_is_named(tmp_path):
    store = Filesystem(tmp_path)
    store.publish(ports.FILE, b"{")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        ports.settle(store, ours=["a"], peers=[])
