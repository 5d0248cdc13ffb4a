"""What one process of a role has open: its files, and each hospital's holding on demand."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import suppress
from typing import ClassVar, Final

from harmoni.audit import spool
from harmoni.audit.spool import Spool
from harmoni.backends.filesystem import File, Filesystem
from harmoni.config.sections import RoleConfig
from harmoni.holdings.chunks import ChunkPool
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.holding import Holding, Site
from harmoni.holdings.open_packs import PackLimits
from harmoni.model.errors import AlreadyHeld, Busy, ConfigurationError
from harmoni.model.identifiers import HospitalId, WriterId
from harmoni.policy.access import Registry
from harmoni.runtime.clock import Clock
from harmoni.vault import custody

_CHUNK_BUDGET_BYTES: Final = 48 << 20
_SPOOL_SALT_BYTES: Final = 32
_SERVING_LOCK: Final = "serving.lock"


class Node(ABC):
    """One process's view of a gateway or an archive.

    Args:
        config: the role's settings.
        process: this process's name among those of the node, such as "w0", "keeper", "cli".
        clock: the time.
        policy: when an instance counts as safe.
        destination: where every instance is sent on to; "" for nowhere.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """

    role: ClassVar[str]
    """The role's name on the command line."""

    def __init__(
        self,
        config: RoleConfig,
        process: str,
        clock: Clock,
        policy: CommitmentPolicy,
        *,
        destination: str = "",
    ) -> None:
        self.settings = config
        self.clock = clock
        section = config.node
        if not section.data.is_dir():
            raise ConfigurationError(
                f"there is no data directory {section.data}: run `harmoni {self.role} init`"
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
            policy=policy,
            destination=destination,
            key_copies=config.keys.copies,
            erasure_horizon_days=config.keys.erasure_horizon_days,
            reserve_bytes=section.reserve_bytes,
        )
        self._lock = threading.Lock()
        self._holdings: dict[HospitalId, Holding] = {}
        self.registry = Registry(called_ae_titles=frozenset(), hospitals=())
        """Who may call, and what it may do then."""
        self.problems: tuple[str, ...] = ()
        """What is wrong with files that were read, in sentences."""

    @property
    @abstractmethod
    def hospitals(self) -> Collection[HospitalId]:
        """The hospitals of this node."""

    @abstractmethod
    def reload(self) -> None:
        """Read again what may change while the role runs; `problems` tells then what is wrong.

        Raises:
            ConfigurationError: it cannot be read; what was read before stays in force.
        """

    @abstractmethod
    def has_news(self) -> bool:
        """Whether what `reload` reads differs from what was read.

        Raises:
            ConfigurationError: it cannot be looked at.
        """

    @abstractmethod
    def patient_domain(self, hospital: HospitalId) -> str:
        """The issuer of Patient IDs of a hospital that come without one.

        Raises:
            ConfigurationError: the hospital is not one of ours any more.
        """

    def not_writable(self) -> str:
        """The sentence about a data directory that cannot be written."""
        return (
            f"{self.settings.node.data} cannot be written: give it to the user of this role, and "
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
                f"another `harmoni {self.role} serve` runs on {self.settings.node.data}: end it "
                "first, or give this one a data directory of its own"
            )
        return file

    def holding(self, hospital: HospitalId) -> Holding:
        """The holding of one of our hospitals, opened at the first call.

        Raises:
            ConfigurationError: the hospital is none of ours, or has no keys here, or they name
                another recovery identity than its file.
        """
        with self._lock:
            holding = self._holdings.get(hospital)
            if holding is None:
                opened = Holding(self.shared, hospital, self.patient_domain(hospital))
                self._check_recovery(opened)
                holding = self._holdings[hospital] = opened
            return holding

    def recovery_recipient(self, hospital: HospitalId) -> str:  # noqa: ARG002 - for whom has it
        """The recovery recipient that the settings name; "" when they name none."""
        return ""

    def _check_recovery(self, holding: Holding) -> None:
        """Let nobody who can write the store alone have every key encrypted to himself."""
        named = self.recovery_recipient(holding.hospital)
        if named and named != holding.keyring.identities.recovery.to_string():
            raise ConfigurationError(
                f"{holding.layout.recovery_recipient} is not the recovery_recipient of hospital"
                f" {holding.hospital}'s file: somebody changed one of them; compare both with the"
                " minutes of the ceremony, and restore the right one"
            )

    def open_spool(self) -> Spool:
        """A new audit spool of this process."""
        writer = self.shared.writer
        return Spool.create(
            self.files,
            writer=writer,
            started_ms=spool.next_start_ms(self.files, writer, self.clock.now_ms()),
            key=custody.audit_key(self.custody_key),
            salt=os.urandom(_SPOOL_SALT_BYTES),
        )

    def opened(self) -> list[Holding]:
        """The holdings that this process has opened."""
        with self._lock:
            return list(self._holdings.values())
