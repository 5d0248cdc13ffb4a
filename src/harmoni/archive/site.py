"""The archive as one process sees it: the hospitals of its registry, and their holdings."""

from collections.abc import Mapping

from harmoni.config import ArchiveConfig, HospitalConfig, hospitals_stamp, read_hospitals
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.model.errors import ConfigurationError
from harmoni.model.identifiers import HospitalId
from harmoni.policy.access import HospitalEntry, Peer, Registry, Right
from harmoni.role.node import Node
from harmoni.runtime.clock import Clock


class ArchiveSite(Node):
    """One process's view of the archive.

    Args:
        config: the archive's settings.
        process: this process's name among those of the node.
        clock: the time.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """

    role = "archive"

    def __init__(self, config: ArchiveConfig, process: str, clock: Clock) -> None:
        section = config.archive
        policy = CommitmentPolicy(safe_copies=section.safe_copies, places=(str(section.site),))
        super().__init__(config, process, clock, policy)
        self.config = config
        self._hospitals: Mapping[HospitalId, HospitalConfig] = {}
        self._stamp: object = None
        self.reload()

    @property
    def hospitals(self) -> Mapping[HospitalId, HospitalConfig]:
        """The hospitals' files as they were read last."""
        return self._hospitals

    def reload(self) -> None:
        """Read the hospitals' files again; `problems` tells then what is wrong with them.

        A hospital whose file is wrong now stays as it was read before, or out.

        Raises:
            ConfigurationError: the directory cannot be read; what was read before stays in force.
        """
        directory = self.config.archive.hospitals
        # Taken before reading: what changes meanwhile is met by the next look.
        self._stamp = hospitals_stamp(directory)
        files = read_hospitals(directory, self._hospitals)
        self.problems = files.problems
        self._hospitals = files.hospitals
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

    def patient_domain(self, hospital: HospitalId) -> str:
        """The issuer of Patient IDs that a hospital's file names.

        Raises:
            ConfigurationError: the file was just removed.
        """
        return self._registered(hospital).patient_domain

    def recovery_recipient(self, hospital: HospitalId) -> str:
        """The recovery recipient that a hospital's file names.

        Raises:
            ConfigurationError: the file was just removed.
        """
        return self._registered(hospital).recovery_recipient

    def _registered(self, hospital: HospitalId) -> HospitalConfig:
        registered = self._hospitals.get(hospital)
        if registered is None:
            raise ConfigurationError(f"the file of hospital {hospital} was just removed")
        return registered


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
