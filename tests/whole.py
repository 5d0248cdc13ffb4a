"""A whole HARMONI for tests: hospitals with a gateway each, and their archive, all running.

The hospital's side is played in clear text by whoever a test likes; `listening` is a node of
pynetdicom's that keeps what arrives, on the port of a registered peer.
"""

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

import archive_role
import centre as archives
from harmoni import config
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import serve, system
from harmoni.demo.processes import Role
from harmoni.demo.requestor import Requestor, gateway_of
from harmoni.demo.samples import Sample
from harmoni.demo.system import Centre, House, Peer
from harmoni.dicom.identifier import QueryLevel
from harmoni.gateway import operate
from harmoni.gateway.house import House as Gateway
from harmoni.holdings.let_go import Evicted
from harmoni.index import packs
from harmoni.index.packs import PackState
from harmoni.model.identifiers import HospitalId
from harmoni.net import client
from harmoni.runtime.clock import SystemClock
from harmoni.sealing.pack import PackKind

HOST = "127.0.0.1"
SEAL_AFTER_S = 0.5
LET_GO_S = 60.0
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Whole:
    """Everything that runs."""

    centre: Centre
    archive: Role
    gateways: Mapping[HospitalId, Role]

    def house(self, hospital: str = "hospital-a") -> House:
        """One hospital."""
        return next(house for house in self.centre.houses if house.hospital.value == hospital)

    def gateway(self, hospital: str = "hospital-a") -> Role:
        """The processes of its gateway."""
        return self.gateways[HospitalId(hospital)]

    def requestor(self, hospital: str = "hospital-a") -> Requestor:
        """Its PACS, asking the gateway."""
        return Requestor(gateway_of(self.house(hospital)), SystemClock())

    def beside(self, hospital: str = "hospital-a") -> Gateway:
        """Its gateway as an operator's command has it open."""
        house = self.house(hospital)
        return Gateway(house.gateway, house.config_path, "beside", SystemClock())

    @contextmanager
    def _operating(self, hospital: str) -> Iterator[Gateway]:
        """The same for the length of one command, after which no file is open any more."""
        gateway = self.beside(hospital)
        try:
            yield gateway
        finally:
            gateway.own.index.database().close()

    def evict(self, hospital: str = "hospital-a", study: str | None = None) -> list[Evicted]:
        """Let the gateway forget what is safe at the centre."""
        with self._operating(hospital) as gateway:
            return list(operate.evict(gateway, study, lambda *_: None))

    def let_go(self, hospital: str = "hospital-a") -> None:
        """Wait until everything is safe at the centre and the gateway holds no copy of it.

        What came in more than one version stays: only the gateway knows which is given.
        """
        seen: list[list[Evicted]] = []

        def nothing_left() -> bool:
            seen.append(self.evict(hospital))
            return all(
                not each.packs and all("more than one version" in why for why in each.stayed)
                for each in seen[-1]
            )

        archives.until(nothing_left, f"everything let go of; last: {seen[-1:]}", LET_GO_S)

    @property
    def site(self) -> archives.Running:
        """The archive alone, for whoever asks it with a hospital's certificate."""
        return archives.Running(self.centre, self.archive)

    def data(self, hospital: str = "hospital-a") -> Path:
        """The gateway's data directory."""
        return self.house(hospital).gateway.gateway.data

    def packs(self, hospital: str = "hospital-a") -> list[Path]:
        """The files of the gateway's sealed packs of instances."""
        with self._operating(hospital) as gateway, gateway.own.index.reader() as connection:
            sealed = packs.packs_in(connection, PackState.SEALED)
        names = {f"{row.pack_id}.tar" for row in sealed if row.kind is PackKind.INSTANCES}
        return [path for path in self.data(hospital).glob("packs/*/p/*/*") if path.name in names]

    def waiting(self, hospital: str = "hospital-a") -> dict[str, int]:
        """What `harmoni queue list` counts, without what it counts none of."""
        with self._operating(hospital) as gateway:
            by_state = operate.queue(gateway).by_state
        return {state: count for state, count in by_state.items() if count}

    def await_committed(self, hospital: str = "hospital-a", deadline_s: float = 60.0) -> None:
        """Wait until the centre answers for everything, and the keeper has finished every pack."""
        archives.until(
            lambda: (
                not self.waiting(hospital) and not list(self.data(hospital).glob("packs/*/open/*"))
            ),
            "everything is committed and sealed",
            deadline_s,
        )

    def evict_all(self, hospital: str = "hospital-a", deadline_s: float = 30.0) -> None:
        """Evict until nothing stays; what was just sealed stays until it is compared."""
        archives.until(
            lambda: not [why for each in self.evict(hospital) for why in each.stayed],
            "every study can be let go of",
            deadline_s,
        )

    def ask(
        self, level: QueryLevel, keys: Mapping[int, str], hospital: str = "hospital-a"
    ) -> tuple[int, list[dict[int, str]]]:
        """Ask the gateway by C-FIND, study root; the final status and the answers."""
        endpoint = gateway_of(self.house(hospital))
        channel = client.open_association(
            host=endpoint.host,
            port=endpoint.port,
            tls=None,
            called_ae_title=endpoint.ae_title,
            calling_ae_title=endpoint.calling_ae_title,
            contexts=[archives.FIND_CONTEXT],
        )
        try:
            return archives.ask_on(channel, level, keys)
        finally:
            channel.release(10.0)

    def instances(self, study_uid: str, hospital: str = "hospital-a") -> list[str]:
        """The SOP Instance UIDs that the gateway tells of a study made by `write_instances`."""
        status, answers = self.ask(QueryLevel.IMAGE, archives.images_of(study_uid), hospital)
        assert status == 0
        return [answer[0x0008_0018] for answer in answers]

    def rebuild(self, hospital: str = "hospital-a") -> None:
        """`vault rebuild` of the gateway, which must come to an index equal to the live one."""
        house = self.house(hospital)
        archives.rebuild(house.config_path, house)

    def request_commitment(
        self, samples: Sequence[Sample], hospital: str = "hospital-a"
    ) -> tuple[int, str]:
        """Ask the gateway for commitment and leave; the status, and the transaction."""
        wanted = Dataset()
        wanted.TransactionUID = f"2.25.{uuid.uuid4().int}"
        wanted.ReferencedSOPSequence = []
        for sample in samples:
            reference = Dataset()
            reference.ReferencedSOPClassUID = sample.sop_class_uid
            reference.ReferencedSOPInstanceUID = sample.sop_instance_uid
            wanted.ReferencedSOPSequence.append(reference)
        contexts = [(StorageCommitmentPushModel, [ImplicitVRLittleEndian])]
        with self.associated(contexts, hospital=hospital) as association:
            answer, _ = association.send_n_action(
                wanted, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        return answer.Status, wanted.TransactionUID

    def restart(self, hospital: str = "hospital-a", *settings: str) -> None:
        """Start the gateway anew, with other settings, `section.key=value` each."""
        path = self.house(hospital).config_path
        self.gateway(hospital).stop()
        changed = config.load_gateway(path)
        for setting in settings:
            changed = config.override(changed, setting)
        Filesystem(path.parent).replace(path.name, config.render(changed).encode())
        self.gateway(hospital).start()

    def log(self, hospital: str = "hospital-a") -> str:
        """What the hospital's gateway has logged so far."""
        return serve.log_path(self.house(hospital).config_path).read_text()

    def associated(
        self,
        contexts: Sequence[tuple[str, Sequence[str]]],
        *,
        hospital: str = "hospital-a",
        calling: str = "",
        roles: Sequence[object] = (),
        handlers: Sequence[object] = (),
    ) -> AbstractContextManager[Association]:
        """A pynetdicom association of the hospital's PACS with its gateway, released at the end."""
        house = self.house(hospital)
        return archive_role.associated(
            house.gateway.listen.port,
            contexts,
            called=house.gateway_ae_title,
            calling=calling or house.peers[0].ae_title,
            security=None,
            roles=roles,
            handlers=handlers,
            log=lambda: self.log(hospital),
        )


@dataclass
class Pacs:
    """What arrived at a peer: transfer syntax and data set, by SOP Instance UID."""

    received: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    reports: list[tuple[int, object]] = field(default_factory=list)
    """Event type and data set of each N-EVENT-REPORT."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set when the first instance has come."""
    ready: threading.Event = field(default_factory=threading.Event)
    """While it is not set no instance is answered."""

    def __post_init__(self) -> None:
        self.ready.set()

    @property
    def takes_reports(self) -> list[object]:
        """A handler of pynetdicom's for its reports."""
        return [(evt.EVT_N_EVENT_REPORT, self.report)]

    def take(self, event: evt.Event) -> int:
        """Keep an instance."""
        self.asked.set()
        assert self.ready.wait(_PATIENCE_S)
        with self.changed:
            self.received[str(event.request.AffectedSOPInstanceUID)] = (
                str(event.context.transfer_syntax),
                event.request.DataSet.getvalue(),
            )
            self.changed.notify_all()
        return 0x0000

    def report(self, event: evt.Event) -> tuple[int, None]:
        """Keep a report."""
        with self.changed:
            self.reports.append((event.event_type, event.event_information))
            self.changed.notify_all()
        return 0x0000, None

    def await_report(self, transaction_uid: str, timeout_s: float = 60.0) -> object:
        """Wait for the report on a transaction; its data set."""

        def found() -> object | None:
            return next(
                (each for _, each in self.reports if transaction_uid == each.TransactionUID), None
            )

        with self.changed:
            assert self.changed.wait_for(found, timeout_s), "no report came"
            return found()


@contextmanager
def listening(peer: Peer) -> Iterator[Pacs]:
    """A registered node of a hospital that the gateway calls: for images, and for reports."""
    pacs = Pacs()
    entity = AE(ae_title=peer.ae_title)
    entity.supported_contexts = StoragePresentationContexts
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = entity.start_server(
        (HOST, peer.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, pacs.take), (evt.EVT_N_EVENT_REPORT, pacs.report)],
    )
    try:
        yield pacs
    finally:
        server.shutdown()


@contextmanager
def running(
    directory: Path,
    *,
    hospitals: int = 1,
    seal_after_s: float = SEAL_AFTER_S,
    settings: Sequence[str] = (),
) -> Iterator[Whole]:
    """Build everything below a directory and run it for the length of the block."""
    clock = SystemClock()
    directory.mkdir(exist_ok=True)
    centre = system.build(
        directory,
        hospitals=hospitals,
        seal_after_s=seal_after_s,
        settings=settings,
        clock=clock,
    )
    with serve.running(centre, clock) as (archive, gateways):
        yield Whole(centre, archive, gateways)
