"""The real archive role for tests: processes, mutual TLS, several hospitals, short seal times."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom._globals import DEFAULT_MAX_LENGTH
from pynetdicom.association import Association

from harmoni import config
from harmoni.audit import spool
from harmoni.audit.event import AuditEvent
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import serve, system
from harmoni.demo.processes import Role
from harmoni.demo.system import Centre, House
from harmoni.fleet import ca
from harmoni.model.identifiers import HospitalId
from harmoni.net.tls import TLSFiles
from harmoni.runtime.clock import SystemClock
from harmoni.vault import custody

HOST = "127.0.0.1"
CALLED = system.ARCHIVE_AE_TITLE
SUSPENDED = "hospital-f"
# Registered, and its keys are not there.
UNREADY = "hospital-g"
HOSPITALS = 6
SEAL_AFTER_S = 0.5
# Short, so that what a silent client costs can be waited for; an honest peer on a machine that is
# busy with other tests needs seconds.
HANDSHAKE_S = 5.0
ARTIM_S = 5.0
NETWORK_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class ArchiveRole:
    """The running archive and the identities of its hospitals."""

    centre: Centre
    process: Role

    @property
    def port(self) -> int:
        """Where it speaks DICOM over TLS."""
        return self.centre.archive.listen.port

    @property
    def authority(self) -> ca.Authority:
        """The centre's authority, with its key: it issues whatever a test wants to show."""
        folder = self.centre.directory / "ca"
        return ca.Authority((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())

    def house(self, hospital: str) -> House:
        """One hospital, such as `hospital-a`."""
        return next(house for house in self.centre.houses if house.hospital.value == hospital)

    def log(self) -> str:
        """What the role has logged so far."""
        return serve.log_path(self.centre.config_path).read_text()

    def audited(self) -> list[AuditEvent]:
        """Every event in the audit spools so far; every record of them is verified."""
        archive = self.centre.archive
        key = custody.audit_key(custody.load(archive.custody.key_file))
        files = Filesystem(archive.archive.data)
        events = []
        for name in spool.names(files):
            assert spool.verify(files, name, key).problems == ()
            events += [entry.event for entry in spool.read(files, name, key)]
        return events

    def associated(
        self,
        hospital: str,
        contexts: Sequence[tuple[str, Sequence[str]]],
        *,
        calling: str = "PYNET",
        roles: Sequence[object] = (),
        handlers: Sequence[object] = (),
    ) -> AbstractContextManager[Association]:
        """A pynetdicom association with a hospital's certificate, released at the end."""
        return associated(
            self.port,
            contexts,
            called=CALLED,
            calling=calling,
            security=client_context(self.house(hospital).tls_files),
            roles=roles,
            handlers=handlers,
            log=self.log,
        )


@contextmanager
def associated(
    port: int,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    called: str,
    calling: str,
    security: ssl.SSLContext | None,
    log: Callable[[], str],
    roles: Sequence[object] = (),
    handlers: Sequence[object] = (),
    most_bytes: int = DEFAULT_MAX_LENGTH,
) -> Iterator[Association]:
    """A pynetdicom association with a role that runs here, released at the end."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = NETWORK_TIMEOUT_S
    for abstract_syntax, transfer_syntaxes in contexts:
        entity.add_requested_context(abstract_syntax, list(transfer_syntaxes))
    association = entity.associate(
        HOST,
        port,
        ae_title=called,
        ext_neg=list(roles),
        evt_handlers=list(handlers),
        tls_args=(security, None) if security else None,
        max_pdu=most_bytes,
    )
    assert association.is_established, log()[-4000:]
    _keep_answers(association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()
    assert association.is_released


def _keep_answers(association: Association) -> None:
    """Keep pynetdicom's own thread from taking the answer to a request that was just sent.

    Woken after one request it may look for messages only when the next one is under way, and would
    throw away that one's answer as unexpected (pynetdicom 3.0.4, where the archive is quick).
    """
    get = association.dimse.get_msg
    checkpoint = association._reactor_checkpoint

    def get_in_turn(*, block: bool = False) -> object:
        return get(block=block) if block or checkpoint.is_set() else (None, None)

    association.dimse.get_msg = get_in_turn


@contextmanager
def running(directory: Path) -> Iterator[ArchiveRole]:
    """Run the archive of six hospitals, one of them suspended, and of a seventh without keys."""
    clock = SystemClock()
    centre = system.build(
        directory,
        hospitals=HOSPITALS,
        seal_after_s=SEAL_AFTER_S,
        settings=[f"limits.handshake_s={HANDSHAKE_S}", f"limits.artim_s={ARTIM_S}"],
        clock=clock,
    )
    folder = centre.archive.archive.hospitals
    for house in centre.houses:
        register(folder, house)
    entry = config.load_hospitals(folder)[HospitalId(SUSPENDED)]
    suspended = entry.model_copy(update={"suspended": True})
    Filesystem(folder).replace(f"{SUSPENDED}.toml", config.render(suspended).encode())
    unready = entry.model_copy(update={"id": HospitalId(UNREADY), "destination": ()})
    Filesystem(folder).replace(f"{UNREADY}.toml", config.render(unready).encode())
    with serve.archive_role(centre, clock) as process:
        yield ArchiveRole(centre, process)


def register(folder: Path, house: House) -> None:
    """Make a hospital's nodes destinations of C-MOVE at the archive, which has none by default."""
    entry = config.load_hospitals(folder)[house.hospital]
    destinations = tuple(
        config.DestinationSection(ae_title=peer.ae_title, host=HOST, port=peer.port)
        for peer in house.peers
    )
    registered = entry.model_copy(update={"destination": destinations})
    Filesystem(folder).replace(f"{house.hospital}.toml", config.render(registered).encode())


def client_context(files: TLSFiles) -> ssl.SSLContext:
    """What an ordinary client makes of a certificate, a key and an authority."""
    context = ssl.create_default_context(cafile=str(files.authorities))
    context.check_hostname = False
    context.load_cert_chain(files.certificate, files.key)
    return context


def dataset(**values: object) -> Dataset:
    """A pydicom data set from keywords."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made
