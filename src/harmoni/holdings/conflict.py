"""Conflicts: another object under a SOP Instance UID that is held already.

Both versions are kept, and nobody is told so on the wire. What differs is found out here, once a
pair of versions is sealed: the keeper compares them and records an event, so that people can choose
and the pixels of a patient never change unseen.
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
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.sealing.document import Json

KIND: Final = "conflict"
"""The kind of event."""
_LAST_BEFORE_PIXELS: Final = 0x7FDF_FFFF
_LONGEST_HEADER_BYTES: Final = 12
_DAY_MS: Final = 86_400_000


class Difference(StrEnum):
    """What two versions of one SOP Instance differ in."""

    SYNTAX = "syntax"
    """The transfer syntax; a sender that decompresses makes these by the thousand."""
    HEADER = "header"
    """Something before the pixels, or in an object that has none."""
    PIXELS = "pixels"
    """The bytes from the first element of group 7FE0 on, or more than could be told apart."""


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
    """

    def __init__(
        self,
        *,
        index: LiveIndex,
        events: EventRecorder,
        recall: Callable[[Held], Iterator[memoryview]],
    ) -> None:
        self._index = index
        self._events = events
        self._recall = recall

    def look(self, pack_id: PackId) -> Iterator[Conflict]:
        """Compare what a sealed pack holds with what was sealed before it, and record it.

        Yields:
            Each conflict once it is recorded; what was before is passed over.

        Raises:
            OutOfResources, StorageFailed: it is not recorded; look again.
        """
        with self._index.reader() as connection:
            pairs = conflicts.pairs(connection, pack_id)
            # From a day before, since clocks are set back.
            since_ms = pack_id.time_ms - _DAY_MS
            known = conflicts.recorded(connection, KIND, pack_id, since_ms) if pairs else []
        for conflict in self._by_difference(pairs):
            body = _body(conflict, pack_id)
            if body not in known:
                self._events.record(KIND, body, subject=conflict.study_instance_uid)
                yield conflict

    def look_again(self) -> Iterator[Conflict]:
        """Look at what was sealed in the last day before the newest seal.

        Called at start: the keeper before may have died between a seal and its look.
        """
        with self._index.reader() as connection:
            lately = conflicts.lately_sealed(connection, within_ms=_DAY_MS)
        for pack_id in lately:
            yield from self.look(pack_id)

    def digest(self, from_ms: int, until_ms: int) -> dict[str, Counter[Difference]]:
        """How many instances each source sent in another version: source, difference, count."""
        with self._index.reader() as connection:
            rows = conflicts.counts(connection, KIND, from_ms, until_ms)
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
        if len(syntaxes) > 1:
            return Difference.SYNTAX
        try:
            before, now = (self._pixels(copy) for copy in (pair.before, pair.held))
        except (Damaged, NotHeld):
            # Flagged by recalling it. What cannot be compared counts as the worst.
            return Difference.PIXELS
        return Difference.HEADER if before == now is not None else Difference.PIXELS

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
    """Hash a data set from its first element of group 7FE0 on (PS3.5 7.1: they come last).

    Args:
        chunks: the data set, cut anywhere.
        syntax: its transfer syntax; not a deflated one.

    Returns:
        The SHA-256, that of nothing where there is no such element; None where the elements
        before it cannot be read.
    """
    scanner = Scanner(syntax, last_tag=_LAST_BEFORE_PIXELS)
    digest = hashlib.sha256()
    position, kept, found = 0, b"", False
    for chunk in chunks:
        if found:
            digest.update(chunk)
            continue
        scanner.feed(chunk)
        if scanner.stopped_at is not None:
            found = True
            # The element's header may have begun in the chunk before.
            digest.update((kept + chunk)[scanner.stopped_at - position + len(kept) :])
        kept = bytes((kept + chunk)[-_LONGEST_HEADER_BYTES:])
        position += len(chunk)
    return None if scanner.broken else digest.digest()
