"""Element headers in all three encodings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32, STR_VR

from harmoni.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONG_VRS,
    SHORT_VRS,
    TEXT_VRS,
    ElementHeader,
    Encoding,
    element_header,
    encoding_of,
)
from harmoni.dicom.uids import storage_transfer_syntaxes


def test_value_representations_are_those_of_pydicom() -> None:
    assert {vr.value.encode() for vr in EXPLICIT_VR_LENGTH_16} == SHORT_VRS
    assert {vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32} == LONG_VRS
    assert {vr.value for vr in STR_VR} == TEXT_VRS


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        (b"\x10\0\x20\0\2\0\0\0", IMPLICIT_LITTLE, ElementHeader(0x00100020, b"", 2, 8)),
        (b"\x10\0\x20\0LO\2\0", EXPLICIT_LITTLE, ElementHeader(0x00100020, b"LO", 2, 8)),
        (b"\0\x10\0\x20LO\0\2", EXPLICIT_BIG, ElementHeader(0x00100020, b"LO", 2, 8)),
        (b"\x10\0\x20\0UT\0\0\2\0\0\0", EXPLICIT_LITTLE, ElementHeader(0x00100020, b"UT", 2, 12)),
        (b"\0\x10\0\x20UT\0\0\0\0\0\2", EXPLICIT_BIG, ElementHeader(0x00100020, b"UT", 2, 12)),
        (b"\xfe\xff\0\xe0\2\0\0\0", EXPLICIT_LITTLE, ElementHeader(0xFFFEE000, b"", 2, 8)),
        (b"\xff\xfe\xe0\0\0\0\0\2", EXPLICIT_BIG, ElementHeader(0xFFFEE000, b"", 2, 8)),
        (b"\x10\0\x20\0\2\0\0\0", EXPLICIT_LITTLE, ElementHeader(0x00100020, b"", 2, 8)),
        (b"\x10\0\x20\0QQ\2\0", EXPLICIT_LITTLE, ElementHeader(0x00100020, b"QQ", 2, 8)),
        (b"\x10\0\x20\0QQ\0\0\2\0\0\0", EXPLICIT_LITTLE, ElementHeader(0x00100020, b"QQ", 2, 12)),
        (b"\x10\0\x20\0LO\2", EXPLICIT_LITTLE, None),
        (b"\x10\0\x20\0UT\0\0\2\0\0", EXPLICIT_LITTLE, None),
        (b"", IMPLICIT_LITTLE, None),
    ],
)
def test_headers_are_read(data: bytes, encoding: Encoding, expected: ElementHeader | None) -> None:
    assert element_header(data, 0, encoding) == expected
    assert element_header(b"??" + data, 2, encoding) == (
        None
        if expected is None
        else ElementHeader(expected.tag, expected.vr, expected.length, expected.value_position + 2)
    )


@given(st.binary(max_size=20), st.sampled_from([IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG]))
def test_arbitrary_bytes_give_a_header_within_them_or_none(data: bytes, encoding: Encoding) -> None:
    header = element_header(data, 0, encoding)
    assert header is None or 8 <= header.value_position <= len(data)


def test_every_syntax_has_the_encoding_that_it_says() -> None:
    for syntax in storage_transfer_syntaxes():
        encoding = encoding_of(syntax)
        little = encoding.plain.pack(0, 0, 1) == b"\0\0\0\0\1\0\0\0"
        assert (encoding.explicit_vr, little) == (syntax.explicit_vr, syntax.little_endian)
