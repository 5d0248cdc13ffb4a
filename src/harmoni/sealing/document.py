"""JSON documents of ours: written in one canonical form, read with every field checked.

Canonical: sorted keys, no spaces, other characters than ASCII escaped as JSON does (so it is UTF-8
too), times in RFC 3339 UTC with milliseconds, SHA-256 in hexadecimal, other byte strings in base64
with padding. Numbers are integers. The same values always give the same bytes.

Reading refuses what is missing, of another type or out of range, and names the place; it ignores
fields that it does not know, so that a later version may add some.
"""

import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Final

from harmoni.model.errors import Damaged, InvalidInput, UnknownFormat
from harmoni.model.identifiers import HospitalId, PackId, SiteId

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_CHARACTERS: Final = len("2026-11-24T04:00:00.000Z")
# Python reads more forms than the one that we write.
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_MILLISECOND: Final = timedelta(milliseconds=1)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_NUMBER: Final = (1 << 53) - 1
"""The greatest integer that every reader of JSON keeps exact (RFC 8259, 6)."""


def encode(document: Mapping[str, Json]) -> bytes:
    """The canonical bytes of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def time_text(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, such as 2026-11-24T04:00:00.000Z."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds")[: _TIME_CHARACTERS - 1] + "Z"


def octets_text(value: bytes) -> str:
    """A byte string as base64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def decode(data: bytes | bytearray | memoryview, what: str, version: int) -> "Fields":
    """Parse a document.

    Args:
        data: the whole document.
        what: its name in errors, such as "the manifest".
        version: the one version of its format that is known here.

    Raises:
        Damaged: not JSON in UTF-8, or not an object.
        UnknownFormat: of another version.
    """
    try:
        parsed: Json = json.loads(
            bytes(data).decode("utf-8"), parse_float=_no_fraction, parse_constant=_no_fraction
        )
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is not JSON ({error}); use another copy") from None
    fields = Fields(parsed, what)
    require_version(fields.number("version"), what, version)
    return fields


def require_version(found: int, what: str, known: int) -> None:
    """Refuse another version than the one that is known; raises UnknownFormat."""
    if found != known:
        raise UnknownFormat(
            f"{what} has version {found}, this program knows {known}; use the program that wrote"
            " it or a newer one"
        )


def require_suite(found: str, what: str, known: str) -> None:
    """Refuse another suite than the one that is known; raises UnknownFormat."""
    if found != known:
        raise UnknownFormat(
            f"{what} is of suite {found!r}, this program knows {known}; use the program that wrote"
            " it or a newer one"
        )


def _no_fraction(text: str) -> Json:
    raise ValueError(f"{text} is no integer")


class Fields:
    """A parsed object whose fields are read by name and type; raises Damaged with the place."""

    __slots__ = ("_fields", "_where")

    def __init__(self, parsed: Json, where: str) -> None:
        if not isinstance(parsed, dict):
            raise Damaged(f"{where} is not a JSON object; use another copy")
        self._fields: Mapping[str, Json] = parsed
        self._where = where

    def _wrong(self, name: str, expected: str) -> Damaged:
        return Damaged(f"{self._where}: {name!r} is not {expected}; use another copy")

    def suite(self, known: str) -> str:
        """The suite, which must be the one that is known; raises UnknownFormat."""
        found = self.text("suite")
        require_suite(found, self._where, known)
        return found

    def others(self, known: AbstractSet[str]) -> Mapping[str, Json]:
        """The fields of other names: a later program's, which whoever rewrites it keeps."""
        return {name: value for name, value in self._fields.items() if name not in known}

    def names(self) -> Iterator[str]:
        """The names of the fields that are there."""
        return iter(self._fields)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def text(self, name: str) -> str:
        """A string."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def number(self, name: str, maximum: int = _MAX_NUMBER) -> int:
        """An integer from 0 to `maximum`."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value <= maximum:
            raise self._wrong(name, f"an integer from 0 to {maximum}")
        return value

    def time_ms(self, name: str) -> int:
        """A time, as milliseconds since 1970."""
        value = self._fields.get(name)
        if not isinstance(value, str) or _TIME.fullmatch(value) is None:
            raise self._wrong(name, "a time in UTC")
        try:
            time_ms = (datetime.fromisoformat(value) - _EPOCH) // _MILLISECOND
        except ValueError:
            raise self._wrong(name, "a time in UTC") from None
        if time_ms < 0:
            raise self._wrong(name, "a time in UTC since 1970")
        return time_ms

    def octets(self, name: str, size: int | None = None) -> bytes:
        """A byte string, of exactly `size` bytes if given."""
        value = octets(self._fields.get(name))
        if value is None or (size is not None and len(value) != size):
            raise self._wrong(name, f"{'' if size is None else f'{size} '}bytes in base64")
        return value

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        """A string of a given form."""
        value = self.text(name)
        if pattern.fullmatch(value) is None:
            raise self._wrong(name, f"a string that matches {pattern.pattern}")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of the given strings."""
        value = self.text(name)
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def digest(self, name: str) -> bytes:
        """A SHA-256 in hexadecimal: 32 bytes."""
        value = self.text(name)
        if _DIGEST.fullmatch(value) is None:
            raise self._wrong(name, "a SHA-256 in hexadecimal")
        return bytes.fromhex(value)

    def hospital(self, name: str) -> HospitalId:
        """A hospital id."""
        try:
            return HospitalId(self.text(name))
        except InvalidInput:
            raise self._wrong(name, "a hospital id") from None

    def site(self, name: str) -> SiteId:
        """A site id."""
        try:
            return SiteId(self.text(name))
        except InvalidInput:
            raise self._wrong(name, "a site id") from None

    def pack_id(self, name: str) -> PackId:
        """A pack id."""
        try:
            return PackId(self.text(name))
        except InvalidInput:
            raise self._wrong(name, "a pack id") from None

    def entries(self, name: str) -> Sequence[Json]:
        """A list."""
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def objects(self, name: str) -> Iterator["Fields"]:
        """A list of objects."""
        where = f"{self._where}, {name}"
        return (Fields(entry, where) for entry in self.entries(name))

    def inner(self, name: str) -> "Fields":
        """An object inside this one."""
        return Fields(self._fields.get(name), f"{self._where}, {name}")

    def mapping(self, name: str) -> Mapping[str, Json]:
        """An object inside this one whose names are data."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value


def octets(value: Json) -> bytes | None:
    """The bytes of a base64 string, or None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        return None
