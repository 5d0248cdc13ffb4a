"""What a query key may ask for, and when a value answers it (PS3.4 C.2.2.2).

These are the pure semantics. The index builds database queries from the same `Match` values, and
its tests hold them against `matches`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Universal:
    """Matches everything, absent and empty values too (PS3.4 C.2.2.2.3): a return key."""


@dataclass(frozen=True, slots=True)
class Single:
    """Single value matching (PS3.4 C.2.2.2.1).

    Args:
        value: text without padding. Never a date, time or date-time: those become a `Range` of
            equal or, for a partial value, enclosing bounds.
    """

    value: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild card matching (PS3.4 C.2.2.2.4): `*` any sequence, `?` any one character."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """Range matching of dates and times, bounds included (PS3.4 C.2.2.2.5).

    Args:
        low, high: in the full form of `full_date`, `full_time` or `full_date_time`, so that
            they order as text; None leaves that side open. Never both None.
    """

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class UidList:
    r"""List of UID matching (PS3.4 C.2.2.2.2): any one of the values.

    A key of VR CS with several values, such as Modalities in Study `CT\\MR`, becomes one too.
    """

    values: tuple[str, ...]


Match = Universal | Single | Wildcard | Range | UidList


def matches(match: Match, value: str, vr: str) -> bool:
    """Whether a stored value answers a key.

    Args:
        match: what the key asks for.
        value: the stored value as text, several values joined by a backslash, "" when absent.
        vr: the value representation of the attribute.
    """
    raise NotImplementedError
