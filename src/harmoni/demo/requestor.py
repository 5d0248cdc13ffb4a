"""What a hospital's systems ask: store, commit, find, get, move; each on an own association.

A PACS asks its gateway, in clear text in its house. To show that no hospital reaches another's, the
archive is asked as well, over DICOM TLS with a hospital's certificate.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from harmoni.demo.receiver import Received, Receiver
from harmoni.demo.samples import Sample
from harmoni.demo.system import Centre, House
from harmoni.dicom import identifier, status, uids
from harmoni.dicom.commitment_data import CommitmentReport, Reference
from harmoni.dicom.dimse import Command
from harmoni.dicom.identifier import Key, Query, QueryLevel, Single, Universal
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import ProposedContext
from harmoni.model.errors import InvalidInput, Transient, Unreachable
from harmoni.model.header import STUDY_INSTANCE_UID
from harmoni.net import client, tls
from harmoni.net.driver import Channel
from harmoni.runtime.clock import Clock
from harmoni.services import (
    exchange,
    find,
    get,
    move,
    storage_commitment,
    storage_scu,
)

# Half of the 128 that one association can have: room for the roles as well.
_MOST_PAIRS: Final = 64
_MOST_REFERENCES: Final = 500
_CONNECT_S: Final = 10.0
_RELEASE_S: Final = 10.0
_RETRY_S: Final = 0.2
_PATIENCE_S: Final = 60.0
COMMITMENT_S: Final = 120.0
_RELATED_INSTANCES: Final = 0x0020_1208  # Number of Study Related Instances
_SERVICE_SYNTAXES: Final = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Who is asked, and by whom.

    Attributes:
        host: where.
        port: its TCP port.
        ae_title: who is called.
        calling_ae_title: who calls.
        tls_files: the caller's identity; None in clear text.
    """

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    tls_files: tls.TLSFiles | None


def gateway_of(house: House) -> Endpoint:
    """A house's gateway, as its PACS calls it."""
    return Endpoint(
        host=house.gateway.listen.host,
        port=house.gateway.listen.port,
        ae_title=house.gateway.gateway.ae_title,
        calling_ae_title=house.peers[0].ae_title,
        tls_files=None,
    )


def archive_of(centre: Centre, house: House) -> Endpoint:
    """The archive, as somebody with a house's certificate calls it."""
    return Endpoint(
        host=centre.archive.listen.host,
        port=centre.archive.listen.port,
        ae_title=centre.archive.archive.ae_title,
        calling_ae_title=house.gateway.gateway.ae_title,
        tls_files=house.tls_files,
    )


class Requestor:
    """One side of a conversation.

    Args:
        endpoint: who is asked.
        clock: measures waits.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._pause = threading.Event()

    def store(
        self, samples: Sequence[Sample], stored: Callable[[Sample], None]
    ) -> Mapping[str, str]:
        """Send every sample, again if its association ends before it was answered.

        Args:
            samples: what to send.
            stored: called after each success.

        Returns:
            Why, by SOP Instance UID, for each that was refused.

        Raises:
            Unreachable: nothing was taken for a minute.
        """
        refused: dict[str, str] = {}
        for batch in _batches(samples):
            waiting = list(reversed(batch))
            deadline_s = self._clock.monotonic_s() + _PATIENCE_S
            while waiting:
                before = len(waiting)
                try:
                    self._store_some(waiting, refused, stored)
                except Transient as error:
                    # Nobody told us that the rest is safe, so it is sent again.
                    now_s = self._clock.monotonic_s()
                    deadline_s = now_s + _PATIENCE_S if len(waiting) < before else deadline_s
                    if now_s > deadline_s:
                        raise Unreachable(f"nothing is taken any more: {error}") from error
                    self._pause.wait(_RETRY_S)
        return refused

    def _store_some(
        self,
        waiting: list[Sample],
        refused: dict[str, str],
        stored: Callable[[Sample], None],
    ) -> None:
        pairs = dict.fromkeys(sample.pair for sample in waiting)
        with self._association(storage_scu.contexts_of(pairs)) as channel:
            message_id = 0
            while waiting:
                sample = waiting[-1]
                context = storage_scu.find_context(channel, *sample.pair)
                if context is None:
                    refused[sample.sop_instance_uid] = "its presentation context was not accepted"
                else:
                    message_id = message_id % 0xFFFF + 1
                    answer = storage_scu.store(
                        channel,
                        context,
                        sop_instance_uid=sample.sop_instance_uid,
                        data_set=sample.chunks(),
                        message_id=message_id,
                    )
                    if _succeeded(answer):
                        stored(sample)
                    else:
                        refused[sample.sop_instance_uid] = _reason(answer)
                waiting.pop()

    def commit(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """Ask for storage commitment of every sample and wait for the reports.

        Returns:
            Why, by SOP Instance UID, for each that was not committed.
        """
        failed: dict[str, str] = {}
        for start in range(0, len(samples), _MOST_REFERENCES):
            failed |= self._commit(samples[start : start + _MOST_REFERENCES])
        return failed

    def _commit(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        references = [
            Reference(
                sop_class_uid=sample.sop_class_uid,
                sop_instance_uid=sample.sop_instance_uid,
                sha256=sample.sha256,
            )
            for sample in samples
        ]
        missing = {sample.sop_instance_uid: "no report came" for sample in samples}
        with self._association(_service(uids.STORAGE_COMMITMENT_PUSH)) as channel:
            answer = storage_commitment.request_commitment(channel, transaction_uid, references)
            if not _succeeded(answer):
                return dict.fromkeys(missing, _reason(answer))
            deadline_s = self._clock.monotonic_s() + COMMITMENT_S
            reports: dict[str, CommitmentReport] = {}

            def keep(report: CommitmentReport) -> None:
                reports[report.transaction_uid] = report

            while transaction_uid not in reports:
                left_s = deadline_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return missing
                storage_commitment.receive_report(channel, timeout_s=left_s, keep=keep)
        report = reports[transaction_uid]
        for reference in report.committed:
            missing.pop(reference.sop_instance_uid, None)
        for reference in report.failed:
            missing[reference.sop_instance_uid] = f"reason {reference.failure_reason:04X}H"
        return missing

    def count(self, study_instance_uid: str) -> list[int]:
        """Ask for a study by C-FIND: the number of instances in each match."""
        with self._association(_service(uids.STUDY_ROOT_FIND)) as channel:
            syntax = exchange.context_for(channel, uids.STUDY_ROOT_FIND).transfer_syntax
            query = _query(study_instance_uid, Key(_RELATED_INSTANCES, "IS", Universal()))
            result = find.find(
                channel,
                identifier.encode_query(query, syntax),
                sop_class_uid=uids.STUDY_ROOT_FIND,
            )
            _require_success(result.final, "C-FIND")
            answers = [
                identifier.parse_answer(answer, result.transfer_syntax) for answer in result.answers
            ]
        return [int(answer.get(_RELATED_INSTANCES) or -1) for answer in answers]

    def get(
        self,
        study_instance_uid: str,
        samples: Sequence[Sample],
        receiver: Receiver | None = None,
    ) -> Mapping[str, Received]:
        """Retrieve a study by C-GET: what came, by SOP Instance UID.

        Args:
            study_instance_uid: which one.
            samples: instances whose classes and syntaxes are expected in it.
            receiver: takes them in; None for one that is always ready.
        """
        receiver = receiver or Receiver()
        for pairs in _groups(dict.fromkeys(sample.pair for sample in samples)):
            contexts = (*storage_scu.contexts_of(pairs), *_service(uids.STUDY_ROOT_GET, len(pairs)))
            roles = [
                RoleSelection(sop_class_uid=sop_class, scu=False, scp=True)
                for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs)
            ]
            with self._association(contexts, roles) as channel:
                syntax = exchange.context_for(channel, uids.STUDY_ROOT_GET).transfer_syntax
                result = get.get(
                    channel,
                    identifier.encode_query(_query(study_instance_uid), syntax),
                    receiver,
                    sop_class_uid=uids.STUDY_ROOT_GET,
                )
                _require_success(result.final, "C-GET")
        return receiver.received()

    def move(self, study_instance_uid: str, destination: str) -> int:
        """Have a study sent by C-MOVE to a registered node.

        Returns:
            How many instances it says it sent.
        """
        with self._association(_service(uids.STUDY_ROOT_MOVE)) as channel:
            syntax = exchange.context_for(channel, uids.STUDY_ROOT_MOVE).transfer_syntax
            result = move.move(
                channel,
                identifier.encode_query(_query(study_instance_uid), syntax),
                sop_class_uid=uids.STUDY_ROOT_MOVE,
                destination=destination,
            )
        _require_success(result.final, "C-MOVE")
        return result.final.number_of_completed_suboperations or 0

    @contextmanager
    def _association(
        self, contexts: Sequence[ProposedContext], roles: Sequence[RoleSelection] = ()
    ) -> Iterator[Channel]:
        called = self._endpoint
        channel = client.open_association(
            host=called.host,
            port=called.port,
            tls=None if called.tls_files is None else tls.client_context(called.tls_files),
            called_ae_title=called.ae_title,
            calling_ae_title=called.calling_ae_title,
            contexts=contexts,
            roles=roles,
            connect_timeout_s=_CONNECT_S,
        )
        try:
            yield channel
        except BaseException:
            channel.abort()
            raise
        channel.release(_RELEASE_S)


def _batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The samples, cut so that one association has contexts for each batch; order kept within."""
    for pairs in _groups(dict.fromkeys(sample.pair for sample in samples)):
        yield [sample for sample in samples if sample.pair in pairs]


def _groups(pairs: Iterable[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    every = list(pairs)
    for start in range(0, len(every), _MOST_PAIRS):
        yield every[start : start + _MOST_PAIRS]


def _service(sop_class: str, after: int = 0) -> tuple[ProposedContext, ...]:
    """The presentation context of a service, numbered after so many others."""
    return (ProposedContext(2 * after + 1, sop_class, _SERVICE_SYNTAXES),)


def _query(study_instance_uid: str, *returned: Key) -> Query:
    key = Key(STUDY_INSTANCE_UID, "UI", Single(study_instance_uid))
    return Query(root="STUDY", level=QueryLevel.STUDY, keys=(key, *returned))


def _succeeded(answer: Command) -> bool:
    return status.category(exchange.status_in(answer)) is status.Category.SUCCESS


def _reason(answer: Command) -> str:
    comment = f" ({answer.error_comment})" if answer.error_comment else ""
    return f"status {exchange.status_in(answer):04X}H{comment}"


def _require_success(answer: Command, what: str) -> None:
    if not _succeeded(answer):
        raise InvalidInput(f"{what} ended with {_reason(answer)}")
