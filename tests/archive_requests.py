"""What pynetdicom asks of the running archive, and what it takes."""

import uuid

from pynetdicom import build_role, evt
from pynetdicom import sop_class as sop

from archive_role import dataset

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = sop.CTImageStorage
STUDY_GET = sop.StudyRootQueryRetrieveInformationModelGet


def uid():
    return f"2.25.{uuid.uuid4().int}"


def image(*, study, series, instance, number=1, patient="P1", name="Doe^Jane"):
    made = dataset(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=CT,
        SOPInstanceUID=instance,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        PatientID=patient,
        PatientName=name,
        StudyDate="20260302",
        StudyTime="101500",
        AccessionNumber=patient,
        Modality="CT",
        SeriesNumber=1,
        InstanceNumber=number,
        BitsAllocated=16,
    )
    made.add_new(0x7FE00010, "OW", bytes([number]) * 100_001 + b"\0")
    made.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    made.file_meta.MediaStorageSOPClassUID = CT
    made.file_meta.MediaStorageSOPInstanceUID = instance
    return made


class Receiver:
    """Keeps what arrives by C-STORE, its bytes as they came."""

    def __init__(self):
        self.received = {}
        self.originators = set()
        self.handlers = [(evt.EVT_C_STORE, self.take)]

    def take(self, event):
        request = event.request
        self.received[str(request.AffectedSOPInstanceUID)] = (
            event.context.transfer_syntax,
            request.DataSet.getvalue(),
        )
        self.originators.add(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return 0x0000


def get(role, hospital, model, contexts, **keys):
    receiver = Receiver()
    classes = dict.fromkeys(abstract for abstract, _ in contexts)
    with role.associated(
        hospital,
        [(model, [IMPLICIT]), *contexts],
        roles=[build_role(abstract, scp_role=True) for abstract in classes],
        handlers=receiver.handlers,
    ) as association:
        *_, (final, _) = association.send_c_get(dataset(**keys), model)
    return final, receiver.received
