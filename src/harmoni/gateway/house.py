"""The gateway as one process sees it: one hospital, the peers of its house, and its holding."""

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harmoni.config import GatewayConfig, PeerSection, load_gateway
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.holding import Holding
from harmoni.model.errors import AlreadyHeld, ConfigurationError, NotHeld
from harmoni.model.identifiers import HospitalId
from harmoni.policy.access import HospitalEntry, Peer, Registry, Right
from harmoni.role.node import Node
from harmoni.runtime.clock import Clock

CENTRE: Final = "centre"
"""The destination of every job; the archive, by whatever name it is called."""

_COMPLETE: Final = "stubs.complete"
_CENTRE: Final = "centre.json"
_FETCH: Final = "fetch"
_FETCH_LOCKS: Final = 64
_FETCH_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreState:
    """How the way to the centre is."""

    up: bool
    since_ms: int
    why: str
    """Why it is not; "" while it is."""


class House(Node):
    """One process's view of a gateway.

    Args:
        config: the gateway's settings.
        path: their file, whose peers are read again when it changes.
        process: this process's name among those of the node.
        clock: the time.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """

    role = "gateway"

    def __init__(self, config: GatewayConfig, path: Path, process: str, clock: Clock) -> None:
        policy = CommitmentPolicy(safe_copies=config.gateway.safe_copies, elsewhere=True)
        super().__init__(config, process, clock, policy, destination=CENTRE)
        self.config = config
        self._path = path
        self._stamp = _stamp(path)
        self._take(config.peer)

    @property
    def hospital(self) -> HospitalId:
        """The hospital whose house it is."""
        return self.config.gateway.hospital

    @property
    def hospitals(self) -> tuple[HospitalId]:
        """That one hospital."""
        return (self.hospital,)

    @property
    def own(self) -> Holding:
        """That hospital's holding."""
        return self.holding(self.hospital)

    def reload(self) -> None:
        """Read the peers again; everything else in the file waits for a restart.

        Raises:
            ConfigurationError: the file breaks a rule; the peers stay as they were.
        """
        self._stamp = _stamp(self._path)
        self._take(load_gateway(self._path).peer)

    def has_news(self) -> bool:
        """Whether the file differs from the one that was read.

        Raises:
            ConfigurationError: it is gone.
        """
        return _stamp(self._path) != self._stamp

    def patient_domain(self, hospital: HospitalId) -> str:
        """The issuer of Patient IDs that come without one."""
        if hospital != self.hospital:
            raise ConfigurationError(f"this is the gateway of {self.hospital}, not of {hospital}")
        return self.config.gateway.patient_domain

    def peer(self, ae_title: str) -> Peer | None:
        """The peer of that AE title, or None."""
        entry = self.registry.hospital(self.hospital)
        return None if entry is None else entry.peer(ae_title)

    def may_answer_alone(self) -> bool:
        """Whether what is known here is all that the hospital has, as far as anybody knows.

        It is where the gateway was there from the beginning: the centre held nothing of the
        hospital when they met first. A machine that took the place of another never knows.
        """
        return self.knows_all and not self.config.centre.strict

    @property
    def knows_all(self) -> bool:
        """Whether all that the hospital ever sent to the centre passed through here."""
        return self.files.exists(_COMPLETE)

    def note_complete(self) -> None:
        """Note that the centre holds nothing that did not pass through here."""
        with suppress(AlreadyHeld):
            self.files.publish(_COMPLETE, b"")

    def note_centre(self, state: "CentreState") -> None:
        """Keep how the way to the centre is, for whoever asks beside the role."""
        text = json.dumps({"up": state.up, "since_ms": state.since_ms, "why": state.why})
        self.files.replace(_CENTRE, text.encode())

    def centre_state(self) -> "CentreState | None":
        """How the way to the centre was when it changed last; None before the first try."""
        try:
            told = json.loads(self.files.read(_CENTRE))
            return CentreState(
                up=bool(told["up"]), since_ms=int(told["since_ms"]), why=str(told["why"])
            )
        except (NotHeld, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def fetching(self, study_instance_uid: str) -> Iterator[None]:
        """Wait until no other process of this gateway fetches a study, and let none for a while.

        A few studies share a lock, whose name tells nothing of them.
        """
        name = f"{_FETCH}/{zlib.crc32(study_instance_uid.encode()) % _FETCH_LOCKS:02d}.lock"
        self.files.make_directory(_FETCH)
        with suppress(AlreadyHeld):  # only the lock on it counts
            self.files.create(name).close()
        pause = threading.Event()
        with self.files.open(name, writable=True) as file:
            while not file.lock():
                pause.wait(_FETCH_LOOK_S)
            yield

    def _take(self, peers: tuple[PeerSection, ...]) -> None:
        config = self.config
        entry = HospitalEntry(
            hospital=self.hospital,
            peers=tuple(
                Peer(
                    ae_title=peer.ae_title,
                    rights=frozenset(Right(right) for right in peer.granted()),
                    addresses=peer.addresses,
                    host=peer.host,
                    port=peer.port,
                    assume_roles=peer.assume_roles,
                )
                for peer in peers
            ),
        )
        self.registry = Registry(
            called_ae_titles=frozenset({config.gateway.ae_title}),
            hospitals=(entry,),
            house=self.hospital,
            local_ports=frozenset({config.listen.port}),
        )


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"cannot look at {path}: {error.strerror}; put the configuration back"
        ) from error
    return state.st_ino, state.st_size, state.st_mtime_ns
