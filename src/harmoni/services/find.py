"""Query, C-FIND, both roots (PS3.4 C.4.1, PS3.7 9.1.2): answers stream as they are found."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol

from harmoni.dicom import identifier, uids
from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.identifier import Query, QueryRoot, Universal, Wildcard
from harmoni.dicom.status import Status
from harmoni.model.errors import HarmoniError, OutOfResources, Refused
from harmoni.net.driver import Channel, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, storage
from harmoni.services.exchange import Operation, Outcome

ROOT_OF_CLASS: Final[Mapping[str, QueryRoot]] = {
    uids.PATIENT_ROOT_FIND: "PATIENT",
    uids.STUDY_ROOT_FIND: "STUDY",
}
"""The information model of each C-FIND class."""


class FindHandler(Protocol):
    """What an association may do to search: made for one hospital and one peer."""

    def supports(self, query: Query) -> bool:
        """Whether every key of a query is known; one that is not is returned empty."""
        ...

    def find(self, query: Query) -> Generator[Mapping[int, str], None, None]:
        """Yield one mapping from tag to text for each match, several values joined by a backslash.

        The generator is closed when nobody wants more. Another hospital's matches do not exist.

        Raises:
            HarmoniError: the query cannot be answered, or not to its end.
        """
        ...


def serve_find(
    channel: Channel,
    message: Message,
    handler: FindHandler,
    *,
    may_browse: bool,
    retrieve_ae_title: str,
    max_answers: int,
) -> Outcome:
    """Answer a query: one pending response per match, then a final one.

    Pending status: FF00, or FF01 where a key is not supported.

    Final status: 0000 all matches sent; FE00 cancelled; A700 more than `max_answers`; A900 the
    identifier breaks the rules of its class; 0124 it selects nothing and the peer may not browse;
    else what the table of errors says.

    Args:
        channel: the association.
        message: the C-FIND-RQ.
        handler: searches.
        may_browse: whether the peer may ask without a selective key.
        retrieve_ae_title: the AE title from which matches can be retrieved, ours.
        max_answers: how many matches one query may have.
    """
    operation = Operation(channel, message)
    answers, number, comment = 0, int(Status.SUCCESS), ""
    try:
        query = _parse(channel, message)
        if not may_browse and not is_selective(query):
            raise Refused("a query that selects nothing, from a peer that may not browse")
        pending = (
            Status.PENDING if handler.supports(query) else Status.PENDING_OPTIONAL_KEYS_UNSUPPORTED
        )
        with closing(handler.find(query)) as matches:
            for values in matches:
                operation.look()
                if operation.cancelled:
                    number = Status.CANCEL
                    break
                if answers == max_answers:
                    raise OutOfResources(f"more than {max_answers} matches: ask for less")
                operation.respond(
                    pending,
                    data_set=identifier.encode_answer(
                        query,
                        values,
                        transfer_syntax_uid=message.context.transfer_syntax,
                        retrieve_ae_title=retrieve_ae_title,
                    ),
                )
                answers += 1
    except HarmoniError as error:
        if channel.ended is not None:
            raise
        number, comment = storage.status_of(error), storage.comment_of(error)
    operation.respond(number, error_comment=comment or None)
    return Outcome(
        operation=CommandField.C_FIND_RQ,
        sop_class_uid=message.context.abstract_syntax,
        status=number,
        why=comment,
        answers=answers,
    )


def _parse(channel: Channel, message: Message) -> Query:
    data = exchange.receive_identifier(channel, message)
    root = ROOT_OF_CLASS[message.context.abstract_syntax]
    query = identifier.parse_query(data, message.context.transfer_syntax, root)
    identifier.check_unique_keys(query)
    return query


def is_selective(query: Query) -> bool:
    """Whether a query has a key that says something: more than absence, `*` and `?`."""
    return any(
        bool(key.match.pattern.strip("*?"))
        if isinstance(key.match, Wildcard)
        else not isinstance(key.match, Universal)
        for key in query.keys
    )


@dataclass(frozen=True, slots=True)
class FindResult:
    """What a peer answered to a query."""

    answers: tuple[bytes, ...]
    """The identifiers, encoded in `transfer_syntax`."""
    transfer_syntax: str
    final: Command
    """The last response, with the status of the whole."""


def find(
    channel: Channel,
    query: bytes,
    *,
    sop_class_uid: str,
    message_id: int = 1,
    max_answers: int = 10_000,
    timeout_s: float = 60.0,
    clock: Clock = exchange.SYSTEM_CLOCK,
) -> FindResult:
    """Ask a peer; gather its answers.

    Args:
        channel: the association.
        query: the identifier, encoded in the transfer syntax of `exchange.context_for`.
        sop_class_uid: one of the C-FIND classes.
        message_id: of the request.
        max_answers: after so many the query is cancelled and later answers are dropped.
        timeout_s: how long the peer may take for each response.
        clock: measures the time.

    Raises:
        Refused: the peer accepted no context for the class.
        AssociationEnded: the peer has gone, or did not respond in time.
    """
    context = exchange.context_for(channel, sop_class_uid)
    request = Command(
        field=CommandField.C_FIND_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=sop_class_uid,
        priority=Priority.MEDIUM,
    )
    channel.send(context, request, (query,))
    answers: list[bytes] = []
    cancelled = False
    while True:
        response = exchange.await_response(channel, request, timeout_s=timeout_s, clock=clock)
        data = exchange.receive_identifier(channel, response)
        if not exchange.is_pending(response.command):
            return FindResult(tuple(answers), context.transfer_syntax, response.command)
        if len(answers) < max_answers:
            answers.append(data)
        elif not cancelled:
            exchange.cancel(channel, context, request)
            cancelled = True
