"""Bech32 (BIP 173) without its limit of 90 characters, as age writes recipients and identities.

human-readable part | "1" | data in groups of five bits | checksum, 6 characters
"""

from collections.abc import Iterable, Iterator
from typing import Final

from harmoni.model.errors import InvalidInput

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE: Final = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_GROUPS: Final = 6
_MAX_CHARACTERS: Final = 4096


def encode(prefix: str, data: bytes) -> str:
    """Write bytes under a human-readable part, in lower case."""
    groups = list(_regroup(data, 8, 5))
    remainder = _polymod([*_expand(prefix), *groups, *[0] * _CHECKSUM_GROUPS]) ^ 1
    checksum = [(remainder >> 5 * (_CHECKSUM_GROUPS - 1 - i)) & 31 for i in range(_CHECKSUM_GROUPS)]
    return f"{prefix}1" + "".join(_ALPHABET[group] for group in groups + checksum)


def decode(text: str, prefix: str) -> bytes:
    """Read bytes written under that human-readable part (given in lower case).

    Raises:
        InvalidInput: another part, mixed case, a wrong checksum or padding that is not zero. The
            text itself never stands in the error, because it may be a secret.
    """
    lower = text.lower()
    head, _, tail = lower.rpartition("1")
    if text not in (lower, text.upper()) or head != prefix or len(text) > _MAX_CHARACTERS:
        raise InvalidInput(
            f"a text that should begin with {prefix}1 does not; check what was pasted"
        )
    groups = [_VALUE.get(character, -1) for character in tail]
    if (
        len(groups) < _CHECKSUM_GROUPS
        or min(groups) < 0
        or _polymod([*_expand(prefix), *groups]) != 1
    ):
        raise InvalidInput(f"the checksum of a {prefix}1… text is wrong; check what was pasted")
    data = groups[:-_CHECKSUM_GROUPS]
    decoded = bytes(_regroup(data, 5, 8))[: len(data) * 5 // 8]
    if list(_regroup(decoded, 8, 5)) != data:
        raise InvalidInput(f"a {prefix}1… text has stray bits at its end; check what was pasted")
    return decoded


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _polymod(groups: Iterable[int]) -> int:
    """The remainder of the groups as a polynomial over GF(32), by the generator of BIP 173."""
    remainder = 1
    for group in groups:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ group
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder


def _regroup(values: Iterable[int], width: int, wanted: int) -> Iterator[int]:
    """Cut a stream of `width`-bit groups into `wanted`-bit ones, zeros at the end."""
    held = bits = 0
    for value in values:
        held = (held << width | value) & 0xFFF
        bits += width
        while bits >= wanted:
            bits -= wanted
            yield held >> bits & ((1 << wanted) - 1)
    if bits:
        yield held << (wanted - bits) & ((1 << wanted) - 1)
