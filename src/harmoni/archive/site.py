"""What one process of the archive has open: the registry, and each hospital's holding on demand."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress

from harmoni.audit.spool import Spool
from harmoni.backends.filesystem import File, Filesystem
from harmoni.config import ArchiveConfig, HospitalConfig, hospitals_stamp, read_hospitals
from harmoni.holdings.chunks import ChunkPool
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.holding import Holding, Site
from harmoni.holdings.open_packs import PackLimits
from harmoni.model.errors import AlreadyHeld, Busy, ConfigurationError
from harmoni.model.identifiers import HospitalId, WriterId
from harmoni.policy.access import HospitalEntry, Peer, Registry, Right
from harmoni.runtime.clock import Clock
from harmoni.vault import custody

_CHUNK_BUDGET_BYTES = 48 << 20
_SPOOL_SALT_BYTES = 32
_SERVING_LOCK = "serving.lock"


class ArchiveSite:
    """One process's view of the archive.

    Args:
        config: the archive's settings.
        process: this process's name among those of the node, such as "w0", "keeper", "cli".
        clock: the time.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """

    def __init__(self, config: ArchiveConfig, process: str, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        section = config.archive
        if not section.data.is_dir():
            raise ConfigurationError(
                f"there is no data directory {section.data}: run `harmoni archive init`"
            )
        self.files = Filesystem(section.data)
        self.custody_key = custody.load(config.custody.key_file)
        self.shared = Site(
            files=self.files,
            site=section.site,
            site_number=section.site_number,
            writer=WriterId(f"{section.site}-{section.node}-{process}"),
            custody_key=self.custody_key,
            clock=clock,
            chunks=ChunkPool(_CHUNK_BUDGET_BYTES),
            limits=PackLimits(
                quiet_s=config.pack.quiet_s,
                max_age_s=config.pack.max_age_s,
                max_bytes=config.pack.max_bytes,
                max_open=config.pack.max_open,
                commitment_quiet_s=config.pack.commitment_quiet_s,
            ),
            policy=CommitmentPolicy(safe_copies=section.safe_copies, places=(str(section.site),)),
        )
        self._lock = threading.Lock()
        self._holdings: dict[HospitalId, Holding] = {}
        self.hospitals: Mapping[HospitalId, HospitalConfig] = {}
        self.registry = Registry(called_ae_titles=frozenset(), hospitals=())
        self._stamp: object = None
        self.problems: tuple[str, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read the hospitals' files again; `problems` tells then what is wrong with them.

        A hospital whose file is wrong now stays as it was read before, or out.

        Raises:
            ConfigurationError: the directory cannot be read; what was read before stays in force.
        """
        directory = self.config.archive.hospitals
        # Taken before reading: what changes meanwhile is met by the next look.
        self._stamp = hospitals_stamp(directory)
        files = read_hospitals(directory, self.hospitals)
        self.problems = files.problems
        self.hospitals = files.hospitals
        self.registry = Registry(
            called_ae_titles=frozenset({self.config.archive.ae_title}),
            hospitals=tuple(_entry(hospital) for hospital in files.hospitals.values()),
        )

    def has_news(self) -> bool:
        """Whether a hospital's file differs from those that were read.

        Raises:
            ConfigurationError: the directory cannot be read.
        """
        return hospitals_stamp(self.config.archive.hospitals) != self._stamp

    def not_writable(self) -> str:
        """The sentence about a data directory that cannot be written."""
        return (
            f"{self.config.archive.data} cannot be written: give it to the user of this role, and "
            "mount its file system for writing"
        )

    def lock_for_serving(self) -> File:
        """Take the data directory for one running role; it is free again when the file is closed.

        Raises:
            Busy: another role serves from it.
            ConfigurationError: it cannot be written.
        """
        if not self.files.is_writable():
            raise ConfigurationError(self.not_writable())
        with suppress(AlreadyHeld):  # left by an earlier run; only the lock on it counts
            self.files.create(_SERVING_LOCK).close()
        file = self.files.open(_SERVING_LOCK, writable=True)
        if not file.lock():
            raise Busy(
                f"another `harmoni archive serve` runs on {self.config.archive.data}: end it "
                "first, or give this one a data directory of its own"
            )
        return file

    def holding(self, hospital: HospitalId) -> Holding:
        """The holding of a registered hospital, opened at the first call.

        Raises:
            ConfigurationError: the hospital has no keys or no index here.
        """
        with self._lock:
            holding = self._holdings.get(hospital)
            if holding is None:
                registered = self.hospitals.get(hospital)
                if registered is None:
                    raise ConfigurationError(f"the file of hospital {hospital} was just removed")
                domain = registered.patient_domain
                holding = self._holdings[hospital] = Holding(self.shared, hospital, domain)
            return holding

    def open_spool(self) -> Spool:
        """A new audit spool of this process."""
        return Spool.create(
            self.files,
            writer=self.shared.writer,
            started_ms=self.clock.now_ms(),
            key=custody.audit_key(self.custody_key),
            salt=os.urandom(_SPOOL_SALT_BYTES),
        )

    def opened(self) -> list[Holding]:
        """The holdings that this process has opened."""
        with self._lock:
            return list(self._holdings.values())


def _entry(hospital: HospitalConfig) -> HospitalEntry:
    return HospitalEntry(
        hospital=hospital.id,
        suspended=hospital.suspended,
        node_rights=frozenset(Right(right) for right in hospital.rights),
        calling_ae_titles=frozenset(hospital.calling_ae_titles),
        addresses=hospital.addresses,
        peers=tuple(
            # A destination is called and never calls: its AE title may be that of a caller too,
            # which then has the rights of the hospital's node.
            Peer(
                ae_title=destination.ae_title,
                rights=frozenset({Right.DESTINATION})
                | frozenset(Right(right) for right in hospital.rights),
                host=destination.host,
                port=destination.port,
            )
            for destination in hospital.destination
        ),
    )
