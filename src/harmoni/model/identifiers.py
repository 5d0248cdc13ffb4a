"""Identifiers with a type of their own, checked when they are made.

A `HospitalId` is never a plain string, so isolation between hospitals shows in every signature,
and no identifier that becomes part of a path can hold a character that means something there.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from harmoni.model.errors import InvalidInput

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_VALUE: Final = {character: value for value, character in enumerate(_CROCKFORD)}
_HOSPITAL_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SITE_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")
_WRITER_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,46}")
_PACK_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_PACK_ID_CHARACTERS: Final = 26
_TIME_BITS: Final = 48
_SITE_BITS: Final = 10
_RANDOM_BITS: Final = 70


@dataclass(frozen=True, slots=True, order=True)
class _Name:
    """A checked name; str() gives it back."""

    value: str

    def __str__(self) -> str:
        return self.value

    def _require(self, pattern: re.Pattern[str], what: str) -> None:
        if pattern.fullmatch(self.value) is None:
            raise InvalidInput(
                f"{self.value!r} is not {what}: it must match {pattern.pattern}; choose another"
            )


@dataclass(frozen=True, slots=True, order=True)
class HospitalId(_Name):
    """The opaque id of a hospital: 3 to 63 of a-z, 0-9 and '-', minted once, never reused.

    It names directories, key files and, at scale, the bucket; it tells nothing about the hospital.
    """

    def __post_init__(self) -> None:
        self._require(_HOSPITAL_ID, "a hospital id")


@dataclass(frozen=True, slots=True, order=True)
class SiteId(_Name):
    """The id of a data centre or of a gateway's house: 1 to 15 of a-z, 0-9 and '-'."""

    def __post_init__(self) -> None:
        self._require(_SITE_ID, "a site id")


@dataclass(frozen=True, slots=True, order=True)
class WriterId(_Name):
    """Who mints keys and opens packs: site, node and worker, such as `dc1-node1-w0`."""

    def __post_init__(self) -> None:
        self._require(_WRITER_ID, "a writer id")


@dataclass(frozen=True, slots=True, order=True)
class PackId(_Name):
    """The id of a pack: a ULID of 26 Crockford characters (docs/reference/pack-format.md).

    128 bits: 48 of time in milliseconds, 10 of the minting site's number, 70 random. So ids of one
    writer sort by time, and the last two characters, which name the pack's folder, are random.
    """

    def __post_init__(self) -> None:
        characters = self.value
        if _PACK_ID.fullmatch(characters) is None:
            raise InvalidInput(f"{characters!r} is not a pack id: 26 Crockford characters")
        if characters[0] > "7":
            raise InvalidInput(f"{characters!r} is not a pack id: it exceeds 128 bits")

    @classmethod
    def build(cls, *, time_ms: int, site_number: int, random: bytes) -> Self:
        """Compose an id.

        Args:
            time_ms: milliseconds since 1970, below 2^48. The caller never passes less than it
                passed before, so a writer's ids never go backwards.
            site_number: the site's number in the configuration, 0 to 1023.
            random: 9 random bytes, of which 70 bits are used.

        Raises:
            InvalidInput: an argument is out of its range.
        """
        if not (0 <= time_ms < 1 << _TIME_BITS and 0 <= site_number < 1 << _SITE_BITS):
            raise InvalidInput(f"no pack id for time {time_ms} ms and site number {site_number}")
        tail = int.from_bytes(random, "big") & ((1 << _RANDOM_BITS) - 1)
        number = (time_ms << (_SITE_BITS + _RANDOM_BITS)) | (site_number << _RANDOM_BITS) | tail
        return cls(_text(number))

    def successor(self) -> Self:
        """The id that follows immediately: no other id lies between the two.

        Raises:
            InvalidInput: there is none, this is the last one.
        """
        return type(self)(_text(self._number() + 1))

    @property
    def time_ms(self) -> int:
        """When the id was minted, in milliseconds since 1970."""
        return self._number() >> (_SITE_BITS + _RANDOM_BITS)

    @property
    def site_number(self) -> int:
        """The number of the site that minted the id."""
        return (self._number() >> _RANDOM_BITS) & ((1 << _SITE_BITS) - 1)

    @property
    def folder(self) -> str:
        """The two characters that spread packs over 1,024 folders."""
        return self.value[-2:]

    def _number(self) -> int:
        number = 0
        for character in self.value:
            number = (number << 5) | _CROCKFORD_VALUE[character]
        return number


def _text(number: int) -> str:
    """A number in 26 Crockford characters."""
    shifts = range(5 * (_PACK_ID_CHARACTERS - 1), -1, -5)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in shifts)
