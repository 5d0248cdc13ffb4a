"""A hospital's holding as one process has it open: every act on it starts here.

holding.record    take instances in            (workers)
holding.find      answer a query
holding.plan      what a retrieval would give
holding.recall    give a data set back
holding.commitments, holding.conflicts, holding.events, holding.sealer, holding.presence,
holding.let_go, holding.scrubber, holding.repairer, holding.eraser, holding.rebuilder
                               (keeper, operators)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harmoni.audit import spool
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom.identifier import Query
from harmoni.evidence.seal_log import SealLog
from harmoni.holdings import recall
from harmoni.holdings.chunks import ChunkPool
from harmoni.holdings.commit import CommitmentPolicy, Commitments
from harmoni.holdings.conflict import Conflicts
from harmoni.holdings.erase import Eraser
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.let_go import LetGo
from harmoni.holdings.live_index import LiveIndex, create_index, make_live
from harmoni.holdings.open_packs import OpenPacks, PackLimits
from harmoni.holdings.presence import Presence
from harmoni.holdings.rebuild import Rebuilder
from harmoni.holdings.record import Recorder
from harmoni.holdings.repair import Repairer
from harmoni.holdings.room import Room
from harmoni.holdings.scrub import Scrubber
from harmoni.holdings.seal import Sealer
from harmoni.index import find, lookup, packs, totals
from harmoni.index.ingest import Terms
from harmoni.index.lookup import Held
from harmoni.model.errors import AlreadyHeld, Damaged, HarmoniError, NotHeld
from harmoni.model.identifiers import HospitalId, SiteId, WriterId
from harmoni.runtime.clock import Clock
from harmoni.sealing import age
from harmoni.vault.identities import create_identities
from harmoni.vault.key_copies import KeyCopies
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds
from harmoni.vault.reader import PackReader
from harmoni.vault.rotation import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all holdings of one process share.

    Args:
        files: the store.
        site: this site.
        site_number: its number, 0 to 1023.
        writer: this process.
        custody_key: the 32 bytes that unwrap the site's identities.
        clock: the time.
        chunks: the worker's memory for small instances.
        limits: when packs are let go.
        policy: when an instance counts as safe.
        destination: where every instance is sent on to; "" for nowhere.
        key_copies: directories that get a copy of every wrapped key.
        erasure_horizon_days: after how long no old copy of a key block is left anywhere.
        reserve_bytes: what no instance takes of a disk's space.
    """

    files: Filesystem
    site: SiteId
    site_number: int
    writer: WriterId
    custody_key: bytes
    clock: Clock
    chunks: ChunkPool
    limits: PackLimits
    policy: CommitmentPolicy
    destination: str = ""
    key_copies: tuple[Path, ...] = ()
    erasure_horizon_days: float = 90.0
    reserve_bytes: int = 0


class Holding:
    """One hospital's own.

    Args:
        site: what this process shares among holdings.
        hospital: whose.
        patient_domain: the issuer of Patient IDs that come without one.

    The index is opened at its first use, so that a lost one can be rebuilt.

    Raises:
        ConfigurationError: the hospital has no keys here.
    """

    def __init__(self, site: Site, hospital: HospitalId, patient_domain: str = "") -> None:
        self.hospital = hospital
        self.layout = Layout(hospital)
        self._site = site
        self._pack_ids = PackIds(site.clock, site.site_number, self._newest_ms)
        self.keyring = Keyring(
            files=site.files,
            hospital=hospital,
            site=site.site,
            writer=site.writer,
            custody_key=site.custody_key,
            clock=site.clock,
            pack_ids=self._pack_ids,
        )
        self.index = LiveIndex(
            site.files,
            self.layout,
            self.keyring,
            Terms(
                patient_domain=patient_domain,
                destination=site.destination,
                safe_copies=site.policy.safe_copies,
            ),
        )
        self._packs = PackReader(site.files, self.layout, self.keyring.data_key)
        self.presence = Presence(site.files, self.layout, self.index)
        self.room = Room(
            site.files,
            self.layout.open_packs,
            (self.layout.index, self.layout.keys, spool.FOLDER),
            site.reserve_bytes,
        )
        """What is left of the disks."""
        # Made here and not at its first use: two threads would make two, and nobody would let go
        # of the packs of the one that is forgotten.
        self.recorder = Recorder(
            packs=OpenPacks(
                files=site.files,
                hospital=hospital,
                site=site.site,
                keyring=self.keyring,
                index=self.index,
                clock=site.clock,
                pack_ids=self._pack_ids,
                limits=site.limits,
                room=self.room,
            ),
            index=self.index,
            presence=self.presence,
            chunks=site.chunks,
            clock=site.clock,
        )
        """Takes instances in; one per worker."""

    @classmethod
    def create(cls, site: Site, hospital: HospitalId, recovery: age.Recipient) -> "Holding":
        """Make a new hospital's keys, folders and empty index.

        Args:
            site: where.
            hospital: a new id.
            recovery: the public part of its recovery identity.

        A crash on the way leaves nothing that counts: the same call again completes it.

        Raises:
            AlreadyHeld: the hospital is there.
        """
        layout = Layout(hospital)
        used = (layout.epochs, layout.sealed_packs, layout.open_packs)
        if site.files.exists(layout.current_index) or any(map(site.files.names, used)):
            raise AlreadyHeld(f"hospital {hospital} has an index or keys here; choose another id")
        create_identities(
            files=site.files,
            layout=layout,
            site=site.site,
            custody_key=site.custody_key,
            recovery=recovery,
        )
        holding = cls(site, hospital)
        index_id, database = create_index(site.files, layout, holding.keyring, holding._pack_ids)
        database.close()
        make_live(site.files, layout, index_id)
        return holding

    @cached_property
    def log(self) -> SealLog:
        """The seal log of this site."""
        return SealLog(self._site.files, self.hospital, self._site.site)

    @cached_property
    def sealer(self) -> Sealer:
        """Finishes packs that nobody holds; one per keeper."""
        return Sealer(
            files=self._site.files,
            hospital=self.hospital,
            keyring=self.keyring,
            index=self.index,
            log=self.log,
            clock=self._site.clock,
        )

    @cached_property
    def events(self) -> EventRecorder:
        """Records facts that no instance holds."""
        site = self._site
        return EventRecorder(
            files=site.files,
            hospital=self.hospital,
            site=site.site,
            keyring=self.keyring,
            index=self.index,
            clock=site.clock,
            pack_ids=self._pack_ids,
        )

    @cached_property
    def commitments(self) -> Commitments:
        """The storage commitment transactions."""
        return Commitments(
            index=self.index,
            presence=self.presence,
            events=self.events,
            clock=self._site.clock,
            policy=self._site.policy,
        )

    @cached_property
    def conflicts(self) -> Conflicts:
        """Finds out what several versions of an instance differ in."""
        return Conflicts(
            index=self.index, events=self.events, recall=self.recall, clock=self._site.clock
        )

    @cached_property
    def let_go(self) -> LetGo:
        """Gives up local copies of what is safe elsewhere."""
        return LetGo(
            files=self._site.files,
            layout=self.layout,
            keyring=self.keyring,
            index=self.index,
            events=self.events,
            safe_copies=self._site.policy.safe_copies,
        )

    @cached_property
    def scrubber(self) -> Scrubber:
        """Reads sealed packs again, and says whether they are what was sealed."""
        return Scrubber(
            files=self._site.files,
            layout=self.layout,
            keyring=self.keyring,
            index=self.index,
            clock=self._site.clock,
        )

    @cached_property
    def repairer(self) -> Repairer:
        """Puts whole copies in the place of damaged packs."""
        return Repairer(
            files=self._site.files,
            layout=self.layout,
            index=self.index,
            scrubber=self.scrubber,
            events=self.events,
        )

    @cached_property
    def key_copies(self) -> KeyCopies:
        """The copies of the hospital's keys in other places; one keeper brings them there."""
        return KeyCopies(
            self._site.files, self.layout, self._site.key_copies, self.keyring.identities.fits
        )

    @cached_property
    def rotation(self) -> Rotation:
        """Puts new keys in the place of old ones; packs stay as they are."""
        site = self._site
        return Rotation(
            files=site.files,
            layout=self.layout,
            site=site.site,
            custody_key=site.custody_key,
            identities=self.keyring.identities,
        )

    @cached_property
    def eraser(self) -> Eraser:
        """Destroys the keys of studies, and sees that they stay destroyed."""
        return Eraser(
            files=self._site.files,
            layout=self.layout,
            keyring=self.keyring,
            index=self.index,
            events=self.events,
            clock=self._site.clock,
            horizon_days=self._site.erasure_horizon_days,
        )

    def rebuilder(self, *, rescan: bool = False) -> Rebuilder:
        """A fresh run of `vault rebuild`."""
        return Rebuilder(
            files=self._site.files,
            layout=self.layout,
            keyring=self.keyring,
            index=self.index,
            log=self.log,
            pack_ids=self._pack_ids,
            reapply=self.eraser.reapply_from_store,
            rescan=rescan,
        )

    def find(self, query: Query, limit: int | None = None) -> list[dict[int, str]]:
        """Answer a query from the index, one mapping from tag to text per match.

        Read to the end at once: answers go to a peer as slowly as it likes, and the index's log
        could not be reused meanwhile.

        Args:
            query: what is asked.
            limit: how many matches at most; None for all.
        """
        with self.index.reader() as connection:
            return list(find.find(connection, query, limit=limit))

    def plan(self, query: Query) -> list[Held]:
        """The instances that a retrieval would give, one per SOP Instance UID."""
        with self.index.reader() as connection:
            return lookup.instances_of(connection, query)

    def _newest_ms(self) -> int:
        """The time of the newest pack that the index knows; 0 while there is no index."""
        try:
            with self.index.reader() as connection:
                return packs.newest_ms(connection)
        except HarmoniError:
            # The index is being made, or made anew: its own id needs no predecessor.
            return 0

    def preferred_syntaxes(self) -> dict[str, list[str]]:
        """For each SOP class, the transfer syntaxes of its instances, most held first."""
        with self.index.reader() as connection:
            return totals.preferred_syntaxes(connection)

    def is_here(self, held: Held) -> bool:
        """Whether the file of a held instance is there."""
        return self.presence.has(held.location)

    def forget_gone(self) -> None:
        """Close packs that were removed since they were read, and forget keys that were erased.

        Called every second by whoever keeps a holding open: the space of the ones is free then,
        and nobody opens anything with the others any more.
        """
        if self.keyring.forget_replaced():
            self._packs.forget_all()
        self._packs.forget_gone()

    def drop_abandoned(self) -> list[str]:
        """Remove what crashes kept from being published: keys, log records, what a role notes."""
        files, layout = self._site.files, self.layout
        below = [f"{layout.keys}/{name}" for name in files.names(layout.keys)]
        folders = ["", layout.custody, layout.index, layout.log(self._site.site), layout.keys]
        folders += [folder for folder in below if folder != layout.recovery_recipient]
        return [name for folder in folders for name in files.drop_abandoned(folder)]

    def recall(self, held: Held) -> Iterator[memoryview]:
        """The data set of a held instance, verified; see `recall.data_set`.

        What cannot be given back is noted before the error goes on: nobody believes that copy any
        more, and an identical re-send heals it.
        """
        try:
            yield from recall.data_set(self._packs, self.hospital, held)
        except (Damaged, NotHeld) as error:
            self.presence.note_unreadable(held, error)
            raise
