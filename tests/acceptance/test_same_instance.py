"""Four senders that push the same SOP Instance UID at the same moment, into two workers.

The same bytes are found once, other bytes are kept as versions; whatever was acknowledged is given
back, and it is given back as one of those that were sent.
"""

import hashlib
import threading
from collections import Counter

import pytest
from pynetdicom import build_role, evt

from archive_role import dataset
from good_neighbour import uid
from wire import (
    CT,
    CT_ID,
    EXPLICIT,
    FIND,
    GET,
    IMPLICIT,
    Wire,
    data_set,
    element,
    store_command,
    values,
)

pytestmark = pytest.mark.usefixtures("neighbour")
SENDERS = 4
ROUNDS = 10


def push_at_once(door, instance, versions):
    """Each sender pushes its version in every round; how many were acknowledged."""
    together = threading.Barrier(SENDERS)
    statuses, errors = Counter(), []

    def push(data):
        try:
            with Wire(door) as wire:
                wire.associate()
                for _ in range(ROUNDS):
                    together.wait(30)
                    wire.send(values(CT_ID, store_command(instance), data))
                    statuses[wire.hear_status()] += 1
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            together.abort()
            errors.append(error)

    threads = [threading.Thread(target=push, args=(data,)) for data in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    return statuses


def given_back(door, study):
    received = []

    def take(event):
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    with door.associated(
        [(CT, [EXPLICIT]), (GET, [IMPLICIT]), (FIND, [IMPLICIT])],
        roles=[build_role(CT, scu_role=True, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
        *_, (final, _) = association.send_c_get(asked, GET)
        assert final.Status == 0x0000
        asked.QueryRetrieveLevel = "IMAGE"
        asked.SeriesInstanceUID = "2.25.2"
        asked.SOPInstanceUID = ""
        *matches, (final, _) = association.send_c_find(asked, FIND)
        assert final.Status == 0x0000
    assert len(matches) == 1, "a query counts instances, not versions"
    return received


@pytest.mark.parametrize("kinds", [1, SENDERS], ids=["the same bytes", "other bytes"])
def test_the_same_instance_from_four_senders_at_once(door, kinds):
    instance, study = uid(), uid()
    different = [
        data_set(instance, study=study, filler=30_000)
        + element(0x7FE1, 0x1010, b"LO", b"%d" % number)
        for number in range(kinds)
    ]
    pushed = [different[number % kinds] for number in range(SENDERS)]
    assert push_at_once(door, instance, pushed) == {0x0000: SENDERS * ROUNDS}
    [given] = given_back(door, study)
    assert given in different
    held = [each.identity.sha256 for each in door.versions(instance)]
    assert set(held) == {hashlib.sha256(data).digest() for data in different}
    # Those of the first round may leave a copy each, which is found once; no later one adds any.
    assert len(held) <= SENDERS
