"""An association that stays open while something bad happens beside it, and must not notice."""

import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pynetdicom import build_role, evt
from pynetdicom import sop_class as sop

from archive_role import dataset
from centre import until
from wire import CT, EXPLICIT, GET, IMPLICIT

# A process of a role has 80 to 90 MiB when it is young, and P11 grants a worker 150.
MOST_BYTES = 150 << 20
# What a process may open meanwhile and keep: the index of a hospital has 6, each open pack 1 or 2.
# How many it has already depends on what others have done with the same role.
MORE_FILES = 40
# A gateway's own associations to the centre come and go.
OUR_SOCKETS = 5


def uid():
    return f"2.25.{uuid.uuid4().int}"


def keep(association, instance, study):
    image = dataset(
        SOPClassUID=CT, SOPInstanceUID=instance, StudyInstanceUID=study, SeriesInstanceUID=uid()
    )
    image.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    assert association.send_c_store(image).Status == 0x0000


def alive(door):
    """The processes of a role, and when each was started."""
    return {pid: psutil.Process(pid).create_time() for pid in door.process.pids()}


def sockets(pids):
    """How many connections, and other sockets, some processes have open together."""
    count = 0
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                count += str(entry.readlink()).startswith("socket:")
    return count


@contextmanager
def good_neighbour(door):
    """Store, let something bad happen, and see that nothing else changed; gives the association."""
    before = alive(door)
    assert len(before) == door.processes
    connected = sockets(before)
    files = {pid: psutil.Process(pid).num_fds() for pid in before}
    study, received = uid(), []
    instances = [uid(), uid()]

    def take(event):
        received.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with door.associated(
        [(sop.Verification, [IMPLICIT]), (CT, [EXPLICIT]), (GET, [IMPLICIT])],
        roles=[build_role(CT, scu_role=True, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        keep(association, instances[0], study)
        yield association
        assert association.send_c_echo().Status == 0x0000
        keep(association, instances[1], study)
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
        *_, (final, _) = association.send_c_get(asked, GET)
        assert final.Status == 0x0000
    assert sorted(received) == sorted(instances)
    assert alive(door) == before
    until(lambda: sockets(before) <= connected + OUR_SOCKETS, "every connection is closed again")
    for process in map(psutil.Process, before):
        assert process.num_fds() < files[process.pid] + MORE_FILES
        assert process.memory_info().rss < MOST_BYTES
