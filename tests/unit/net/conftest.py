"""Pairs of connected sockets."""

import socket

import pytest


@pytest.fixture
def pair():
    """Two ends of a connection that no network touches."""
    with_peer = socket.socketpair()
    yield with_peer
    for end in with_peer:
        end.close()


@pytest.fixture
def tcp_pair():
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    yield ours, theirs
    ours.close()
    theirs.close()
