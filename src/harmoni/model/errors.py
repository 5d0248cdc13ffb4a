"""Every error of HARMONI, in one tree.

    HarmoniError
    ├── Transient               the same act may succeed later: retry
    │   ├── Unreachable         a peer or a service does not answer
    │   ├── OutOfResources      disk, memory or a limit of ours is exhausted
    │   ├── StorageFailed       the storage below refused a read, a write or a flush
    │   └── Busy                somebody else holds the lock or the lease
    ├── Permanent               the same act will fail again: do not retry
    │   ├── InvalidInput        bytes or words from outside that break their own rules
    │   ├── Damaged             stored bytes that are not what was stored
    │   │   └── UnknownFormat   of a version or suite that this program does not know
    │   ├── NotHeld             asked for something that is not held here
    │   │   └── Erased          its key was destroyed on purpose
    │   ├── AlreadyHeld         a create-only name exists already
    │   ├── Refused             a policy says no
    │   ├── NotAccepted         no presentation context carries this instance as it is
    │   └── ConfigurationError  settings, keys or files of ours that do not fit together
    └── ProtocolError           the upper layer or DIMSE was violated
        ├── LocalProtocolError   by our own caller
        └── RemoteProtocolError  by the peer; carries the reason for A-ABORT (PS3.8 9.3.8)

A class has a stable code (`HZ-xxxx`, listed in docs/reference/errors.md); an instance has a text
that says what happened, why, and what to do. Three tables translate errors for the outside: to a
DIMSE status in services/storage.py, to an exit code in cli/app.py, and later to HTTP.
"""


class HarmoniError(Exception):
    """The root: everything that HARMONI raises on purpose."""

    code = "HZ-0000"


class Transient(HarmoniError):
    """The same act may succeed later; the caller retries."""

    code = "HZ-1000"


class Unreachable(Transient):
    """A peer or a service does not answer."""

    code = "HZ-1001"


class OutOfResources(Transient):
    """Disk, memory or a limit of ours is exhausted; nothing was acknowledged."""

    code = "HZ-1002"


class StorageFailed(Transient):
    """The storage below refused a read, a write or a flush.

    What was being written is in doubt: the caller fences it and never flushes it again, since
    after a failed flush the kernel may call lost pages clean.
    """

    code = "HZ-1004"


class Busy(Transient):
    """Somebody else holds the lock or the lease that this act needs."""

    code = "HZ-1003"


class Permanent(HarmoniError):
    """The same act will fail again; the caller must not retry it unchanged."""

    code = "HZ-2000"


class InvalidInput(Permanent):
    """Bytes or words from outside that break the rules of their own format."""

    code = "HZ-2001"


class Damaged(Permanent):
    """Stored bytes that are not what was stored: authentication or a hash fails."""

    code = "HZ-2002"


class UnknownFormat(Damaged):
    """Of a version or suite that this program does not know: a newer one reads it."""

    code = "HZ-2010"


class NotHeld(Permanent):
    """Asked for something that is not held here, or is not this hospital's to see."""

    code = "HZ-2003"


class Erased(NotHeld):
    """What was held was erased: its key was destroyed on purpose, everywhere and for ever."""

    code = "HZ-2009"


class AlreadyHeld(Permanent):
    """A create-only name exists already; what it names is never overwritten."""

    code = "HZ-2006"


class Refused(Permanent):
    """A policy says no."""

    code = "HZ-2004"


class NotAccepted(Permanent):
    """The peer accepted no presentation context for an instance's class in its transfer syntax."""

    code = "HZ-2008"


class ConfigurationError(Permanent):
    """Settings, keys or files of ours that do not fit together."""

    code = "HZ-2005"


class ProtocolError(HarmoniError):
    """The DICOM upper layer or DIMSE was violated."""

    code = "HZ-3000"


class LocalProtocolError(ProtocolError):
    """Our own caller asked for something that the protocol does not allow now."""

    code = "HZ-3001"


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; the association must be aborted.

    Args:
        message: what the peer did, for the log.
        reason: the reason of the A-ABORT to answer with (PS3.8 9.3.8): 0 not specified,
            1 unrecognized PDU, 2 unexpected PDU, 4 unrecognized PDU parameter,
            5 unexpected PDU parameter, 6 invalid PDU parameter value.
    """

    code = "HZ-3002"

    def __init__(self, message: str, reason: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
