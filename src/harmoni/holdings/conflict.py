"""Conflicts: another object under a SOP Instance UID that is held already.

Both versions are kept, and nobody is told so on the wire. What differs is found out here, once a
pair of versions is sealed: the keeper compares them and records an event, so that people can
choose. Only bytes are compared: of a compressed and a native version nothing more is told than
that the transfer syntax differs.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from harmoni.dicom import uids
from harmoni.dicom.scanner import Scanner
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.live_index import LiveIndex
from harmoni.index import conflicts
from harmoni.index.conflicts import Pair
from harmoni.index.lookup import Held
from harmoni.model.errors import Damaged, HarmoniError, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.runtime.clock import Clock
from harmoni.sealing import event
from harmoni.sealing.document import Json

_LAST_BEFORE_PIXELS: Final = 0x7FDF_FFFF
_COMPARABLE: Final = {uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN}
"""Native little endian: the value of the pixels is the same in both."""
_PAUSE_S: Final = 60.0


class Difference(StrEnum):
    """What two versions of one SOP Instance differ in."""

    SYNTAX = "syntax"
    """The transfer syntax, and of the pixels nothing can be told or they are the same; a sender
    that decompresses makes these by the thousand."""
    HEADER = "header"
    """Something before the pixels, or anything in an object without group 7FE0."""
    PIXELS = "pixels"
    """The bytes from the value of the first element of group 7FE0 on, or what cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The instances of one study that one source sent in another version, differing alike."""

    study_instance_uid: str
    source: str
    """The calling AE title that sent the version which came second."""
    difference: Difference
    pairs: tuple[Pair, ...]


class Conflicts:
    """Finds out what the versions of one hospital's instances differ in.

    Args:
        index: the hospital's live index.
        events: where a conflict is recorded.
        recall: gives the data set of a held copy, verified.
        clock: the time.

    Attributes:
        failures: the packs that could not be compared, and why.
    """

    def __init__(
        self,
        *,
        index: LiveIndex,
        events: EventRecorder,
        recall: Callable[[Held], Iterator[memoryview]],
        clock: Clock,
    ) -> None:
        self._index = index
        self._events = events
        self._recall = recall
        self._clock = clock
        self._again_s: dict[PackId, float] = {}
        self.failures: dict[PackId, str] = {}

    def compare(self, budget_s: float) -> Iterator[Conflict]:
        """Compare the sealed packs that wait for it with what was compared before them.

        Called every second by the keeper. A pack that cannot be compared is tried again a minute
        later; `failures` says why.

        Args:
            budget_s: no further pack is begun after so long; it waits for the next call.

        Yields:
            Each conflict, before it is recorded: after a crash in between it comes again, since an
            alarm given twice is better than one that is not given.
        """
        until_s = self._clock.monotonic_s() + budget_s
        with self._index.reader() as connection:
            waiting = conflicts.waiting(connection)
        self._again_s = {key: at_s for key, at_s in self._again_s.items() if key in waiting}
        self.failures = {key: why for key, why in self.failures.items() if key in waiting}
        for pack_id in waiting:
            now_s = self._clock.monotonic_s()
            if now_s > until_s:
                return
            if now_s < self._again_s.get(pack_id, now_s):
                continue
            try:
                yield from self._compare(pack_id)
            except HarmoniError as error:
                self._again_s[pack_id] = now_s + _PAUSE_S
                self.failures[pack_id] = f"not compared: {error.code} {error}"
            else:
                self.failures.pop(pack_id, None)

    def _compare(self, pack_id: PackId) -> Iterator[Conflict]:
        with self._index.reader() as connection:
            pairs = conflicts.pairs(connection, pack_id)
        for conflict in self._by_difference(pairs):
            yield conflict
            body = _body(conflict, pack_id)
            self._events.record_of_held(event.CONFLICT, body, study=conflict.study_instance_uid)
        with self._index.write() as connection:
            conflicts.compared(connection, [pack_id])

    def digest(self, from_ms: int, until_ms: int) -> dict[str, Counter[Difference]]:
        """How many instances each source sent in another version: source, difference, count."""
        with self._index.reader() as connection:
            rows = conflicts.counts(connection, from_ms, until_ms)
        digest: dict[str, Counter[Difference]] = {}
        for source, difference, count in rows:
            digest.setdefault(source, Counter())[Difference(difference)] = count
        return digest

    def _by_difference(self, pairs: Iterable[Pair]) -> list[Conflict]:
        grouped: dict[tuple[str, str, Difference], list[Pair]] = {}
        for pair in pairs:
            key = (
                pair.held.study_instance_uid,
                pair.held.origin.calling_ae_title,
                self._difference(pair),
            )
            grouped.setdefault(key, []).append(pair)
        return [
            Conflict(
                study_instance_uid=study, source=source, difference=difference, pairs=tuple(same)
            )
            for (study, source, difference), same in grouped.items()
        ]

    def _difference(self, pair: Pair) -> Difference:
        syntaxes = {copy.identity.transfer_syntax_uid for copy in (pair.before, pair.held)}
        if len(syntaxes) > 1 and not syntaxes <= _COMPARABLE:
            return Difference.SYNTAX
        try:
            before, now = (self._pixels(copy) for copy in (pair.before, pair.held))
        except (Damaged, NotHeld):
            # Flagged by recalling it. What cannot be compared counts as the worst.
            return Difference.PIXELS
        if now is None or before != now:
            return Difference.PIXELS
        return Difference.SYNTAX if len(syntaxes) > 1 else Difference.HEADER

    def _pixels(self, copy: Held) -> bytes | None:
        """The SHA-256 of a data set from its pixels on; None if they cannot be told apart."""
        syntax = uids.storage_transfer_syntax(copy.identity.transfer_syntax_uid)
        if syntax is None or syntax.deflated:
            return None
        return pixels_sha256(self._recall(copy), syntax)


def _body(conflict: Conflict, pack_id: PackId) -> dict[str, Json]:
    return {
        "difference": conflict.difference.value,
        "instances": [
            {
                "before": pair.before.identity.sha256.hex(),
                "sha256": pair.held.identity.sha256.hex(),
                "sop_instance_uid": pair.held.sop_instance_uid,
            }
            for pair in conflict.pairs
        ],
        "pack": str(pack_id),
        "source": conflict.source,
        "study_instance_uid": conflict.study_instance_uid,
    }


def pixels_sha256(chunks: Iterable[memoryview], syntax: uids.TransferSyntax) -> bytes | None:
    """Hash a data set from the value of its first element of group 7FE0 on.

    (PS3.5 7.1: pixels come last.) The header of that element does not count, so that native pixels
    are the same in implicit and explicit VR.

    Args:
        chunks: the data set, cut anywhere.
        syntax: its transfer syntax; not a deflated one.

    Returns:
        The SHA-256, that of nothing where there is no such element; None where the elements
        before it cannot be read.
    """
    scanner = Scanner(syntax, last_tag=_LAST_BEFORE_PIXELS)
    digest = hashlib.sha256()
    position = 0
    for chunk in chunks:
        scanner.feed(chunk)
        if scanner.stopped_at is not None:
            # A value begins in the chunk in which its header ends, or right behind that chunk.
            digest.update(chunk[max(0, scanner.stopped_at - position) :])
        position += len(chunk)
    return None if scanner.broken else digest.digest()
