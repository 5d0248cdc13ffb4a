"""Letting go: a gateway gives up its copy of what is proven safe elsewhere, pack by pack.

Nothing is let go of before every instance of a pack is committed in as many places as the
installation asks for. The event that keeps the pack's manifest is durable before the file is
removed, so the rows stay as stubs, whatever happens in between, and a rebuild makes them anew.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from harmoni.backends.filesystem import Filesystem
from harmoni.dicom import uids
from harmoni.holdings import listing
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.live_index import LiveIndex
from harmoni.index import commitment, conflicts, ingest, jobs, lookup, packs, safe
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackRow, PackState
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.sealing import event
from harmoni.sealing.document import Json
from harmoni.sealing.manifest import Manifest
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What became of one study."""

    study_instance_uid: str
    packs: int
    """Packs that were let go of."""
    instances: int
    freed_bytes: int
    stayed: tuple[str, ...]
    """Why other packs of it stayed, a sentence each."""


class LetGo:
    """Lets go of one hospital's packs.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: reads manifests.
        index: the hospital's live index.
        events: where what was let go is recorded.
        safe_copies: verified copies elsewhere that every instance must have.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        keyring: Keyring,
        index: LiveIndex,
        events: EventRecorder,
        safe_copies: int,
    ) -> None:
        self._files = files
        self._layout = layout
        self._keyring = keyring
        self._index = index
        self._events = events
        self._safe_copies = safe_copies

    def studies(self) -> list[str]:
        """The studies that have a local copy, longest unused first."""
        with self._index.reader() as connection:
            return packs.studies_held(connection)

    def evict(self, study_instance_uid: str) -> Evicted:
        """Let go of every pack of a study that is safe elsewhere; say why others stay.

        Raises:
            NotHeld: there is no such study.
            OutOfResources, StorageFailed: what was not let go of is there as before.
        """
        with self._index.reader() as connection:
            wanted = packs.packs_of_study(connection, study_instance_uid)
        if not wanted:
            raise NotHeld(f"there is no study {study_instance_uid} here; see `harmoni study find`")
        gone, instances, freed_bytes, stayed = 0, 0, 0, []
        for row in wanted:
            if row.state in packs.NOT_HERE:
                continue
            with self._index.reader() as connection:
                held = lookup.members(connection, row.pack_id)
                why = self._why_not(connection, row, held)
            if why:
                stayed.append(f"pack {row.pack_id} {why}")
                continue
            try:
                freed_bytes += self._evict(row, study_instance_uid)
            except (Damaged, NotHeld) as error:
                stayed.append(f"pack {row.pack_id} cannot be read: {error}")
                continue
            instances += len(held)
            gone += 1
        return Evicted(
            study_instance_uid=study_instance_uid,
            packs=gone,
            instances=instances,
            freed_bytes=freed_bytes,
            stayed=tuple(stayed),
        )

    def complete(self) -> list[PackId]:
        """Remove what an interrupted eviction left: files of packs that are known as evicted."""
        with self._index.reader() as connection:
            evicted = packs.packs_in(connection, PackState.EVICTED)
        left = [
            row.pack_id
            for row in evicted
            if self._files.exists(self._layout.sealed_pack(row.pack_id))
        ]
        for pack_id in left:
            self._remove(pack_id)
        return left

    def _why_not(self, connection: Connection, row: PackRow, held: Iterable[Held]) -> str:
        """Why a pack must stay, or "" when it need not."""
        if row.state is not PackState.SEALED:
            return f"is {row.state}, not sealed"
        held = list(held)
        unsafe = [each for each in held if not self._is_safe(connection, each)]
        if unsafe:
            reasons = jobs.reasons(connection, unsafe[0].sop_instance_uid)
            told = f" (parked: {reasons[0]})" if reasons else ""
            return f"has {len(unsafe)} instances that are not committed elsewhere{told}"
        # The centre gives back one version of a UID, and it need not be the one that is here.
        several = any(_has_versions(connection, each) for each in held)
        reasons_to_stay = {
            "has instances that no retrieval can name": not all(map(_can_be_named, held)),
            "has instances that came in more than one version": several,
            "is not compared yet with other versions of what is in it": not conflicts.is_compared(
                connection, row.pack_id
            ),
            "has jobs that are not over": jobs.open_in(connection, row.pack_id) > 0,
            "is waited for by a commitment that is not reported": commitment.is_waited_for(
                connection, row.pack_id
            ),
        }
        return next((why for why, holds in reasons_to_stay.items() if holds), "")

    def _is_safe(self, connection: Connection, held: Held) -> bool:
        found = safe.find(connection, held.sop_instance_uid, held.identity)
        return found is not None and found.copies >= self._safe_copies

    def _evict(self, row: PackRow, study_instance_uid: str) -> int:
        """Record, then remove; returns the bytes that were freed."""
        assert row.sealed is not None
        with self._files.open(self._layout.sealed_pack(row.pack_id)) as file:
            sealed = listing.read(file, self._keyring)
            contents, key_id = sealed.manifest, sealed.public.key_id
        body: dict[str, Json] = {
            event.MANIFEST: _as_document(contents),
            "key": key_id,
            "pack": str(row.pack_id),
            "sha256": row.sealed.sha256.hex(),
            "size": row.sealed.size_bytes,
        }
        with self._index.write(durable=True) as connection:
            now = packs.pack(connection, row.pack_id)
            if now is None or now.state is not PackState.SEALED:
                # Erased, above all: what is told of it now would be told for ever.
                raise NotHeld("it is not what it was when it was looked at")
            fact = self._events.append(event.EVICTION, body, subject=study_instance_uid)
            ingest.record_facts(connection, [fact], self._index.terms)
        self._remove(row.pack_id)
        return row.sealed.size_bytes

    def _remove(self, pack_id: PackId) -> None:
        name = self._layout.sealed_pack(pack_id)
        with suppress(NotHeld):
            self._files.remove(name)
        self._files.sync_directory(name.rpartition("/")[0])


def _can_be_named(held: Held) -> bool:
    """Whether each of its unique keys is one UID, so that it can be asked for."""
    keys = (held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
    return all(map(uids.is_acceptable_uid, keys))


def _has_versions(connection: Connection, held: Held) -> bool:
    copies = lookup.versions(connection, held.sop_instance_uid)
    return any(copy.identity != held.identity for copy in copies)


def _as_document(contents: Manifest) -> dict[str, Json]:
    """A manifest as the JSON object that it is encoded as."""
    parsed: dict[str, Json] = json.loads(contents.encode())
    return parsed
