"""Events: facts that no instance holds, each an encrypted member of an event pack.

An event's bytes are one JSON document: kind, time, salt and a body whose fields belong to the kind.
The body may hold patient data; the kind and the time stand in the manifest as well and must not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from harmoni.model.errors import InvalidInput
from harmoni.sealing import document
from harmoni.sealing.document import Json
from harmoni.sealing.streaming import Buffer

VERSION: Final = 1
"""Of an event's document; kinds and fields are added without a new one. Frozen."""
SALT_BYTES: Final = 32

COMMITMENT: Final = "commitment"
"""Somebody answers for instances; with "by" in its body it is our destination who does."""
CONFLICT: Final = "conflict"
"""Instances came in another version than was held; both are kept."""
EVICTION: Final = "eviction"
"""A pack was let go, since all of it is safe elsewhere; its manifest stays, in this event."""
REPAIR: Final = "repair"
"""A whole copy was put in the place of a pack that was damaged or missing."""
TOMBSTONE: Final = "tombstone"
"""A study was erased; names no study, and stays readable (tombstone.py)."""

MANIFEST: Final = "manifest"
"""No kind: the field of an eviction's body that holds the manifest of the pack."""

_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact.

    Raises:
        InvalidInput: a kind that is no word of a-z, 0-9 and '-', or a salt of another length.
    """

    kind: str
    """What happened, such as "tombstone" or "commitment"."""
    at_ms: int
    """When, in milliseconds since 1970, UTC."""
    subject: str
    """The Study Instance UID of the study that it names and is erased with; "" for none."""
    body: Mapping[str, Json]
    """The facts themselves; the kind decides which fields it has."""
    salt: bytes
    """32 random bytes that hide the event in the pack root and in the log."""

    def __post_init__(self) -> None:
        if _KIND.fullmatch(self.kind) is None:
            raise InvalidInput(f"{self.kind!r} is no kind of event: it must match {_KIND.pattern}")
        if len(self.salt) != SALT_BYTES:
            raise InvalidInput(f"an event's salt has {SALT_BYTES} bytes, not {len(self.salt)}")

    def encode(self) -> bytes:
        """The bytes to encrypt."""
        return document.encode(
            {
                "version": VERSION,
                "kind": self.kind,
                "time": document.time_text(self.at_ms),
                "salt": document.octets_text(self.salt),
                "subject": self.subject,
                "body": self.body,
            }
        )

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read an opened event member.

        Raises:
            Damaged: it is not one.
        """
        fields = document.decode(data, "an event", VERSION)
        return cls(
            kind=fields.matching("kind", _KIND),
            at_ms=fields.time_ms("time"),
            subject=fields.text("subject"),
            body=fields.mapping("body"),
            salt=fields.octets("salt", SALT_BYTES),
        )
