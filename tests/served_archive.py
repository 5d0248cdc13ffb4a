"""The services on a real loopback server, with the archive in a dictionary behind them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from harmoni.dicom import uids
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.presentation import negotiate
from harmoni.net.driver import Channel
from harmoni.net.server import Accepted
from harmoni.policy.access import Right
from harmoni.runtime.clock import Clock, SystemClock
from harmoni.services import acceptance, provider
from loopback import Served, serving
from memory_archive import MemoryArchive, Stored

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
JPEG = "1.2.840.10008.1.2.4.50"
ALL_RIGHTS = frozenset(Right)
TICK_S = 0.02


def instance(number: int, *, study: str = "1.2.3", size: int = 100, **changes: str) -> Stored:
    """A small instance; instances of one study share patient and series."""
    facts = {"sop_class_uid": CT, "transfer_syntax_uid": IMPLICIT, **changes}
    dataset = Dataset()
    dataset.SOPClassUID = facts["sop_class_uid"]
    dataset.SOPInstanceUID = f"{study}.1.{number}"
    dataset.StudyDate = "20260102"
    dataset.Modality = "CT"
    dataset.PatientName = "DOE^JANE"
    dataset.PatientID = f"P{study}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.1"
    dataset.InstanceNumber = str(number)
    dataset.add_new(0x7FE0_0010, "OW", bytes(range(256)) * (size // 256 + 1))
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    syntax = uids.storage_transfer_syntax(facts["transfer_syntax_uid"])
    buffer.is_implicit_VR = not syntax.explicit_vr
    write_dataset(buffer, dataset)
    return Stored(sop_instance_uid=dataset.SOPInstanceUID, data=buffer.getvalue(), **facts)


def contexts(*pairs: tuple[str, Sequence[str]]) -> tuple[ProposedContext, ...]:
    """Proposed contexts with the ids 1, 3, 5, ..."""
    return tuple(
        ProposedContext(2 * index + 1, abstract, tuple(syntaxes))
        for index, (abstract, syntaxes) in enumerate(pairs)
    )


def receiver(*sop_classes: str) -> tuple[RoleSelection, ...]:
    """Roles of a C-GET requester, which is SCP of these classes."""
    return tuple(RoleSelection(sop_class_uid=uid, scu=False, scp=True) for uid in sop_classes)


@contextmanager
def served(
    archive: MemoryArchive,
    *,
    rights: frozenset[Right] = ALL_RIGHTS,
    preferred: dict[str, list[str]] | None = None,
    may_browse: bool = True,
    max_answers: int = 1000,
    serve: Callable[[Channel], None] | None = None,
    clock: Clock | None = None,
) -> Iterator[Served]:
    """Serve an archive for the length of the block; `serve` replaces the provider's loop."""
    offer = acceptance.offer(rights, lambda sop_class: (preferred or {}).get(sop_class, ()))

    def provide(channel: Channel) -> None:
        handlers = archive.handlers(may_browse=may_browse, max_answers=max_answers)
        provider.serve(channel, handlers, clock=clock or SystemClock(), tick_s=TICK_S)

    with serving(
        decide=lambda request, _: Accepted(negotiated=negotiate(request, offer), token=None),
        serve=serve or provide,
    ) as running:
        yield running
