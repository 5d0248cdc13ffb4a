"""Scrubbing: reading sealed packs again, long after, to find out whether they are what was sealed.

A pack is verified without any key, by the SHA-256 of its file. A share of the packs is opened and
parsed besides. Where the file differs, every instance of it is tried, and those that cannot be
given back are named and flagged: nobody believes those copies any more, an identical re-send heals
them, and `holdings/repair.py` puts a whole copy in the file's place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from harmoni.backends.filesystem import File, Filesystem
from harmoni.holdings import listing, recall
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.survey import Survey, survey
from harmoni.index import ingest, lookup, packs, scrubbing
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackRow, PackState, SealedPack
from harmoni.index.scrubbing import Due
from harmoni.model.errors import Damaged, NotHeld, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.runtime.clock import Clock
from harmoni.runtime.progress import Progress, unwatched
from harmoni.sealing.manifest import Manifest
from harmoni.vault import fixity, reader
from harmoni.vault.fixity import Observe
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout

UNKNOWN: Final = (
    "nobody knows its SHA-256 any more, neither the index nor the seal log: put another copy in the"
    " place of its file by hand, and run `harmoni vault rebuild`"
)
"""What to do with a pack that cannot be compared with what was sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found out about one pack."""

    pack_id: PackId
    state: PackState
    """Sealed, damaged, missing; or evicted or erased meanwhile, which is no finding."""
    size_bytes: int
    """What its file has to have, and verifying reads; 0 for a missing one."""
    opened: bool = False
    """Whether it was to be opened and parsed besides, if its bytes are what was sealed."""
    why: str = ""
    """What is wrong with it, or ""."""
    instances: tuple[str, ...] = ()
    """SOP Instance UIDs of the copies in it that cannot be given back."""
    held_elsewhere: int = 0
    """How many of them are held in another pack here as well."""
    members: tuple[str, ...] = ()
    """The members that differ, by the pack's own table of hashes, which needs no key."""
    key_fails: bool = False
    """Its bytes are what was sealed, and its key does not open: it is the key that is wrong."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.key_fails and (self.state is PackState.SEALED or self.state in packs.LET_GO)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A pack that was opened and parsed: what its manifest lists, and what its members are."""

    contents: Manifest
    found: Survey

    def what_differs(self, name: str) -> str:
        """What is wrong with the pack's members, or ""."""
        instances = {each.location: each.identity for each in self.found.instances}
        events = {listed for listed, _ in self.found.events}
        if all(
            instances.get(each.location) == each.identity for each in self.contents.instances
        ) and all(
            listed in events or listed.sequence in self.found.erased
            for listed in self.contents.events
        ):
            return ""
        # Not a disk's doing: what was sealed was wrong, or what reads it.
        return f"{name} is what was sealed, but its members are not what its manifest says"


def _what_differs(file: File, sealed: SealedPack, observe: Observe) -> str:
    """What is wrong with a pack's bytes, or ""; no key is needed."""
    if file.size_bytes() != sealed.size_bytes:
        return f"{file.name} has {file.size_bytes()} bytes, {sealed.size_bytes} were sealed"
    if fixity.sha256(file, observe) != sealed.sha256:
        return f"{file.name} has another SHA-256 than was sealed"
    return ""


class Scrubber:
    """Verifies one hospital's sealed packs.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: opens what is to be opened.
        index: the hospital's live index, which says what each file must be.
        clock: the time.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        keyring: Keyring,
        index: LiveIndex,
        clock: Clock,
    ) -> None:
        self._files = files
        self._layout = layout
        self._keyring = keyring
        self._index = index
        self._clock = clock

    def oldest_ms(self) -> int | None:
        """When the sealed pack that was not verified for longest was; None without packs."""
        with self._index.reader() as connection:
            return scrubbing.oldest_ms(connection)

    def run(
        self,
        wanted: Due,
        *,
        opens: Callable[[PackId], bool] = lambda _: False,
        observe: Observe = unwatched,
        progress: Progress = unwatched,
    ) -> Iterator[Verdict]:
        """Verify every pack that is due, the one verified longest ago first.

        What was verified is noted pack by pack: after an interruption the next run goes on.
        Packs that are known to be missing are told again each time, or found to be back.

        Args:
            wanted: what is due, when this is called.
            opens: whether a pack is to be opened and parsed besides.
            observe: told of every run of bytes; may wait.
            progress: told how many packs are done.

        Raises:
            OutOfResources, StorageFailed: a result could not be noted.
        """
        pack_ids = self._due(wanted)
        with self._index.reader() as connection:
            missing = packs.packs_in(connection, PackState.MISSING)
            damaged = packs.packs_in(connection, PackState.DAMAGED)
        pack_ids += [row.pack_id for row in missing if row.sealed is not None]
        unknown = [row for row in (*missing, *damaged) if row.sealed is None]
        total = len(pack_ids) + len(unknown)
        progress(0, total)
        for done, pack_id in enumerate(pack_ids, start=1):
            yield self.verify(pack_id, opens=opens(pack_id), observe=observe)
            progress(done, total)
        for done, row in enumerate(unknown, start=len(pack_ids) + 1):
            yield self._unknown(row)
            progress(done, total)

    def next(self, wanted: Due) -> PackId | None:
        """The pack that is due and was not verified for longest."""
        return next(iter(self._due(wanted, limit=1)), None)

    def verify(
        self, pack_id: PackId, *, opens: bool = False, observe: Observe = unwatched
    ) -> Verdict:
        """Read one pack whole, note what it is, and say so.

        A pack that was damaged or missing and is whole now counts again.

        Args:
            pack_id: a pack that the index knows.
            opens: open and parse its members besides.
            observe: told of every run of bytes; may wait.

        Raises:
            NotHeld: the index does not know it, or not as sealed.
            OutOfResources, StorageFailed: it could not be tried, or the result not be noted;
                nothing is said of it.
        """
        with self._index.reader() as connection:
            row = packs.pack(connection, pack_id)
        if row is None or row.sealed is None:
            raise NotHeld(
                f"the index knows no sealed pack {pack_id}; if its file is there, run `harmoni "
                "vault rebuild`"
            )
        if row.state in packs.LET_GO:
            return _verdict(row, row.state)
        # What counted as damaged or missing must prove more than its hash before it counts again.
        opens = opens or row.state is not PackState.SEALED
        try:
            file = reader.open_file(self._files, self._layout, pack_id)
        except NotHeld as error:
            return self._note_missing(row, str(error))
        with file:
            opened = None
            try:
                why = _what_differs(file, row.sealed, observe)
                if opens and not why and (key_why := self._why_no_key(file)):
                    return self._note_key(row, key_why)
                if opens and not why:
                    opened = _Opened(
                        listing.read(file, self._keyring).manifest, survey(file, self._keyring)
                    )
                    why = opened.what_differs(file.name)
            except (Damaged, NotHeld, StorageFailed) as error:
                why = str(error)
            if not why:
                return self._note_whole(row, opened)
            return self._note_damaged(row, file, why, opened=opens)

    def _why_no_key(self, file: File) -> str:
        """Why the key of a pack that is what was sealed cannot be had, or ""."""
        key_id = reader.read_readme(file).key_id
        try:
            self._keyring.data_key(key_id)
        except (Damaged, NotHeld) as error:
            return f"the pack is what was sealed, its key is not: {error}"
        return ""

    def _note_key(self, row: PackRow, why: str) -> Verdict:
        """Say that a key fails; whole copies of the pack would not help, nor would a re-send."""
        with self._index.write() as connection:
            if (gone := _let_go(connection, row.pack_id)) is not None:
                return _verdict(row, gone)
            if row.state is PackState.SEALED:
                scrubbing.note(connection, row.pack_id, self._clock.now_ms())
            held = lookup.members(connection, row.pack_id)
        return replace(
            _verdict(row, row.state),
            why=why,
            key_fails=True,
            instances=tuple(each.sop_instance_uid for each in held),
        )

    def _due(self, wanted: Due, limit: int = -1) -> list[PackId]:
        with self._index.reader() as connection:
            return scrubbing.due(connection, wanted, limit)

    def _note_whole(self, row: PackRow, opened: _Opened | None) -> Verdict:
        """Note that a pack is what was sealed; if it was not before, its members count again."""
        anew = None if row.state is PackState.SEALED else opened
        with self._index.write(durable=anew is not None) as connection:
            if (gone := _let_go(connection, row.pack_id)) is not None:
                return _verdict(row, gone)
            if anew is not None:
                # Of a pack that only the log knew there are no rows yet.
                instances, facts = anew.contents.instances, anew.found.facts()
                ingest.record(connection, instances, self._index.terms, doubtful=True)
                ingest.record_facts(connection, facts, self._index.terms)
                packs.set_state(connection, row.pack_id, PackState.SEALED)
                for each in instances:
                    packs.flag_damaged(
                        connection, each.sop_instance_uid, each.location, damaged=False
                    )
            scrubbing.note(connection, row.pack_id, self._clock.now_ms())
        return replace(_verdict(row, PackState.SEALED), opened=opened is not None)

    def _note_damaged(self, row: PackRow, file: File, why: str, *, opened: bool) -> Verdict:
        with self._index.reader() as connection:
            held = lookup.members(connection, row.pack_id)
        lost = [each for each in held if not self._can_be_recalled(each)]
        try:
            members = fixity.differing(file)
        except (Damaged, StorageFailed):
            members = ()
        with self._index.write(durable=True) as connection:
            if (gone := _let_go(connection, row.pack_id)) is not None:
                return replace(_verdict(row, gone), opened=opened)
            packs.set_state(connection, row.pack_id, PackState.DAMAGED)
            for each in lost:
                packs.flag_damaged(connection, each.sop_instance_uid, each.location)
            scrubbing.note(connection, row.pack_id, self._clock.now_ms())
            elsewhere = sum(_is_held_elsewhere(connection, each) for each in lost)
        return replace(
            _verdict(row, PackState.DAMAGED),
            why=why,
            opened=opened,
            instances=tuple(each.sop_instance_uid for each in lost),
            held_elsewhere=elsewhere,
            members=members,
        )

    def _note_missing(self, row: PackRow, why: str) -> Verdict:
        with self._index.write(durable=True) as connection:
            if (gone := _let_go(connection, row.pack_id)) is not None:
                return _verdict(row, gone)
            packs.set_state(connection, row.pack_id, PackState.MISSING)
            held = lookup.members(connection, row.pack_id)
            elsewhere = sum(_is_held_elsewhere(connection, each) for each in held)
        return replace(
            _verdict(row, PackState.MISSING),
            why=why,
            instances=tuple(each.sop_instance_uid for each in held),
            held_elsewhere=elsewhere,
        )

    def _unknown(self, row: PackRow) -> Verdict:
        """Of a pack that is damaged or missing, and of which nothing tells what was sealed."""
        with self._index.reader() as connection:
            held = lookup.members(connection, row.pack_id)
        return Verdict(
            pack_id=row.pack_id,
            state=row.state,
            size_bytes=0,
            opened=False,
            why=UNKNOWN,
            instances=tuple(each.sop_instance_uid for each in held if each.damaged),
        )

    def _can_be_recalled(self, held: Held) -> bool:
        # A reader of its own: one that has the pack open may have another file of that name.
        packs_read = reader.PackReader(self._files, self._layout, self._keyring.data_key)
        try:
            for _ in recall.data_set(packs_read, self._layout.hospital, held):
                pass
        except (Damaged, NotHeld, StorageFailed):
            return False
        return True


def _verdict(row: PackRow, state: PackState) -> Verdict:
    """What is said of a pack before anything that was found in it."""
    assert row.sealed is not None
    size_bytes = 0 if state is PackState.MISSING else row.sealed.size_bytes
    return Verdict(pack_id=row.pack_id, state=state, size_bytes=size_bytes)


def _let_go(connection: Connection, pack_id: PackId) -> PackState | None:
    """How a pack was let go of since it was looked at; None if it was not."""
    row = packs.pack(connection, pack_id)
    return row.state if row is not None and row.state in packs.LET_GO else None


def _is_held_elsewhere(connection: Connection, held: Held) -> bool:
    """Whether another pack holds the same version, and nothing is known against that copy."""
    return any(
        copy.identity == held.identity
        and copy.sound
        and copy.location.pack_id != held.location.pack_id
        for copy in lookup.versions(connection, held.sop_instance_uid)
    )
