"""What the centre has: its answers to queries, and lists of instances to plan a retrieval from.

Between our own nodes an image's answer tells its transfer syntax and the hash of its data set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from harmoni.dicom import identifier, status, uids
from harmoni.dicom.identifier import (
    DATASET_SHA256,
    Key,
    Query,
    QueryLevel,
    Single,
    UidList,
    Universal,
)
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.status import Category, Status
from harmoni.gateway.centre import Centre
from harmoni.index.find import (
    AVAILABLE_TRANSFER_SYNTAX_UID,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
)
from harmoni.model.errors import HarmoniError, OutOfResources, Refused, Unreachable
from harmoni.model.header import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from harmoni.net.driver import Channel
from harmoni.runtime.clock import Clock
from harmoni.services import acceptance, exchange, find

_CLASS_OF_ROOT: Final = {"PATIENT": uids.PATIENT_ROOT_FIND, "STUDY": uids.STUDY_ROOT_FIND}
_CONTEXTS: Final = tuple(
    ProposedContext(2 * number + 1, sop_class, acceptance.SERVICE_SYNTAXES)
    for number, sop_class in enumerate(_CLASS_OF_ROOT.values())
)
_RELEASE_S: Final = 1.0
_MOST: Final = 100_000
"""Answers that one question of ours may have: a patient's studies, a series' images."""

Values = Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One instance that the centre has."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: bytes | None
    """Of the data set; None from a centre that does not tell it."""
    size_bytes: int = 0
    """Of the data set; 0 where it is not known."""

    @property
    def pair(self) -> tuple[str, str]:
        """SOP class and transfer syntax, which need a presentation context of their own."""
        return self.sop_class_uid, self.transfer_syntax_uid


class Catalogue:
    """Asks the centre on one association.

    Args:
        channel: with contexts for C-FIND.
        clock: measures the time.
        timeout_s: how long the centre may be silent.
    """

    def __init__(self, channel: Channel, clock: Clock, timeout_s: float) -> None:
        self._channel = channel
        self._clock = clock
        self._timeout_s = timeout_s
        self._message_id = 0

    def answers(self, query: Query, most: int = _MOST) -> list[dict[int, str]]:
        """What the centre answers to a query, tag to text.

        Args:
            query: what is asked.
            most: beyond so many the centre is told to stop, and more than `most` come back.

        Raises:
            AssociationEnded, Unreachable: it did not answer in time, or cannot at the moment.
            OutOfResources: it has more matches than it tells.
            Refused: it may not be asked that.
        """
        sop_class = _CLASS_OF_ROOT[query.root]
        context = exchange.context_for(self._channel, sop_class)
        self._message_id += 1
        result = find.find(
            self._channel,
            identifier.encode_query(query, context.transfer_syntax),
            sop_class_uid=sop_class,
            message_id=self._message_id,
            max_answers=most + 1,
            timeout_s=self._timeout_s,
            clock=self._clock,
        )
        number = exchange.status_in(result.final)
        if number == Status.OUT_OF_RESOURCES and len(result.answers) <= most:
            raise OutOfResources("the centre has more matches than it tells: ask for less")
        if number == Status.NOT_AUTHORIZED:
            raise Refused("the gateway may not ask the centre that: extend its rights there")
        if status.category(number) is not Category.SUCCESS and len(result.answers) <= most:
            raise Unreachable(
                f"the centre could not answer a query ({number:04X}); ask again later"
            )
        return [
            identifier.parse_answer(answer, result.transfer_syntax) for answer in result.answers
        ]

    def counts_of_studies(self, study_uids: Sequence[str]) -> dict[str, int]:
        """How many instances the centre has of each study; those it does not know are left out."""
        return self._counts(
            Query(
                root="STUDY",
                level=QueryLevel.STUDY,
                keys=(
                    _uids(STUDY_INSTANCE_UID, study_uids),
                    Key(NUMBER_OF_STUDY_RELATED_INSTANCES, "IS", Universal()),
                ),
            ),
            STUDY_INSTANCE_UID,
            NUMBER_OF_STUDY_RELATED_INSTANCES,
        )

    def counts_of_patient(self, patient_id: str) -> dict[str, int]:
        """The studies that the centre has of a patient, and how many instances of each."""
        return self._counts(
            Query(
                root="PATIENT",
                level=QueryLevel.STUDY,
                keys=(
                    Key(PATIENT_ID, "LO", Single(patient_id)),
                    Key(STUDY_INSTANCE_UID, "UI", Universal()),
                    Key(NUMBER_OF_STUDY_RELATED_INSTANCES, "IS", Universal()),
                ),
            ),
            STUDY_INSTANCE_UID,
            NUMBER_OF_STUDY_RELATED_INSTANCES,
        )

    def counts_of_series(
        self, study_uid: str, series_uids: Sequence[str] | None = None
    ) -> dict[str, int]:
        """How many instances the centre has of each series of a study, or of some of them."""
        return self._counts(
            Query(
                root="STUDY",
                level=QueryLevel.SERIES,
                keys=(
                    Key(STUDY_INSTANCE_UID, "UI", Single(study_uid)),
                    _uids(SERIES_INSTANCE_UID, series_uids or ()),
                    Key(NUMBER_OF_SERIES_RELATED_INSTANCES, "IS", Universal()),
                ),
            ),
            SERIES_INSTANCE_UID,
            NUMBER_OF_SERIES_RELATED_INSTANCES,
        )

    def series(self, study_uid: str, series_uid: str) -> list[Listed]:
        """Every instance that the centre has of a series."""
        query = Query(
            root="STUDY",
            level=QueryLevel.IMAGE,
            keys=(
                Key(STUDY_INSTANCE_UID, "UI", Single(study_uid)),
                Key(SERIES_INSTANCE_UID, "UI", Single(series_uid)),
                Key(SOP_INSTANCE_UID, "UI", Universal()),
                Key(SOP_CLASS_UID, "UI", Universal()),
                Key(AVAILABLE_TRANSFER_SYNTAX_UID, "UI", Universal()),
            ),
            wants_sha256=True,
        )
        return [
            Listed(
                study_instance_uid=study_uid,
                series_instance_uid=series_uid,
                sop_class_uid=answer.get(SOP_CLASS_UID, ""),
                sop_instance_uid=answer.get(SOP_INSTANCE_UID, ""),
                transfer_syntax_uid=answer.get(AVAILABLE_TRANSFER_SYNTAX_UID, ""),
                sha256=bytes.fromhex(answer.get(DATASET_SHA256, "")) or None,
            )
            for answer in self.answers(query)
        ]

    def _counts(self, query: Query, key: int, count: int) -> dict[str, int]:
        return {
            answer[key]: int(answer.get(count) or 0)
            for answer in self.answers(query)
            if answer.get(key)
        }


@contextmanager
def catalogue(centre: Centre, clock: Clock, timeout_s: float) -> Iterator[Catalogue]:
    """Ask the centre for the length of a with block.

    Args:
        centre: opens the association.
        clock: measures the time.
        timeout_s: for the connection, and how long the centre may be silent then.

    Raises:
        Unreachable: there is nobody, or somebody else.
        HarmoniError: what is raised in the block; `AssociationEnded` where the centre went away.
    """
    try:
        channel = centre.open(_CONTEXTS, timeout_s=timeout_s)
    except HarmoniError as error:
        # Whoever answers there and is not the centre: the centre is away.
        raise Unreachable(f"the centre cannot be asked: {error}") from error
    try:
        yield Catalogue(channel, clock, timeout_s)
    except BaseException:
        channel.abort()
        raise
    channel.release(_RELEASE_S)


def _uids(tag: int, wanted: Iterable[str]) -> Key:
    several = tuple(wanted)
    if not several:
        return Key(tag, "UI", Universal())
    return Key(tag, "UI", Single(several[0]) if len(several) == 1 else UidList(several))
