"""Where an instance came from, written into its own member.

The private information (0002,0102) of the file meta that we write (PS3.10 7.1) holds one JSON
document, so every field of a manifest can be recovered from the members alone.
"""

from dataclasses import dataclass
from typing import Final

from harmoni.model.errors import Damaged
from harmoni.model.instance import Origin, Verdict
from harmoni.sealing import document
from harmoni.sealing.streaming import Buffer

VERSION: Final = 1
"""Of the document in (0002,0102). Frozen."""
SALT_BYTES: Final = 32
_VERDICTS: Final[dict[str, Verdict]] = {
    "match": "match",
    "mismatch": "mismatch",
    "unobservable": "unobservable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known of the arrival of one instance."""

    origin: Origin
    received_at_ms: int
    """Receive time, milliseconds since 1970, UTC."""
    salt: bytes
    """The 32 random bytes that hide UID and hash in the pack root."""
    original_prefix: bytes | None = None
    """Preamble and file meta of an object that came as a file, so that it can be given back."""


def encode(provenance: Provenance) -> bytes:
    """The value of (0002,0102): JSON, a space at the end if its length were odd (PS3.5 7.1.1)."""
    fields: dict[str, document.Json] = {
        "version": VERSION,
        "received": document.time_text(provenance.received_at_ms),
        "salt": document.octets_text(provenance.salt),
        "origin": origin_fields(provenance.origin),
    }
    if provenance.original_prefix is not None:
        fields["prefix"] = document.octets_text(provenance.original_prefix)
    text = document.encode(fields)
    return text + b" " * (len(text) % 2)


def decode(data: Buffer) -> Provenance:
    """Read the value of (0002,0102), with or without padding (zero or space).

    Raises:
        Damaged: it is not ours.
    """
    fields = document.decode(bytes(data).rstrip(b"\0 "), "the provenance of an instance", VERSION)
    return Provenance(
        origin=read_origin(fields.inner("origin")),
        received_at_ms=fields.time_ms("received"),
        salt=fields.octets("salt", SALT_BYTES),
        original_prefix=fields.octets("prefix") if fields.has("prefix") else None,
    )


def origin_fields(origin: Origin) -> dict[str, document.Json]:
    """The JSON of an origin, here and in the manifest."""
    return {
        "calling": origin.calling_ae_title,
        "called": origin.called_ae_title,
        "address": origin.address,
        "verdict": [list(pair) for pair in origin.verdict],
    }


def read_origin(fields: document.Fields) -> Origin:
    """Read the JSON of an origin; raises Damaged."""
    return Origin(
        calling_ae_title=fields.text("calling"),
        called_ae_title=fields.text("called"),
        address=fields.text("address"),
        verdict=tuple(_verdict(pair) for pair in fields.entries("verdict")),
    )


def _verdict(pair: document.Json) -> tuple[str, Verdict]:
    match pair:
        case [str(factor), str(word)] if word in _VERDICTS:
            return factor, _VERDICTS[word]
        case _:
            raise Damaged(f"{pair!r} is no factor of identity with its verdict; use another copy")
