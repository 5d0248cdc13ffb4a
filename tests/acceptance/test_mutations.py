"""Good messages of every service with some bytes wrong: they end nothing but their association."""

import os
import random
from collections import Counter
from itertools import islice

import psutil

from harmoni.dicom import pdu
from mutations import mutated
from wire import Wire, messages, request, values

# How many at each port; `make soak` has the time for more.
MUTATIONS = int(os.environ.get("HARMONI_MUTATIONS", "300"))


def hostile(door, source):
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


def outcome(said):
    """What the last PDU of an answer was."""
    last, at = "closed", 0
    while len(said) - at >= pdu.HEADER.size:
        kind, length = pdu.HEADER.unpack_from(said, at)
        last = pdu.PduType(kind).name
        at += pdu.HEADER.size + length
    return last


def largest_mib(door):
    """The memory of the process that has most."""
    return max(psutil.Process(pid).memory_info().rss for pid in door.process.pids()) >> 20


def test_mutated_pdus_end_nothing_but_their_own_association(door, neighbour):
    source, outcomes, before = random.Random(20_260_302), Counter(), largest_mib(door)
    for number, (data, associated) in enumerate(islice(hostile(door, source), MUTATIONS)):
        if number % 100 == 0:
            assert neighbour.send_c_echo().Status == 0x0000
        with Wire(door) as wire:
            if associated:
                wire.associate()
            wire.send(data)
            outcomes[outcome(wire.end())] += 1
    failed = [line for line in door.log().splitlines() if "association failed" in line]
    assert failed == []
    # The good neighbour looks at the rest: the same processes, within their memory.
    print(  # noqa: T201 - the measured figure
        f"{door.called}: {MUTATIONS} mutations, last heard: {dict(outcomes.most_common())}; "
        f"largest process {before} MiB before, {largest_mib(door)} MiB after"
    )
