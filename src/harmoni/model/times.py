"""Wall time as whole milliseconds since 1970 in UTC, and its written form (RFC 3339)."""

from datetime import UTC, datetime, timedelta
from typing import Final

from harmoni.model.errors import InvalidInput

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(time_ms: int) -> str:
    """Write a time as `2026-11-24T03:50:05.123Z`, always with three decimals."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def milliseconds(text: str) -> int:
    """Read what `rfc3339` wrote, or any RFC 3339 time with an offset.

    Raises:
        InvalidInput: the text is no such time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{text!r} is no RFC 3339 time") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text!r} has no offset from UTC; write it with a Z")
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def month(time_ms: int) -> str:
    """The calendar month of a time in UTC, as `2026-11`."""
    return rfc3339(time_ms)[:7]
