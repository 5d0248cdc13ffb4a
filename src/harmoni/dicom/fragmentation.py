"""Messages into P-DATA-TF PDUs (PS3.8 9.3.5, Annex E), without copying a byte of a data set.

A PDU here is a list of buffers: 12 bytes of headers, then slices of what the data source gave. One
PDU carries one fragment. The shell writes a list with one gathering call.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from harmoni.dicom.pdu import (
    COMMAND_FRAGMENT,
    HEADER,
    LAST_FRAGMENT,
    PDV_HEADER,
    Buffer,
    PduType,
)

PDV_OVERHEAD_BYTES: Final = PDV_HEADER.size
"""What each fragment costs of a PDU's maximum length."""

GATHER_BYTES: Final = 128 * 1024
"""A list is given out as soon as it holds so much; more gains nothing measurable per write."""

MAX_BUFFERS: Final = 1000
"""Buffers in one list: below IOV_MAX, which is 1,024 on Linux."""


def pack_message(
    context_id: int, command: bytes, data_set: Iterable[Buffer] | None, *, capacity_bytes: int
) -> Iterator[list[Buffer]]:
    """Pack one message into lists of buffers, each of whole PDUs.

    The first list holds the command and the beginning of the data set, so that both leave in one
    write. The last fragment is given out only when `data_set` is exhausted: a source that verifies
    itself raises before, and the peer never sees the end of a wrong object.

    Args:
        context_id: of the presentation context.
        command: the encoded command set.
        data_set: chunks of any size, which stay unchanged until the message is sent; None if the
            message has no data set.
        capacity_bytes: the most bytes of one fragment; even, at least 2.

    Raises:
        Exception: what the data source raises, as it is.
    """
    gathered: list[Buffer] = []
    size_bytes = 0
    for fragment in _fragments(context_id, COMMAND_FRAGMENT, (command,), capacity_bytes):
        gathered += fragment
        if len(gathered) >= MAX_BUFFERS // 2:
            yield gathered
            gathered = []
    if data_set is not None:
        for fragment in _fragments(context_id, 0, data_set, capacity_bytes):
            if len(gathered) + len(fragment) > MAX_BUFFERS:
                yield gathered
                gathered, size_bytes = [], 0
            gathered += fragment
            size_bytes += sum(map(len, fragment))
            if size_bytes >= GATHER_BYTES:
                yield gathered
                gathered, size_bytes = [], 0
    if gathered:
        yield gathered


def _fragments(
    context_id: int, control: int, chunks: Iterable[Buffer], capacity_bytes: int
) -> Iterator[list[Buffer]]:
    """PDUs of one fragment each; one is given out only when it is known whether it is the last."""
    fragment: list[Buffer] = []
    size_bytes = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if size_bytes == capacity_bytes or len(fragment) == MAX_BUFFERS // 2:
                kept = _make_even(fragment) if size_bytes & 1 else None
                yield _framed(context_id, control, fragment)
                fragment = [] if kept is None else [kept]
                size_bytes = len(fragment)
            part = rest[: capacity_bytes - size_bytes]
            fragment.append(part)
            size_bytes += len(part)
            rest = rest[len(part) :]
    yield _framed(context_id, control | LAST_FRAGMENT, fragment)


def _make_even(fragment: list[Buffer]) -> Buffer:
    """Take the last byte off a fragment of odd size, for the next one.

    A data set has an even size and is cut into even fragments; some peers insist on it.
    """
    last = memoryview(fragment.pop())
    if len(last) > 1:
        fragment.append(last[:-1])
    return last[-1:]


def _framed(context_id: int, control: int, fragment: list[Buffer]) -> list[Buffer]:
    size_bytes = sum(map(len, fragment))
    headers = HEADER.pack(PduType.DATA_TF, size_bytes + PDV_HEADER.size) + PDV_HEADER.pack(
        size_bytes + 2, context_id, control
    )
    return [headers, *fragment]
