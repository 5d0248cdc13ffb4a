"""An association that stays open while something bad happens beside it, and must not notice."""

import uuid
from collections import Counter
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
# What a process may open meanwhile and keep: a pack for each study that is stored or read. An index
# is opened when its hospital is first served, which is whoever's turn it is.
MORE_FILES = 24
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


def opened(pid):
    """What a process has open: each target, and how many times."""
    found = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[str(entry.readlink())] += 1
    return found


def sockets(pids):
    """How many connections, and other sockets, some processes have open together."""
    return sum(
        count
        for pid in pids
        for target, count in opened(pid).items()
        if target.startswith("socket:")
    )


@contextmanager
def good_neighbour(door):
    """Store, let something bad happen, and see that nothing else changed; gives the association."""
    before = alive(door)
    assert len(before) == door.processes
    connected = sockets(before)
    files = {pid: opened(pid) for pid in before}
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
        more = opened(process.pid) - files[process.pid]
        others = {target: count for target, count in more.items() if "/index/" not in target}
        assert sum(others.values()) < MORE_FILES, others
        assert process.memory_info().rss < MOST_BYTES
