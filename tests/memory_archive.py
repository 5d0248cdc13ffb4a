"""An archive in a dictionary: the handlers of the services, for tests that need no disk."""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset

from harmoni.dicom import matching, uids
from harmoni.dicom.commitment_data import Reference
from harmoni.dicom.identifier import Query, QueryLevel, Universal
from harmoni.dicom.pdu import ProposedContext
from harmoni.model.errors import AlreadyHeld, Damaged, HarmoniError, InvalidInput
from harmoni.net.driver import Channel
from harmoni.policy.access import Peer
from harmoni.services.exchange import Outcome
from harmoni.services.provider import Handlers
from harmoni.services.storage_commitment import Report

UNIQUE_KEYS = {
    QueryLevel.PATIENT: 0x0010_0020,
    QueryLevel.STUDY: 0x0020_000D,
    QueryLevel.SERIES: 0x0020_000E,
    QueryLevel.IMAGE: 0x0008_0018,
}
CHUNK_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One held instance."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes
    damaged_at: int | None = None
    """Offset at which reading it fails."""

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def wait(self, _timeout_s: float) -> bool:
        return True

    def open(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), CHUNK_BYTES):
            if self.damaged_at is not None and self.damaged_at < start + CHUNK_BYTES:
                raise Damaged("a bit has flipped")
            yield self.data[start : start + CHUNK_BYTES]

    def dataset(self) -> Dataset:
        syntax = uids.storage_transfer_syntax(self.transfer_syntax_uid)
        assert syntax is not None
        return read_dataset(
            BytesIO(self.data), not syntax.explicit_vr, syntax.little_endian, stop_when=_at_pixels
        )

    def value(self, tag: int) -> str:
        element = self.dataset().get(tag)
        if element is None or element.value is None:
            return ""
        if isinstance(element.value, (list, tuple)) or element.VM > 1:
            return "\\".join(map(str, element.value))
        return str(element.value)


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag >= 0x7FE0_0000


class MemoryIncoming:
    """An instance on its way into the dictionary."""

    def __init__(self, archive: "MemoryArchive", facts: dict[str, str]) -> None:
        self._archive = archive
        self._facts = facts
        self._memory = bytearray(1 << 17)
        self._data = bytearray()

    def reserve(self, wanted: int) -> memoryview:
        return memoryview(self._memory)[:wanted]

    def commit(self, count: int) -> None:
        if self._archive.fail_in_the_middle is not None:
            raise self._archive.fail_in_the_middle
        self._data += self._memory[:count]

    def finish(self) -> None:
        stored = Stored(data=bytes(self._data), **self._facts)
        if stored.value(0x0008_0018) != stored.sop_instance_uid:
            raise InvalidInput("the data set names another instance than the command")
        self._archive.keep(stored)

    def abandon(self) -> None:
        self._archive.abandoned += 1


@dataclass(slots=True)
class MemoryArchive:
    """All acts of one hospital, for one requester."""

    instances: dict[str, Stored] = field(default_factory=dict)
    destinations: dict[str, Peer] = field(default_factory=dict)
    transactions: dict[str, tuple[Reference, ...]] = field(default_factory=dict)
    answered_reports: list[Report] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    abandoned: int = 0
    refuse_begin: HarmoniError | None = None
    fail_in_the_middle: HarmoniError | None = None
    fail_find: HarmoniError | None = None
    endless: bool = False
    """Repeat the matches of a query for ever."""
    closed_searches: int = 0
    connect_to: object = None
    """Called with destination and contexts; gives a channel or raises."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def handlers(self, *, may_browse: bool = True, max_answers: int = 1000) -> Handlers:
        return Handlers(
            storage=self,
            find=self,
            retrieve=self,
            commitment=self,
            ae_title="HARMONI",
            may_browse=may_browse,
            performed=self._performed,
            max_answers=max_answers,
        )

    def _performed(self, outcome: Outcome) -> None:
        with self.changed:
            self.outcomes.append(outcome)
            self.changed.notify_all()

    def keep(self, stored: Stored) -> None:
        self.instances[stored.sop_instance_uid] = stored

    def begin(self, **facts: str) -> MemoryIncoming:
        if self.refuse_begin is not None:
            raise self.refuse_begin
        return MemoryIncoming(self, facts)

    def supports(self, query: Query) -> bool:
        return all(key.vr != "SQ" for key in query.keys)

    def find(self, query: Query) -> Generator[Mapping[int, str], None, None]:
        try:
            yield from self._find(query)
            while self.endless:
                yield from self._find(query)
            if self.fail_find is not None:
                raise self.fail_find
        finally:
            self.closed_searches += 1

    def _find(self, query: Query) -> Generator[Mapping[int, str], None, None]:
        seen: set[str] = set()
        for stored in self._matching(query):
            unique = stored.value(UNIQUE_KEYS[query.level])
            if unique not in seen:
                seen.add(unique)
                yield {key.tag: stored.value(key.tag) for key in query.keys}

    def plan(
        self,
        query: Query,
        destination: Peer | None = None,  # noqa: ARG002 - wherever it goes
    ) -> Sequence[Stored]:
        return list(self._matching(query))

    def _matching(self, query: Query) -> Iterator[Stored]:
        for stored in list(self.instances.values()):
            if all(
                isinstance(key.match, Universal)
                or matching.matches(key.match, stored.value(key.tag), key.vr)
                for key in query.keys
            ):
                yield stored

    def destination(self, ae_title: str) -> Peer | None:
        return self.destinations.get(ae_title)

    def connect(self, destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        return self.connect_to(destination, contexts)

    def request(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        known = self.transactions.setdefault(transaction_uid, tuple(references))
        if known != tuple(references):
            raise AlreadyHeld(f"transaction {transaction_uid} has other content")

    def reports(self) -> Sequence[Report]:
        done = {report.transaction_uid for report in self.answered_reports}
        return [
            Report(
                transaction_uid=transaction_uid,
                committed=tuple(r for r in references if r.sop_instance_uid in self.instances),
                failed=tuple(
                    Reference(
                        sop_class_uid=r.sop_class_uid,
                        sop_instance_uid=r.sop_instance_uid,
                        failure_reason=0x0112,
                    )
                    for r in references
                    if r.sop_instance_uid not in self.instances
                ),
            )
            for transaction_uid, references in self.transactions.items()
            if transaction_uid not in done
        ]

    def answered(self, report: Report) -> None:
        with self.changed:
            self.answered_reports.append(report)
            self.changed.notify_all()
