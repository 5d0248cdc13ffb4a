"""Where the demo's retrievals end: each data set is hashed as it arrives, and dropped.

`Receiver` serves a C-GET on its own association; `Pacs` is a storage SCP, the destination of a
C-MOVE.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from harmoni.demo import ports
from harmoni.demo.system import Peer
from harmoni.dicom import presentation
from harmoni.dicom.dimse import CommandField
from harmoni.dicom.pdu import AssociateRQ
from harmoni.net import server
from harmoni.net.driver import Channel, PeerFacts
from harmoni.policy.access import Right
from harmoni.runtime import log
from harmoni.runtime.clock import Clock
from harmoni.runtime.metrics import Metrics
from harmoni.services import acceptance, exchange, storage, verification

_BUFFER_BYTES: Final = 1 << 18
_DRAIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived of one instance."""

    transfer_syntax_uid: str
    sha256: bytes
    size_bytes: int


class Receiver:
    """Takes instances in from any thread and remembers what they were (a StoreHandler)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: dict[str, Received] = {}

    def begin(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> "_Hashing":
        """Prepare for an instance; every class is taken."""
        del sop_class_uid
        return _Hashing(self, sop_instance_uid, transfer_syntax_uid)

    def keep(self, sop_instance_uid: str, received: Received) -> None:
        """Remember an instance that arrived whole."""
        with self._lock:
            self._received[sop_instance_uid] = received

    def received(self) -> Mapping[str, Received]:
        """What arrived so far, by SOP Instance UID."""
        with self._lock:
            return dict(self._received)

    def forget(self) -> None:
        """Start anew."""
        with self._lock:
            self._received.clear()


class _Hashing:
    """An instance on its way in: one buffer, hashed whenever something was written to it."""

    def __init__(self, receiver: Receiver, sop_instance_uid: str, transfer_syntax_uid: str) -> None:
        self._receiver = receiver
        self._sop_instance_uid = sop_instance_uid
        self._transfer_syntax_uid = transfer_syntax_uid
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def reserve(self, wanted: int) -> memoryview:
        """Where the next bytes go."""
        return self._buffer[:wanted]

    def commit(self, count: int) -> None:
        """So many bytes were written there."""
        self._digest.update(self._buffer[:count])
        self._size_bytes += count

    def finish(self) -> None:
        """The data set is complete."""
        received = Received(self._transfer_syntax_uid, self._digest.digest(), self._size_bytes)
        self._receiver.keep(self._sop_instance_uid, received)

    def abandon(self) -> None:
        """The data set will not come to its end; nothing is remembered."""


class Pacs:
    """A storage SCP in clear text, as PACS are, for the length of a with block.

    Args:
        peer: which of a hospital's nodes it is: AE title and port.
        clock: measures waits.
    """

    def __init__(self, peer: Peer, clock: Clock) -> None:
        self.receiver = Receiver()
        self._ae_title = peer.ae_title
        self._server = server.Server(
            sockets=[(server.listen(ports.HOST, peer.port), None)],
            decide=self._decide,
            serve=self._serve,
            limits=server.ServerLimits(),
            clock=clock,
            log=log.get(role="demo", node=peer.ae_title),
            metrics=Metrics(),
        )

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.drain(_DRAIN_S)

    def _decide(self, request: AssociateRQ, facts: PeerFacts) -> server.Decision:
        del facts
        if request.called_ae_title != self._ae_title:
            return server.Rejected(result=1, source=1, reason=7, why="wrong called AE title")
        offer = acceptance.offer(frozenset({Right.ECHO, Right.STORE}), lambda _: ())
        return server.Accepted(negotiated=presentation.negotiate(request, offer), token=None)

    def _serve(self, channel: Channel) -> None:
        while True:
            message = channel.receive()
            if message is None:
                continue
            match message.command.field:
                case CommandField.C_STORE_RQ:
                    storage.serve_store(channel, message, self.receiver)
                case CommandField.C_ECHO_RQ:
                    verification.serve_echo(channel, message)
                case field:
                    exchange.break_off(channel, f"{field.name} to a node that only stores")
