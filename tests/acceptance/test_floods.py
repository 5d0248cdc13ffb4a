"""More connections than anybody has places for, and probes that never say a word.

The floods come from an address of their own: one address cannot take the places of another.
"""

import errno
import socket
import struct
import threading
from contextlib import ExitStack, suppress

import pytest

from archive_role import ARTIM_S
from centre import until
from good_neighbour import sockets
from harmoni.dicom import pdu
from wire import ECHO, ECHO_ID, PATIENCE_S, Wire, request, values

pytestmark = pytest.mark.usefixtures("neighbour")
ELSEWHERE = "127.0.0.2"
PROBES = 300
# Three times what both workers together hold, those who are only told to come back included.
FLOOD = 400
LATER = (2, 3, 2)


def assert_served(door):
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(ECHO_ID, ECHO))
        assert wire.hear_status() == 0x0000


def knocking(door):
    """A connection without a word; None where the queue of the kernel is full for a moment."""
    try:
        return door.knock(ELSEWHERE)
    except OSError as error:
        if error.errno not in {errno.ECONNRESET, errno.ETIMEDOUT}:
            raise
        return None


@pytest.mark.parametrize("how", ["closed", "reset", "closed within TLS"])
def test_probes_that_connect_and_go_leave_nothing_behind(door, how):
    """Load balancers do so every few seconds, for years."""
    for number in range(PROBES):
        if how == "closed within TLS":
            if number % 10 == 0:  # costs a handshake each
                door.connect(ELSEWHERE).close()
            continue
        with door.knock(ELSEWHERE) as probe:
            if how == "reset":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_served(door)


def test_a_flood_of_silent_connections_keeps_no_other_address_out(door):
    held = sockets(door.process.pids())
    with ExitStack() as stack:
        for _ in range(FLOOD):
            if (connection := knocking(door)) is not None:
                stack.enter_context(connection)
        assert_served(door)
        most = 2 * (door.limits.associations_per_worker + 32)
        assert sockets(door.process.pids()) - held <= most
        assert_served(door)


def test_associations_beyond_the_limit_are_told_to_come_later_and_places_come_back(door):
    """Those who have a place keep it."""
    places = door.limits.associations_per_address
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(door, ELSEWHERE)) for _ in range(places)]
        for wire in wires:
            wire.associate()
        for _ in range(10):
            with Wire(door, ELSEWHERE) as surplus:
                surplus.send(pdu.encode(request(door)))
                answer = surplus.hear()
                assert (answer.result, answer.source, answer.reason) == LATER
        for wire in wires:
            wire.send(values(ECHO_ID, ECHO))
            assert wire.hear_status() == 0x0000
        assert_served(door)
    until(lambda: is_let_in(door), "the places of those who left are free again")


def is_let_in(door):
    with Wire(door, ELSEWHERE) as wire:
        wire.send(pdu.encode(request(door)))
        return isinstance(wire.hear(), pdu.AssociateAC)


def test_many_who_connect_at_once_are_each_answered_or_turned_away(door):
    """A storm: every one of them asks, hears something or is closed, and comes again."""
    assert ARTIM_S < PATIENCE_S
    heard = []

    def ask():
        for _ in range(5):
            with suppress(OSError), Wire(door, ELSEWHERE) as wire:
                wire.send(pdu.encode(request(door)))
                heard.append(type(wire.hear()))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    assert_served(door)
    for thread in threads:
        thread.join(4 * PATIENCE_S)
        assert not thread.is_alive()
    assert set(heard) <= {pdu.AssociateAC, pdu.AssociateRJ, type(None)}
    assert pdu.AssociateAC in heard
