"""A small server and a client on loopback, for tests of `net`: verification, and a place to store.

What is stored goes to memory; whatever else a test wants, it hands in as `serve`.
"""

import queue
import socket
from contextlib import contextmanager

import structlog

from harmoni.dicom.dimse import Command, CommandField, response
from harmoni.dicom.pdu import ContextResult, ProposedContext
from harmoni.dicom.presentation import Accept, Refuse, negotiate
from harmoni.dicom.uids import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from harmoni.net import client, server
from harmoni.net.server import Accepted, Server, ServerLimits
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.log import _render_exception
from harmoni.runtime.metrics import Metrics

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO_CONTEXT = ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))
STORE_CONTEXT = ProposedContext(3, CT, (IMPLICIT_VR_LITTLE_ENDIAN,))
ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = Command(
    field=CommandField.C_STORE_RQ,
    has_data_set=True,
    message_id=2,
    priority=0,
    affected_sop_class_uid=CT,
    affected_sop_instance_uid="1.2.3",
)


class Memory:
    """A data sink that keeps everything."""

    def __init__(self):
        self.data = bytearray()
        self.block = memoryview(bytearray(100_000))

    def reserve(self, wanted):
        return self.block[:wanted]

    def commit(self, count):
        self.data += self.block[:count]


def accept_everything(request, facts):
    """Accept the two classes of this module, with their first syntax and any role asked for."""

    def offer(context, role):
        if context.abstract_syntax not in {VERIFICATION, CT}:
            return Refuse(ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
        scp = role is not None and role.scp
        return Accept(context.transfer_syntaxes[0], requestor_scp=scp)

    return Accepted(negotiated=negotiate(request, offer), token="the token")


class Served:
    """A running server, what it logged, and what was stored in it."""

    def __init__(
        self, *, context=None, limits=None, decide=accept_everything, serve=None, **options
    ):
        self.stored = queue.Queue()
        self.lines = queue.Queue()
        self.metrics = Metrics()
        listener = server.listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server = Server(
            sockets=[(listener, context)],
            decide=decide,
            serve=serve or self.store,
            limits=limits or ServerLimits(),
            clock=SystemClock(),
            log=structlog.wrap_logger(
                None,
                processors=[structlog.contextvars.merge_contextvars, _render_exception, self._keep],
                wrapper_class=structlog.BoundLogger,
            ),
            metrics=self.metrics,
            **options,
        )

    def _keep(self, _logger, _method, event):
        self.lines.put(dict(event))
        raise structlog.DropEvent

    def line(self, event, **wanted):
        """Wait for the next line of that event with those values."""
        while True:
            line = self.lines.get(timeout=10)
            if line["event"] == event and wanted.items() <= line.items():
                return line

    def store(self, channel):
        """Answer C-ECHO and C-STORE until the association ends."""
        while True:
            message = channel.receive(1.0)
            if message is None:
                continue
            if message.command.has_data_set:
                memory = Memory()
                channel.receive_data_set(memory)
                self.stored.put(bytes(memory.data))
            channel.send(message.context, response(message.command, 0))

    def open(self, *contexts, **options):
        """Open an association to it."""
        return open_to(self.port, *contexts, **options)

    def open_until_refused(self):
        """Open and end associations until that fails."""
        while True:
            self.open().release(5)

    def connect(self, address="127.0.0.1"):
        """Open a bare TCP connection to it, from an address of this machine."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=10, source_address=(address, 0)
        )


@contextmanager
def serving(**options):
    """Run a server for the length of the block."""
    served = Served(**options)
    served.server.start()
    try:
        yield served
    finally:
        served.server.drain(5)


def open_to(port, *contexts, **options):
    """Open an association to a port of this machine."""
    return client.open_association(
        **{
            "host": "127.0.0.1",
            "port": port,
            "tls": None,
            "called_ae_title": "HARMONI",
            "calling_ae_title": "TEST",
            "contexts": contexts or (ECHO_CONTEXT, STORE_CONTEXT),
            **options,
        }
    )


def echo(channel):
    """Do a C-ECHO and give the status."""
    channel.send(channel.contexts[1], ECHO)
    return channel.receive(10).command.status
