"""What a query key may ask for, and when a value answers it (PS3.4 C.2.2.2).

These are the pure semantics. The index builds database queries from the same `Match` values, and
its tests hold them against `matches`.
"""

import re
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.text import fold


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
        low: the lower bound in the form of `full_form`, so that it orders as text; None leaves
            this side open.
        high: the upper bound, likewise. Never are both None.
    """

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class UidList:
    r"""List of UID matching (PS3.4 C.2.2.2.2): any one of the values.

    A key of another VR with several values, such as Modalities in Study `CT\\MR`, is one too.
    """

    values: tuple[str, ...]


Match = Universal | Single | Wildcard | Range | UidList

ONE_VALUE_VRS: Final = frozenset({"ST", "LT", "UT", "UR"})
"""Value representations of one value only, in which a backslash is a letter (PS3.5 6.4)."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a value is written, and what fills it up where it is partial, at either end."""

    pattern: re.Pattern[str]
    separator: str
    lowest: str
    highest: str


_FORMS: Final = {
    "DA": _Form(re.compile(r"([0-9]{8})"), ".", "00000101", "99991231"),
    "TM": _Form(
        re.compile(r"([0-9]{6}\.[0-9]{1,6}|(?:[0-9]{2}){1,3})"),
        ":",
        "000000.000000",
        "235959.999999",
    ),
    "DT": _Form(
        re.compile(
            r"([0-9]{14}\.[0-9]{1,6}|[0-9]{4}(?:[0-9]{2}){0,5})(?:[+-](?:0[0-9]|1[0-4])[0-9]{2})?"
        ),
        " ",
        "00000101000000.000000",
        "99991231235959.999999",
    ),
}


def full_form(value: str, vr: str) -> str | None:
    """A date, time or date-time in the form that orders as text; None when it is none.

    DA becomes YYYYMMDD, TM HHMMSS.FFFFFF and DT YYYYMMDDHHMMSS.FFFFFF, missing parts at their
    lowest. The forms of ACR-NEMA, 2026.01.31 and 12:30:00, are read too. The offset from UTC of
    a DT is left out: what is compared is the time on the clock of the place.
    """
    bounds = _bounds(value, vr)
    return None if bounds is None else bounds[0]


def parse_range(text: str, vr: str) -> Range | None:
    """What a key of VR DA, TM or DT asks for (PS3.4 C.2.2.2.5); None when it is no such text.

    A single value becomes the range that it stands for: 10 of VR TM is 10:00 to 10:59:59.999999.
    """
    single = _bounds(text, vr)
    if single is not None:
        return Range(*single)
    for hyphen in re.finditer("-", text):
        left, right = text[: hyphen.start()].strip(), text[hyphen.end() :].strip()
        low, high = _bounds(left, vr), _bounds(right, vr)
        if (low or high) and (low or not left) and (high or not right):
            return Range(low[0] if low else None, high[1] if high else None)
    return None


def name_groups(name: str) -> tuple[str, ...]:
    """The component groups of a person name as they are compared: folded, the empty ones left out.

    Empty components at the end and spaces around components do not count (PS3.5 6.2.1).
    """
    groups = (
        "^".join([component.strip() for component in group.split("^")]).rstrip("^")
        for group in fold(name).split("=")
    )
    return tuple(group for group in groups if group)


def matches(match: Match, value: str, vr: str) -> bool:
    """Whether a stored value answers a key (PS3.4 C.2.2.2).

    Of several values any one suffices. Letters are compared exactly, those of person names
    folded: every component group of the key must match some group of the name, so that a name is
    found by its Greek or by its Latin writing.

    Args:
        match: what the key asks for.
        value: the stored value as text, several values joined by a backslash, "" when absent.
        vr: the value representation of the attribute.
    """
    if isinstance(match, Universal):
        return True
    values = [value] if vr in ONE_VALUE_VRS else value.split("\\")
    return any(_matches_one(match, one, vr) for one in values)


def _matches_one(match: Single | Wildcard | Range | UidList, value: str, vr: str) -> bool:
    match match:
        case Single(wanted):
            return _equal(wanted, value, vr)
        case UidList(several):
            return any(_equal(wanted, value, vr) for wanted in several)
        case Wildcard(pattern):
            if vr != "PN":
                return wildcard_matches(pattern, value)
            names = name_groups(value) or ("",)
            return all(
                any(wildcard_matches(group, name) for name in names)
                for group in name_groups(pattern)
            )
        case Range(low, high):
            form = full_form(value, vr)
            return (
                form is not None and (low is None or low <= form) and (high is None or form <= high)
            )


def _equal(wanted: str, value: str, vr: str) -> bool:
    if vr != "PN":
        return wanted == value != ""
    names = name_groups(value)
    return bool(names) and all(group in names for group in name_groups(wanted))


def wildcard_matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits a pattern of `*` and `?`.

    Goes back to the last `*` only, so the time is bounded by the product of both lengths whatever
    the pattern is; a regular expression could be made to take for ever.
    """
    at_pattern = at_text = 0
    star, star_text = -1, 0
    while at_text < len(text):
        letter = pattern[at_pattern] if at_pattern < len(pattern) else ""
        if letter == "*":
            star, star_text = at_pattern, at_text
            at_pattern += 1
        elif letter in ("?", text[at_text]):
            at_pattern += 1
            at_text += 1
        elif star >= 0:
            star_text += 1
            at_pattern, at_text = star + 1, star_text
        else:
            return False
    return not pattern[at_pattern:].strip("*")


def _bounds(value: str, vr: str) -> tuple[str, str] | None:
    """The first and the last moment that a (partial) value stands for."""
    form = _FORMS.get(vr)
    if form is None:
        return None
    found = form.pattern.fullmatch(value.replace(form.separator, "").strip())
    if found is None:
        return None
    digits = found[1]
    return digits + form.lowest[len(digits) :], digits + form.highest[len(digits) :]
