"""What a rebuilt index takes over from the old one and from the log: what the packs do not tell.

That is packs and members that are lost or cannot be read, and which packs were let go of or are
damaged. Nothing that was acknowledged is forgotten for being unreadable at the moment.
"""

import json
from collections.abc import Iterable

from harmoni.backends.filesystem import Filesystem
from harmoni.evidence.seal_log import SealRecord
from harmoni.index import copies, ingest, lookup, packs
from harmoni.index.database import Connection, Database
from harmoni.index.packs import PackState
from harmoni.model.identifiers import PackId
from harmoni.sealing.pack import PackKind
from harmoni.vault.layout import Layout


def as_logged(record: SealRecord) -> packs.SealedPack:
    """What a pack must be, by its record in the seal log."""
    return packs.SealedPack(
        pack_id=record.pack_id,
        kind=PackKind(record.kind),
        size_bytes=record.size_bytes,
        sha256=record.sha256,
        root=record.root,
        sealed_at_ms=record.sealed_at_ms,
    )


class TakeOver:
    """One rebuild's.

    Args:
        files: the store.
        layout: the hospital's names.
        terms: of the hospital, without a destination: jobs are taken over elsewhere.
    """

    def __init__(self, *, files: Filesystem, layout: Layout, terms: ingest.Terms) -> None:
        self._files = files
        self._layout = layout
        self._terms = terms
        self.missing: list[str] = []
        """Packs that the log or the old index knows and that are not there."""
        self.damaged = 0
        """Acknowledged members that could not be read; their rows are there, and flagged."""

    def take_over(self, old: Connection, fresh: Database) -> None:
        """Keep what the old index knows and the store does not tell."""
        known = copies.counts(old)
        with fresh.reader() as connection:
            found = copies.counts(connection)
        told = {row.pack_id for row in packs.packs_in(old, PackState.EVICTED)}
        told.update(row.pack_id for row in packs.packs_in(old, PackState.DAMAGED))
        told.update(copies.damaged_packs(old))
        for pack_id, count in known.items():
            if count != found.get(pack_id, 0) or pack_id in told:
                self._take_over_pack(old, fresh, pack_id)

    def name_missing(self, fresh: Database, records: Iterable[SealRecord]) -> None:
        """Note every pack of the log that nobody has found: its instances are asked for again."""
        # Of a million records hardly any is new: a transaction for each would take minutes.
        with fresh.reader() as connection:
            unknown = [each for each in records if packs.pack(connection, each.pack_id) is None]
        for record in unknown:
            with fresh.write() as connection:
                packs.sealed(connection, as_logged(record))
                state = PackState.DAMAGED if self._is_there(record.pack_id) else PackState.MISSING
                packs.set_state(connection, record.pack_id, state)
            if state is PackState.MISSING:
                self.missing.append(str(record.pack_id))

    def _take_over_pack(self, old: Connection, fresh: Database, pack_id: PackId) -> None:
        row = packs.pack(old, pack_id)
        assert row is not None
        is_there = self._is_there(pack_id)
        with fresh.write() as connection:
            told = packs.pack(connection, pack_id)
            if told is not None and told.state is PackState.ERASED:
                return  # the old index is older than its erasure
            found = {held.location: held.identity for held in lookup.members(connection, pack_id)}
            lost = [
                (held, instance)
                for held, instance in copies.instances(old, pack_id)
                if found.get(held.location) != held.identity or held.damaged
            ]
            if packs.pack(connection, pack_id) is None:
                self._note_unread(connection, row, is_there=is_there)
            elif row.sealed is not None and _is_unsealed(connection, pack_id):
                # Its tail cannot be read: what it must be stands in the old index.
                packs.sealed(connection, row.sealed)
                packs.set_state(connection, pack_id, PackState.DAMAGED)
            if row.state in packs.LET_GO or (row.state is PackState.DAMAGED and is_there):
                packs.set_state(connection, pack_id, row.state)
            ingest.record(connection, [instance for _, instance in lost], self._terms)
            ingest.record_facts(connection, _facts(old, pack_id), self._terms)
            if is_there:
                for held, _ in lost:
                    packs.flag_damaged(connection, held.sop_instance_uid, held.location)
                self.damaged += len(lost)

    def _note_unread(self, connection: Connection, row: packs.PackRow, *, is_there: bool) -> None:
        """Note a pack of which nothing could be read: its file is damaged, or missing."""
        packs.opened(connection, row.pack_id, row.kind)
        if row.sealed is not None:
            packs.sealed(connection, row.sealed)
        state = PackState.DAMAGED
        if not is_there and row.state not in packs.LET_GO:
            state = PackState.MISSING
            self.missing.append(str(row.pack_id))
        packs.set_state(connection, row.pack_id, state)

    def _is_there(self, pack_id: PackId) -> bool:
        return any(map(self._files.exists, self._layout.places_of_pack(pack_id)))


def _facts(connection: Connection, pack_id: PackId) -> list[ingest.Fact]:
    return [
        ingest.Fact(
            pack_id=pack_id,
            sequence=sequence,
            kind=kind,
            at_ms=at_ms,
            subject=subject,
            body=json.loads(body),
        )
        for sequence, kind, at_ms, subject, body in packs.facts(connection, pack_id)
    ]


def _is_unsealed(connection: Connection, pack_id: PackId) -> bool:
    """Whether an index knows a pack, but not what was sealed."""
    row = packs.pack(connection, pack_id)
    return row is not None and row.sealed is None and row.state is PackState.DAMAGED
