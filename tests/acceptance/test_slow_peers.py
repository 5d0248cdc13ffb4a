"""Peers that say nothing, or hardly anything: they hold up nobody, and no longer than they may.

Each kind waits for the same limits, so all of them come at the same time.
"""

import threading
from contextlib import ExitStack, suppress

import pytest

from archive_role import ARTIM_S, HANDSHAKE_S
from good_neighbour import uid
from harmoni.dicom import pdu
from wire import (
    CT_ID,
    ECHO,
    ECHO_ID,
    FRAGMENT_BYTES,
    PATIENCE_S,
    Wire,
    data_set,
    request,
    store_command,
    values,
)

# Served one after the other, they would take longer than anybody waits.

pytestmark = pytest.mark.usefixtures("neighbour")
SILENT = 10
DROP_S = 0.05
DROPS = 20
# The beginning of a TLS record with a ClientHello, which is also no PDU.
CLIENT_HELLO = bytes.fromhex("160301020001fc0303") + bytes(500)


def over(connection):
    """Wait until the other side has ended a connection; whether it said anything but farewell."""
    with suppress(ConnectionResetError), connection:
        while heard := connection.recv(4096):
            assert heard[0] in {0x07, 0x15}, "nothing but an A-ABORT or a TLS alert"


def test_silent_and_slow_peers_hold_up_nobody_and_are_gone_in_time(door):
    assert max(ARTIM_S, HANDSHAKE_S) < PATIENCE_S < SILENT * min(ARTIM_S, HANDSHAKE_S)
    with ExitStack() as stack:
        silent = [stack.enter_context(door.knock()) for _ in range(SILENT)]
        silent_wires = [stack.enter_context(Wire(door)) for _ in range(SILENT)]
        slow_hello = stack.enter_context(door.knock())
        slow_request = stack.enter_context(Wire(door))
        dripping = [
            threading.Thread(target=drip, args=(slow_request.send, pdu.encode(request(door)))),
            threading.Thread(target=drip, args=(slow_hello.sendall, CLIENT_HELLO)),
        ]
        for thread in dripping:
            thread.start()
        assert_served(door)
        for connection in (*silent, slow_hello):
            over(connection)
        for wire in (*silent_wires, slow_request):
            answer = wire.hear()
            assert answer is None or isinstance(answer, pdu.Abort)
        for thread in dripping:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_a_message_that_comes_drop_by_drop_holds_up_nobody_and_arrives(door):
    """Each byte is activity: a slow line is no crime, within the limit of places."""
    named = uid()
    with Wire(door) as command, Wire(door) as image:
        command.associate()
        image.associate()
        echo = values(ECHO_ID, ECHO)
        store = values(CT_ID, store_command(named), data_set(named, filler=4 * FRAGMENT_BYTES))
        middle = len(store) // 2
        command.send(echo[:-DROPS])
        image.send(store[:middle])
        dripping = [
            threading.Thread(target=drip, args=(command.send, echo[-DROPS:])),
            threading.Thread(target=drip, args=(image.send, store[middle:][:DROPS])),
        ]
        for thread in dripping:
            thread.start()
        while any(thread.is_alive() for thread in dripping):
            assert_served(door)
            dripping[-1].join(1)
        for thread in dripping:
            thread.join()
        image.send(store[middle + DROPS :])
        assert command.hear_status() == 0x0000
        assert image.hear_status() == 0x0000, door.log()[-4000:]


def drip(send, data):
    """Send byte by byte, far apart, until the other side has had enough."""
    pause = threading.Event()
    with suppress(OSError):
        for byte in data:
            send(bytes([byte]))
            pause.wait(DROP_S)


def assert_served(door):
    """A new association is served, whatever else is connected."""
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(ECHO_ID, ECHO))
        assert wire.hear_status() == 0x0000
