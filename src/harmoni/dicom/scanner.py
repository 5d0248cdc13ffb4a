"""Read what the index needs from a data set while it streams past (PS3.5 7).

The scanner sees the bytes that are stored and changes none of them. It keeps the few elements of
`model/header.py`, steps over everything else without looking at it, and stops at the first element
behind the last of their tags, long before the pixels: PS3.5 7.1 puts elements in ascending order,
and those that stand behind it against the rule are not found. Of an element that stands there
twice the last one counts. The result is the same however the data set was cut.

It trusts nothing: values beyond 64 KiB are stepped over, nesting, elements and inflated bytes are
bounded, and what cannot be read ends the scan with what was found so far. It never raises.
"""

import contextlib
import zlib
from typing import Final

from harmoni.dicom.encoding import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    TEXT_VRS,
    UNDEFINED_LENGTH,
    Encoding,
    element_header,
    encoding_of,
)
from harmoni.dicom.uids import TransferSyntax
from harmoni.model.header import (
    INSTANCE_TAGS,
    PATIENT_TAGS,
    SERIES_TAGS,
    SPECIFIC_CHARACTER_SET,
    STUDY_TAGS,
    Element,
    Header,
)

Buffer = bytes | bytearray | memoryview

SCANNER_VERSION: Final = 1
"""Written into manifests; rises whenever the same bytes would give another header."""

MAX_VALUE_BYTES: Final = 64 * 1024
MAX_NESTING: Final = 64
MAX_ELEMENTS: Final = 1_000_000
"""Elements and items looked at; real headers stay far below, an attack does not."""
MAX_INFLATED_BYTES: Final = 64 * 1024 * 1024

VR_OF_TAG: Final = {
    SPECIFIC_CHARACTER_SET: "CS",
    0x0008_0008: "CS",
    0x0008_0016: "UI",
    0x0008_0018: "UI",
    0x0008_0020: "DA",
    0x0008_0021: "DA",
    0x0008_0022: "DA",
    0x0008_0023: "DA",
    0x0008_0030: "TM",
    0x0008_0031: "TM",
    0x0008_0032: "TM",
    0x0008_0033: "TM",
    0x0008_0050: "SH",
    0x0008_0060: "CS",
    0x0008_0070: "LO",
    0x0008_0080: "LO",
    0x0008_0090: "PN",
    0x0008_0201: "SH",
    0x0008_1010: "SH",
    0x0008_1030: "LO",
    0x0008_103E: "LO",
    0x0008_1050: "PN",
    0x0008_1060: "PN",
    0x0008_1090: "LO",
    0x0010_0010: "PN",
    0x0010_0020: "LO",
    0x0010_0021: "LO",
    0x0010_0030: "DA",
    0x0010_0032: "TM",
    0x0010_0040: "CS",
    0x0010_1010: "AS",
    0x0010_1020: "DS",
    0x0010_1030: "DS",
    0x0010_4000: "LT",
    0x0018_0015: "CS",
    0x0018_1030: "LO",
    0x0020_000D: "UI",
    0x0020_000E: "UI",
    0x0020_0010: "SH",
    0x0020_0011: "IS",
    0x0020_0013: "IS",
    0x0020_0060: "CS",
    0x0028_0008: "IS",
}
"""Every tag that is kept, with its value representation for implicit VR (PS3.6)."""

_LAST_TAG: Final = max(VR_OF_TAG)
_PIECE_BYTES: Final = 16 * 1024
_PATIENT: Final = tuple(sorted(PATIENT_TAGS))
_STUDY: Final = tuple(sorted(STUDY_TAGS))
_SERIES: Final = tuple(sorted(SERIES_TAGS))
_INSTANCE: Final = tuple(sorted(INSTANCE_TAGS))
_TEXT_VR: Final = {vr.encode(): vr for vr in TEXT_VRS}
_BINARY_VRS: Final = (SHORT_VRS | LONG_VRS) - _TEXT_VR.keys() - {b"UN"}

# A sequence or item of undefined length that is open: whether it is an item, and its encoding.
_Nesting = tuple[bool, Encoding]


class Scanner:
    """Scan one data set, fed in chunks of any size.

    Feed it until `done` (feeding on does nothing) or until the data set ends, then take `header`.

    Args:
        syntax: the transfer syntax of the data set.
        last_tag: where to stop looking, if not behind the last tag that is kept.
    """

    __slots__ = (
        "_done",
        "_elements",
        "_encoding",
        "_found",
        "_inflated_bytes",
        "_inflater",
        "_last_tag",
        "_nesting",
        "_pending",
        "_position",
        "_skip_bytes",
        "_started",
        "broken",
        "stopped_at",
    )

    broken: str | None
    """Why the scan ended before its time; None when nothing was wrong."""
    stopped_at: int | None
    """Where the value of the first element behind the last tag begins, in bytes from the start of
    the (inflated) data set; None while it has not come."""

    def __init__(self, syntax: TransferSyntax, last_tag: int = _LAST_TAG) -> None:
        self.broken = None
        self.stopped_at = None
        self._last_tag = last_tag
        self._position = 0
        self._done = False
        self._encoding = encoding_of(syntax)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if syntax.deflated else None
        self._inflated_bytes = 0
        self._found: dict[int, Element] = {}
        self._elements = 0
        self._nesting: list[_Nesting] = []
        self._skip_bytes = 0
        self._pending = b""
        self._started = False

    @property
    def done(self) -> bool:
        """Whether everything that can be found was found, or the scan is broken."""
        return self._done

    def feed(self, chunk: Buffer) -> None:
        """Look at the next bytes of the data set; keeps no reference to them."""
        if self._done:
            return
        if self._inflater is None:
            self._feed_plain(memoryview(chunk))
        else:
            self._inflate(self._inflater, bytes(chunk))

    def header(self) -> Header:
        """What was found so far."""
        found = self._found
        character_set = found.get(SPECIFIC_CHARACTER_SET)
        return Header(
            character_set=b"" if character_set is None else character_set.value,
            patient=tuple([found[tag] for tag in _PATIENT if tag in found]),
            study=tuple([found[tag] for tag in _STUDY if tag in found]),
            series=tuple([found[tag] for tag in _SERIES if tag in found]),
            instance=tuple([found[tag] for tag in _INSTANCE if tag in found]),
        )

    def _inflate(self, inflater: "zlib._Decompress", deflated: bytes) -> None:
        """Inflate piece by piece, so that a bomb never unfolds in memory."""
        full = False
        while (deflated or full) and not self._done:
            before = inflater.copy()
            try:
                piece = inflater.decompress(deflated, _PIECE_BYTES)
            except zlib.error as error:
                self._inflate_up_to_error(before, deflated)
                self._break(f"the deflated stream is invalid: {error}")
                return
            full = len(piece) == _PIECE_BYTES and not inflater.eof
            deflated = b"" if inflater.eof else inflater.unconsumed_tail
            allowed = MAX_INFLATED_BYTES - self._inflated_bytes
            self._inflated_bytes += len(piece)
            self._feed_plain(memoryview(piece)[:allowed])
            if len(piece) > allowed:
                self._break(f"the header inflates to more than {MAX_INFLATED_BYTES} bytes")

    def _inflate_up_to_error(self, inflater: "zlib._Decompress", deflated: bytes) -> None:
        """Take what stands before an error, byte by byte: zlib drops it with the call that fails.

        Else it would matter where the stream was cut.
        """
        with contextlib.suppress(zlib.error):
            for byte in deflated:
                self._feed_plain(memoryview(inflater.decompress(bytes((byte,)))))

    def _feed_plain(self, view: memoryview) -> None:
        while len(view) and not self._done:
            if self._skip_bytes:
                skipped = min(self._skip_bytes, len(view))
                self._skip_bytes -= skipped
                self._position += skipped
                view = view[skipped:]
            else:
                # Slices of bytes are much cheaper than those of a view. What is pending never
                # exceeds one header and one value.
                piece = self._pending + bytes(view[:_PIECE_BYTES])
                view = view[_PIECE_BYTES:]
                done = self._scan(piece)
                self._pending = piece[done:]
                self._position += done

    def _scan(self, buffer: bytes) -> int:
        """Read whole elements; return how many bytes of the buffer are done with."""
        position = 0
        if not self._started:
            if len(buffer) < IMPLICIT_LITTLE.plain.size:
                return 0
            self._started = True
            self._recognize_explicit(buffer)
        while not self._done:
            reached = (
                self._scan_nested(buffer, position)
                if self._nesting
                else self._scan_top(buffer, position)
            )
            if reached == position or reached == len(buffer):
                return reached
            position = reached
        return len(buffer)

    def _recognize_explicit(self, buffer: bytes) -> None:
        """See explicit VR where implicit was negotiated, an error that old senders make.

        Two capitals that are a VR would be a length of 16 KiB and more: not in a first element.
        """
        vr = buffer[4:6]
        if self._encoding is IMPLICIT_LITTLE and (vr in SHORT_VRS or vr in LONG_VRS):
            self._encoding = EXPLICIT_LITTLE

    def _scan_top(self, buffer: bytes, position: int) -> int:
        """Read elements of the top level, up to a sequence of undefined length.

        This is the hot path of every stored object, therefore the two usual forms of a header are
        unpacked in place, and elements are counted in a local variable.
        """
        end = len(buffer)
        encoding = self._encoding
        explicit_vr = encoding.explicit_vr
        unpack_short = encoding.short.unpack_from
        unpack_plain = encoding.plain.unpack_from
        kept = VR_OF_TAG
        last_tag = self._last_tag
        elements = self._elements
        while end - position >= 8:  # noqa: PLR2004 -- the fixed part of every header
            if explicit_vr:
                group, element, vr, length = unpack_short(buffer, position)
                value_position = position + 8
                tag = group << 16 | element
                if vr not in SHORT_VRS:
                    header = element_header(buffer, position, encoding)
                    if header is None:
                        break
                    vr, length, value_position = header.vr, header.length, header.value_position
            else:
                group, element, length = unpack_plain(buffer, position)
                value_position = position + 8
                tag = group << 16 | element
                vr = b""
            if tag > last_tag:
                self.stopped_at = self._position + value_position
                self._done = True
                break
            elements += 1
            if length == UNDEFINED_LENGTH:
                self._nesting.append(_sequence(vr, encoding))
                position = value_position
                break
            value_end = value_position + length
            if tag in kept and length <= MAX_VALUE_BYTES:
                if value_end > end:
                    break
                self._keep(tag, vr, buffer[value_position:value_end])
            elif value_end > end:
                self._skip_bytes = value_end - end
                position = end
                break
            position = value_end
        self._count(elements)
        return position

    def _keep(self, tag: int, vr: bytes, value: bytes) -> None:
        """Keep a value that is text; UN and letters that are no VR give way to the dictionary."""
        known = _TEXT_VR.get(vr)
        if known is None:
            if vr in _BINARY_VRS:
                return
            known = VR_OF_TAG[tag]
        self._found[tag] = Element(tag, known, value)

    def _scan_nested(self, buffer: bytes, position: int) -> int:
        """Step through the innermost sequences and items of undefined length."""
        end = len(buffer)
        elements = self._elements
        while self._nesting and not self._done:
            is_item, encoding = self._nesting[-1]
            header = element_header(buffer, position, encoding)
            if header is None:
                break
            elements += 1
            position = header.value_position
            if header.tag == SEQUENCE_DELIMITATION:
                # It also ends an item whose own delimitation is missing.
                del self._nesting[-2 if is_item else -1 :]
            elif is_item and header.tag == ITEM_DELIMITATION:
                self._nesting.pop()
            elif is_item == (header.tag == ITEM):
                self._break(f"{header.tag:08X} stands where it must not, within a sequence")
            elif header.length == UNDEFINED_LENGTH:
                if len(self._nesting) >= MAX_NESTING:
                    self._break(f"sequences are nested more than {MAX_NESTING} deep")
                self._nesting.append(
                    _sequence(header.vr, encoding) if is_item else (True, encoding)
                )
            elif position + header.length > end:
                self._skip_bytes = position + header.length - end
                position = end
                break
            else:
                position += header.length
        self._count(elements)
        return position

    def _count(self, elements: int) -> None:
        self._elements = elements
        if elements > MAX_ELEMENTS:
            self._break(f"more than {MAX_ELEMENTS} elements stand before the pixels")

    def _break(self, why: str) -> None:
        if not self._done:
            self.broken = why
            self._done = True


def _sequence(vr: bytes, encoding: Encoding) -> _Nesting:
    """A sequence that opens here; one of VR UN is in implicit VR whatever stands around it.

    (PS3.5 6.2.2, note on UN with undefined length.)
    """
    return False, IMPLICIT_LITTLE if vr == b"UN" else encoding


def scan(dataset: Buffer, syntax: TransferSyntax) -> Header:
    """The header of a data set that lies in memory."""
    scanner = Scanner(syntax)
    scanner.feed(dataset)
    return scanner.header()
