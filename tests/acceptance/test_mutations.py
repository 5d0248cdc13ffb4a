"""Good messages of every service with some bytes wrong: they end nothing but their association."""

import os
import random
from itertools import islice

import pytest

from good_neighbour import good_neighbour
from harmoni.dicom import pdu
from wire import Wire, messages, request, values

# `make soak` has the time to look deeper.
MUTATIONS = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 300


@pytest.fixture(autouse=True)
def _good_neighbour(door):
    with good_neighbour(door):
        yield


def mutated(raw, source):
    """Some bytes changed, removed, repeated or added."""
    data = bytearray(raw)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + source.randint(1, 32)]
            case _:
                data[at:at] = source.randbytes(source.randint(1, 8))
        data = data or bytearray(1)
    return bytes(data)


def mutations(door, source):
    """Endless: what to send, and whether an association is to stand before it."""
    good = messages()
    while True:
        context, command, data = source.choice(good)
        match source.randrange(4):
            case 0:
                yield mutated(pdu.encode(request(door)), source), False
            case 1:
                yield mutated(values(context, command, data), source), True
            case 2 if data is not None:
                yield values(context, command, mutated(data, source)), True
            case 3:
                release = mutated(pdu.encode(pdu.ReleaseRQ()), source)
                yield values(context, command, data) + release, True


def test_mutated_pdus_end_nothing_but_their_own_association(door):
    source = random.Random(20_260_302)
    for data, associated in islice(mutations(door, source), MUTATIONS):
        with Wire(door) as wire:
            if associated:
                wire.associate()
            wire.send(data)
            wire.end()
    failed = [line for line in door.log().splitlines() if "association failed" in line]
    assert failed == []
