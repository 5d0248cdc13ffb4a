import socket
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.net import tls
from harmoni.net.transport import Transport, TransportFailed, _joined
from harmoni.runtime.clock import SystemClock


def transport(connection, *, stall_s=30.0):
    return Transport(connection, clock=SystemClock(), stall_s=stall_s)


class Reader(threading.Thread):
    """Reads until the end, in the background."""

    def __init__(self, connection):
        super().__init__(daemon=True)
        self.connection = connection
        self.data = bytearray()
        self.start()

    def run(self):
        while chunk := self.connection.recv(100_000):
            self.data += chunk

    def result(self):
        self.join(10)
        return bytes(self.data)


def test_a_read_gives_what_is_there(pair):
    ours, theirs = pair
    theirs.sendall(b"hello")
    memory = bytearray(10)
    assert transport(ours).read_into(memoryview(memory), 1.0) == 5
    assert memory[:5] == b"hello"


def test_a_read_without_bytes_ends_after_its_wait(pair):
    end = transport(pair[0])
    assert end.read_into(memoryview(bytearray(10)), 0.01) is None
    assert not end.ended


def test_a_read_that_only_looks_does_not_wait(pair):
    assert transport(pair[0]).read_into(memoryview(bytearray(10)), 0.0) is None


def test_the_peers_end_is_no_failure(pair):
    ours, theirs = pair
    theirs.close()
    end = transport(ours)
    assert end.read_into(memoryview(bytearray(10)), 1.0) == 0
    assert (end.ended, end.failure) == (True, "")


def test_a_reset_connection_is_a_failure_with_a_reason(tcp_pair):
    ours, theirs = tcp_pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    theirs.close()
    end = transport(ours)
    assert end.read_into(memoryview(bytearray(10)), 1.0) == 0
    assert end.failure == "Connection reset by peer"


def test_thousands_of_buffers_arrive_in_order(pair):
    ours, theirs = pair
    reader = Reader(theirs)
    buffers = [b"%d," % number for number in range(3000)] + [b"", b"end"]
    end = transport(ours)
    end.write(buffers)
    end.close()
    assert reader.result() == b"".join(buffers)
    assert end.bytes_sent == len(b"".join(buffers))


def test_buffers_larger_than_the_sockets_memory_arrive_whole(pair):
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    reader = Reader(theirs)
    buffers = [bytes([number]) * 300_001 for number in range(5)]
    end = transport(ours)
    end.write(buffers)
    end.close()
    assert reader.result() == b"".join(buffers)


def test_a_peer_that_takes_nothing_is_given_up(pair):
    with pytest.raises(TransportFailed, match=r"took no bytes for 0\.05 s") as failed:
        transport(pair[0], stall_s=0.05).write([bytes(10_000_000)])
    assert failed.value.stalled


def test_a_peer_that_is_gone_is_a_failure(pair):
    ours, theirs = pair
    theirs.close()
    with pytest.raises(TransportFailed, match="Broken pipe") as failed:
        transport(ours).write([b"x"])
    assert not failed.value.stalled


def test_input_is_seen_without_reading_it(pair):
    ours, theirs = pair
    end = transport(ours)
    assert not end.is_readable()
    theirs.sendall(b"x")
    assert end.is_readable()


def test_the_end_counts_as_input(pair):
    ours, theirs = pair
    theirs.close()
    assert transport(ours).is_readable()


def test_another_thread_can_end_a_wait(pair):
    end = transport(pair[0])
    timer = threading.Timer(0.02, end.interrupt)
    timer.start()
    assert end.read_into(memoryview(bytearray(10)), 1.0) == 0
    timer.join()


def test_small_answers_leave_at_once(tcp_pair):
    ours, _ = tcp_pair
    transport(ours)
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_QUICKACK is Linux's")
def test_acknowledgements_are_not_delayed_after_a_read(tcp_pair):
    ours, theirs = tcp_pair
    end = transport(ours)
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    theirs.sendall(b"x")
    end.read_into(memoryview(bytearray(10)), 1.0)
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


@pytest.fixture
def tls_pair(tls_material, pair):
    """A server's and a client's end, after the handshake."""
    ours, theirs = pair
    secured = []

    def accept():
        secured.append(tls.server_context(tls_material.server).wrap_socket(ours, server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    context = tls.client_context(tls_material.client, check_hostname=False)
    theirs = context.wrap_socket(theirs, server_hostname="localhost")
    thread.join()
    yield secured[0], theirs
    secured[0].close()
    theirs.close()


def test_buffers_over_tls_arrive_in_order(tls_pair):
    ours, theirs = tls_pair
    reader = Reader(theirs)
    buffers = [b"%d," % number for number in range(2000)] + [bytes(1_000_000), b"", b"end"]
    end = transport(ours)
    end.write(buffers)
    ours.close()
    assert reader.result() == b"".join(buffers)


def test_bytes_that_openssl_holds_already_are_input(tls_pair):
    ours, theirs = tls_pair
    end = transport(ours)
    theirs.sendall(b"abcdef")
    assert end.read_into(memoryview(bytearray(2)), 1.0) == 2
    assert ours.pending() == 4
    assert end.is_readable()


def test_several_tls_records_are_read_at_once(tls_pair):
    ours, theirs = tls_pair
    theirs.sendall(bytes(range(256)) * 256)
    memory = bytearray(200_000)
    assert transport(ours).read_into(memoryview(memory), 1.0) == 65_536
    assert memory[:65_536] == bytes(range(256)) * 256


def test_a_tls_peer_that_takes_nothing_is_given_up(tls_pair):
    ours, _ = tls_pair
    with pytest.raises(TransportFailed) as failed:
        transport(ours, stall_s=0.05).write([bytes(10_000_000)])
    assert failed.value.stalled


def test_tls_ends_with_a_farewell_of_both(tls_pair):
    ours, theirs = tls_pair
    farewell = []

    def answer():
        farewell.append(theirs.recv(1))
        theirs.unwrap()

    thread = threading.Thread(target=answer)
    thread.start()
    transport(ours).close()
    thread.join(10)
    assert farewell == [b""]


def test_what_came_before_a_tls_connection_broke_is_read(tls_pair):
    ours, theirs = tls_pair
    theirs.sendall(b"the last words")
    socket.socket.send(theirs, b"this is no TLS record at all")
    memory = memoryview(bytearray(1 << 16))
    end = transport(ours)
    assert end.read_into(memory, 1.0) == len(b"the last words")
    assert end.read_into(memory, 1.0) == 0
    assert end.ended
    assert end.failure.startswith("TLS: ")


def test_garbage_instead_of_a_record_is_a_failure_with_a_reason(tls_pair):
    ours, theirs = tls_pair
    socket.socket.send(theirs, b"this is no TLS record at all")
    end = transport(ours)
    assert end.read_into(memoryview(bytearray(100)), 1.0) == 0
    assert end.failure.startswith("TLS: ")


@given(st.lists(st.integers(0, 400_000), max_size=5))
def test_joined_pieces_are_the_same_bytes_in_order(sizes):
    buffers = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    pieces = _joined(buffers)
    assert b"".join(pieces) == b"".join(buffers)
    assert all(0 < len(piece) <= 256 * 1024 for piece in pieces)
    assert len(pieces) == -(-sum(sizes) // (256 * 1024))
