"""The sending half of an association: one message after the other, as long as the peer takes."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Final

from harmoni.dicom.dimse import Command, encode_command
from harmoni.dicom.fragmentation import PDV_OVERHEAD_BYTES, pack_message
from harmoni.dicom.items import UserInformation, malformed
from harmoni.dicom.pdu import Buffer
from harmoni.model.errors import LocalProtocolError

MIN_PEER_PDU_BYTES: Final = 12
"""Below this a maximum length leaves less than 6 bytes per PDU: no such peer means it."""


class Transmission:
    """Messages out, never two at once.

    Args:
        max_pdu_bytes: the longest variable field that we send, whatever the peer takes.
        request_data: goes through the state machine before each list of PDUs; what it raises
            passes through `message`.
    """

    def __init__(self, max_pdu_bytes: int, request_data: Callable[[], object]) -> None:
        self.context_ids: Container[int] = ()
        self._max_pdu_bytes = max_pdu_bytes
        self._request_data = request_data
        self._capacity_bytes = 0
        self._half_sent = False

    def fit(self, peer: UserInformation) -> None:
        """Learn what the peer takes (PS3.8 Annex D.1).

        Raises:
            RemoteProtocolError: it takes so little that no message can be sent.
        """
        if 0 < peer.max_length < MIN_PEER_PDU_BYTES:
            raise malformed(f"a maximum length of {peer.max_length} bytes")
        limit = min(peer.max_length or self._max_pdu_bytes, self._max_pdu_bytes)
        # Even, because data sets are, and some peers insist on even fragments.
        self._capacity_bytes = (limit - PDV_OVERHEAD_BYTES) & ~1

    def require_whole_message(self) -> None:
        """Make sure that no message is half sent.

        Raises:
            LocalProtocolError: one is.
        """
        if self._half_sent:
            raise LocalProtocolError("the message before was not finished: only abort is left")

    def message(
        self, context_id: int, command: Command, data_set: Iterable[Buffer] | None
    ) -> Iterator[list[Buffer]]:
        """Send one message; see `Association.message`."""
        self.require_whole_message()
        if context_id not in self.context_ids:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")
        if command.has_data_set is (data_set is None):
            raise LocalProtocolError(
                f"{command.field.name}: has_data_set is {command.has_data_set}, "
                "but the data set given says otherwise"
            )
        encoded = encode_command(command)
        begun = whole = False
        self._half_sent = True
        try:
            for buffers in pack_message(
                context_id, encoded, data_set, capacity_bytes=self._capacity_bytes
            ):
                self._request_data()
                begun = True
                yield buffers
            whole = True
        finally:
            self._half_sent = begun and not whole
