import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.sealing import tar

GIB = 1 << 30
SIZES = [0, 1, 511, 512, 513, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 1 << 45]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("always_pax", [False, True])
def test_a_header_is_read_back(size, always_pax):
    header = tar.member_header("i/00000007", size, 1_795_492_801, always_pax=always_pax)
    parsed = tar.parse_member_header(header + b"what follows")
    assert parsed == tar.MemberHeader(
        name="i/00000007", size_bytes=size, mtime_s=1_795_492_801, header_bytes=len(header)
    )
    assert parsed.next_offset % tar.BLOCK_BYTES == 0
    assert len(header) == (1536 if always_pax or size >= 8 * GIB else 512)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("always_pax", [False, True])
def test_python_s_tarfile_reads_a_header(size, always_pax):
    header = tar.member_header("i/00000007", size, 1_795_492_801, always_pax=always_pax)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
        member = archive.next()
    assert (member.name, member.size, member.mtime) == ("i/00000007", size, 1_795_492_801)
    assert (member.mode, member.uid, member.gid) == (0o400, 0, 0)
    assert (member.uname, member.gname) == ("", "")
    assert member.offset_data == len(header)


def test_the_length_of_a_pax_header_does_not_depend_on_the_size():
    lengths = {len(tar.member_header("i/00000000", 10**n, 0, always_pax=True)) for n in range(18)}
    assert lengths == {tar.PAX_HEADER_BYTES}


@pytest.mark.parametrize("always_pax", [False, True])
def test_every_flipped_bit_of_a_header_is_found(always_pax):
    header = tar.member_header("i/00000007", 12345, 1_795_492_801, always_pax=always_pax)
    for place in range(len(header)):
        altered = bytearray(header)
        altered[place] ^= 1 << place % 8
        with pytest.raises(Damaged):
            tar.parse_member_header(bytes(altered))


@pytest.mark.parametrize("always_pax", [False, True])
def test_a_cut_header_is_found(always_pax):
    header = tar.member_header("i/00000007", 12345, 1_795_492_801, always_pax=always_pax)
    for length in (0, 1, 100, 511, len(header) - 1):
        with pytest.raises(Damaged):
            tar.parse_member_header(header[:length])


def test_a_block_of_zeros_is_the_end_of_the_archive():
    assert tar.parse_member_header(bytes(512)) is None
    assert tar.parse_member_header(memoryview(bytes(1536))) is None


@given(st.binary(max_size=1600))
def test_arbitrary_bytes_are_damaged_or_the_end(data):
    try:
        assert tar.parse_member_header(data) is None
    except Damaged:
        return
    assert not any(data[:512])


@given(
    st.text("abcdefghij/0123456789._-", min_size=1, max_size=80),
    st.integers(0, 1 << 60),
    st.integers(0, 8**11 - 1),
    st.booleans(),
)
def test_property_any_header_is_read_back(name, size, mtime_s, always_pax):
    header = tar.member_header(name, size, mtime_s, always_pax=always_pax)
    parsed = tar.parse_member_header(header)
    assert (parsed.name, parsed.size_bytes, parsed.mtime_s) == (name, size, mtime_s)


def test_a_name_that_is_too_long_is_a_programming_error():
    with pytest.raises(ValueError, match="at most"):
        tar.member_header("n" * 101, 0, 0)


def summed(block):
    """The same block with a right checksum."""
    zeroed = block[:148] + b" " * 8 + block[156:]
    return zeroed[:148] + f"{sum(zeroed):06o}\0 ".encode() + zeroed[156:]


@pytest.mark.parametrize(
    ("start", "forged"), [(124, b"-0000001000"), (124, b"+0000001000"), (136, b"-0000000001")]
)
def test_a_forged_negative_number_is_damaged(start, forged):
    """A reader that walks must never go back or stand still."""
    header = tar.member_header("i/00000007", 0o1000, 1)
    block = summed(header[:start] + forged + header[start + 11 :])
    assert summed(header) == header
    with pytest.raises(Damaged):
        tar.parse_member_header(block)


@pytest.mark.parametrize("record", [b"12 size=-512\n", b"12 size=+512\n", b"12 size= 512\n"])
def test_a_forged_pax_record_is_damaged(record):
    header = tar.member_header("i/00000007", 10_512, 1, always_pax=True)
    assert header[512:526] == b"14 size=10512\n"
    forged = tar.member_header("i/00000007", 512, 1, always_pax=True)
    forged = forged[:512] + record.ljust(512, b"\0") + forged[1024:]
    with pytest.raises(Damaged):
        tar.parse_member_header(forged)


def test_a_negative_size_is_a_programming_error():
    with pytest.raises(ValueError, match="negative"):
        tar.member_header("README", -1, 0)


def test_padding_fills_the_last_block():
    assert [tar.padding(size) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]


def test_a_plain_member_is_header_body_and_padding():
    assert tar.plain_member("README", b"text", 5) == (
        tar.member_header("README", 4, 5) + b"text" + bytes(508)
    )
