"""An association that stays open while something bad happens beside it, and must not notice."""

import uuid
from contextlib import contextmanager

import psutil
from pynetdicom import build_role, evt
from pynetdicom import sop_class as sop

from archive_role import dataset
from wire import CT, EXPLICIT, GET, HOSPITAL, IMPLICIT


def uid():
    return f"2.25.{uuid.uuid4().int}"


def keep(association, instance, study):
    image = dataset(
        SOPClassUID=CT, SOPInstanceUID=instance, StudyInstanceUID=study, SeriesInstanceUID=uid()
    )
    image.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    assert association.send_c_store(image).Status == 0x0000


@contextmanager
def good_neighbour(role):
    """Store, let something bad happen, and see that nothing else changed."""
    before = role.process.pids()
    assert len(before) == 4, "supervisor, two workers, keeper"
    starts = {pid: psutil.Process(pid).create_time() for pid in before}
    study, received = uid(), []
    instances = [uid(), uid()]

    def take(event):
        received.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with role.associated(
        HOSPITAL,
        [(sop.Verification, [IMPLICIT]), (CT, [EXPLICIT]), (GET, [IMPLICIT])],
        roles=[build_role(CT, scu_role=True, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        keep(association, instances[0], study)
        yield
        assert association.send_c_echo().Status == 0x0000
        keep(association, instances[1], study)
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
        *_, (final, _) = association.send_c_get(asked, GET)
        assert final.Status == 0x0000
    assert sorted(received) == sorted(instances)
    assert role.process.pids() == before
    assert {pid: psutil.Process(pid).create_time() for pid in before} == starts
