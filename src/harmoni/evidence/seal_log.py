"""One record per sealed pack, numbered without gaps per hospital and site of origin.

The records are the leaves of the later transparency log, so they are written from the first pack
on. A record holds no patient data. It is created whole and durable before the pack that it names
counts as sealed, and is never changed.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import AlreadyHeld, Damaged, NotHeld
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.sealing import document
from harmoni.sealing.pack import PackKind

VERSION: Final = 1
"""Of a record. Frozen."""
_SUFFIX: Final = ".json"
_CLOCK_MS: Final = 86_400_000
"""How far a clock may have been set between the opening of a pack and its sealing."""
_REMEMBERED: Final = 1 << 16
"""Records: more than any day has, or the oldest would go before it is asked for again."""
_FILE_NAME: Final = re.compile(r"[0-9]{12}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRecord:
    """What was sealed: docs/reference/pack-format.md, section 12."""

    kind: str
    """"instances" or "events"."""
    pack_id: PackId
    size_bytes: int
    sha256: bytes
    """SHA-256 of the whole file."""
    root: bytes
    """The pack root: a Merkle root over the salted hashes of what the pack holds."""
    sealed_at_ms: int


class SealLog:
    """The log of one hospital at one site.

    Args:
        files: the store.
        hospital: whose packs.
        site: where they were sealed.
    """

    def __init__(self, files: Filesystem, hospital: HospitalId, site: SiteId) -> None:
        self._files = files
        self._hospital = hospital
        self._site = site
        self._folder = f"log/{hospital}/{site}"
        files.make_directory(self._folder)
        names = self._names()
        # A guess that the create-only name corrects: listing a long log for each record is slow.
        self._next = int(names[-1].removesuffix(_SUFFIX)) + 1 if names else 0
        # A record never changes, and packs that a crash left are looked for in the same ones.
        self._remembered = lru_cache(_REMEMBERED)(self._decode)

    def append(self, record: SealRecord) -> int:
        """Write the next record, durable when this returns.

        Two sealers at once are serialised by create-only names: the loser takes the next number.

        Returns:
            The record's sequence number, from 0 on.
        """
        while True:
            sequence = self._next
            try:
                self._files.publish(self._name(sequence), self._encode(sequence, record))
            except AlreadyHeld:
                self._next = max(self._next, sequence + 1)
            else:
                self._next = max(self._next, sequence + 1)
                return sequence

    def find(self, pack_id: PackId) -> SealRecord | None:
        """The record of a pack, newest first; for a sealing that was interrupted.

        No further back than to records from before the pack was opened, since a crash leaves
        hundreds of packs without a record and a log has millions. Were a clock wrong by more than
        `_CLOCK_MS` just then, the pack would be recorded once more.
        """
        opened_ms = pack_id.time_ms
        for sequence in range(self.end() - 1, -1, -1):
            try:
                record = self._remembered(_file_name(sequence))
            except NotHeld:
                continue
            if record is None:
                continue
            if record.pack_id == pack_id:
                return record
            if record.sealed_at_ms < opened_ms - _CLOCK_MS:
                return None
        return None

    def end(self) -> int:
        """The number of the next record."""
        while self._files.exists(self._name(self._next)):
            self._next += 1
        return self._next

    def readable(self, first: int = 0) -> Iterator[SealRecord]:
        """Every record from a number on that can be read, whatever is missing between them."""
        for sequence in range(first, self.end()):
            with suppress(Damaged, NotHeld):
                if (record := self._decode(_file_name(sequence))) is not None:
                    yield record

    def records(self) -> Iterator[tuple[int, SealRecord]]:
        """The records of sealed packs in order; those of other kinds are counted only.

        Raises:
            Damaged: a number is missing or a record cannot be read.
        """
        for expected, name in enumerate(self._names()):
            if name != _file_name(expected):
                raise Damaged(
                    f"{self._folder}: record {expected} is missing; restore it from the other site"
                )
            if (record := self._decode(name)) is not None:
                yield expected, record

    def _names(self) -> list[str]:
        """The records; what somebody else has put beside them is none."""
        return [name for name in self._files.names(self._folder) if _FILE_NAME.fullmatch(name)]

    def _name(self, sequence: int) -> str:
        return f"{self._folder}/{_file_name(sequence)}"

    def _encode(self, sequence: int, record: SealRecord) -> bytes:
        return document.encode(
            {
                "hospital": str(self._hospital),
                "kind": record.kind,
                "pack": str(record.pack_id),
                "root": record.root.hex(),
                "sealed": document.time_text(record.sealed_at_ms),
                "sequence": sequence,
                "sha256": record.sha256.hex(),
                "site": str(self._site),
                "size": record.size_bytes,
                "version": VERSION,
            }
        )

    def _decode(self, name: str) -> SealRecord | None:
        """The record of a sealed pack; None if it is of a kind that is not known here."""
        fields = document.decode(self._files.read(f"{self._folder}/{name}"), name, VERSION)
        if (fields.hospital("hospital"), fields.site("site")) != (self._hospital, self._site):
            raise Damaged(f"{self._folder}/{name} is a record of another hospital or site")
        if _file_name(fields.number("sequence")) != name:
            raise Damaged(f"{self._folder}/{name} is a record of another number")
        kind = fields.text("kind")
        if kind not in tuple(PackKind):
            return None
        return SealRecord(
            kind=kind,
            pack_id=fields.pack_id("pack"),
            size_bytes=fields.number("size"),
            sha256=fields.digest("sha256"),
            root=fields.digest("root"),
            sealed_at_ms=fields.time_ms("sealed"),
        )


def _file_name(sequence: int) -> str:
    return f"{sequence:012d}{_SUFFIX}"
