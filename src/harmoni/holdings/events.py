"""Recording facts that no instance holds: into the store first, into the index second."""

import os
import threading
from collections.abc import Mapping
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.live_index import LiveIndex
from harmoni.index import ingest, lookup
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.runtime.clock import Clock
from harmoni.sealing import event, pack, streaming
from harmoni.sealing.document import Json
from harmoni.sealing.keys import KeyId
from harmoni.vault.keyring import Keyring
from harmoni.vault.pack_ids import PackIds
from harmoni.vault.writer import PackWriter

_FULL_BYTES: Final = 16 << 20
"""A pack of events is finished at this size: evictions carry manifests."""


class EventRecorder:
    """Writes a hospital's events into an event pack of this process.

    Events that name the same subject, a study, share a data key within a pack, and no other event
    has it: erasing the study drops that key and no other's.

    Args:
        files: the store.
        hospital: whose events.
        site: this site.
        keyring: gives keys.
        index: the hospital's live index.
        clock: the time.
        pack_ids: gives the pack's id.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        hospital: HospitalId,
        site: SiteId,
        keyring: Keyring,
        index: LiveIndex,
        clock: Clock,
        pack_ids: PackIds,
    ) -> None:
        self._files = files
        self._hospital = hospital
        self._site = site
        self._keyring = keyring
        self._index = index
        self._clock = clock
        self._pack_ids = pack_ids
        self._lock = threading.Lock()
        self._writer: PackWriter | None = None
        self._opened_s = 0.0
        self._subject_keys: dict[str, tuple[KeyId, bytes]] = {}

    def record(self, kind: str, body: Mapping[str, Json], *, subject: str) -> None:
        """Write one event, durable and indexed when this returns.

        Args:
            kind: which fact, such as "commitment" (docs/reference/pack-format.md).
            body: its fields.
            subject: the Study Instance UID of the study that it names, "" for none.

        Raises:
            OutOfResources, StorageFailed: nobody may rely on it. It may be recorded all the same,
                where only the index failed, so a second try can leave a second event.
        """
        fact = self.append(kind, body, subject=subject)
        with self._index.write(durable=True) as connection:
            ingest.record_facts(connection, [fact], self._index.terms)

    def record_of_held(self, kind: str, body: Mapping[str, Json], *, study: str) -> bool:
        """Write one event about a study of which rows are there, and none if it was erased.

        What is told of a study after its erasure would be told for ever.

        Args:
            kind: as for `record`.
            body: likewise.
            study: its Study Instance UID.

        Returns:
            Whether it was recorded.

        Raises:
            OutOfResources, StorageFailed: as `record`.
        """
        with self._index.write(durable=True) as connection:
            if not lookup.knows_study(connection, study):
                return False
            fact = self.append(kind, body, subject=study)
            ingest.record_facts(connection, [fact], self._index.terms)
        return True

    def append(self, kind: str, body: Mapping[str, Json], *, subject: str) -> ingest.Fact:
        """Write one event into the store alone; for who holds the index's write lock.

        Args:
            kind: as for `record`.
            body: likewise.
            subject: likewise.

        Returns:
            The fact, which the caller records in its transaction.

        Raises:
            OutOfResources, StorageFailed: as `record`.
        """
        told = event.Event(
            kind=kind,
            at_ms=self._clock.now_ms(),
            subject=subject,
            body=body,
            salt=os.urandom(event.SALT_BYTES),
        )
        with self._lock:
            writer = self._pack()
            key_id, data_key = self._subject_key(subject)
            sequence = writer.next_sequence()
            member = pack.encrypted_member(
                [told.encode()],
                name=pack.event_name(sequence, str(key_id)),
                mtime_s=told.at_ms // 1000,
                data_key=data_key,
                associated_data=pack.associated_data(
                    kind=pack.Kind.EVENT,
                    hospital=self._hospital,
                    pack_id=writer.pack_id,
                    sequence=sequence,
                ),
                salt=os.urandom(streaming.SALT_BYTES),
                nonce_prefix=os.urandom(streaming.NONCE_PREFIX_BYTES),
            )
            writer.append([member])
            writer.sync()
        return ingest.Fact(
            pack_id=writer.pack_id,
            sequence=sequence,
            kind=kind,
            at_ms=told.at_ms,
            subject=subject,
            body=body,
        )

    def retire(self, older_than_s: float = 0.0) -> None:
        """Let go of the event pack if it is that old, so that it is finished."""
        with self._lock:
            old = self._clock.monotonic_s() - self._opened_s >= older_than_s
            if self._writer is not None and (old or self._writer.fenced):
                self._writer.close()
                self._writer = None
                self._subject_keys = {}

    def _pack(self) -> PackWriter:
        full = self._writer is not None and self._writer.size_bytes >= _FULL_BYTES
        if self._writer is not None and (self._writer.fenced or full):
            self._writer.close()
            self._writer = None
        if self._writer is None:
            key_id, data_key = self._keyring.mint()
            self._subject_keys = {}
            self._opened_s = self._clock.monotonic_s()
            self._writer = PackWriter(
                files=self._files,
                hospital=self._hospital,
                site=self._site,
                pack_id=self._pack_ids.mint(),
                kind=pack.PackKind.EVENTS,
                key_id=key_id,
                data_key=data_key,
            )
        return self._writer

    def _subject_key(self, subject: str) -> tuple[KeyId, bytes]:
        key = self._subject_keys.get(subject)
        if key is None:
            key = self._subject_keys[subject] = self._keyring.mint()
        return key
