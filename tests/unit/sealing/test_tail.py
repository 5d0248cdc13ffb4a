import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.sealing import streaming, tail, tar
from harmoni.sealing.manifest import Manifest
from harmoni.sealing.pack import Kind, Readme
from harmoni.sealing.tail import Footer
from unit.sealing import samples

PACK, MANIFEST, SEALED = samples.sealed_pack()
FOOTER = Footer(
    manifest_offset=4096, manifest_size=1000, public_offset=5632, public_size=7, sha256=bytes(32)
)


def read_tail(data):
    footer = tail.parse_footer(data[-tail.END_BYTES :])
    if footer.pack_size != len(data):
        raise Damaged("another length")
    if hashlib.sha256(data[: -tail.FOOTER_FROM_END]).digest() != footer.sha256:
        raise Damaged("another hash")
    return footer, tail.parse_tail(data[footer.tail_offset :], footer)


def test_the_tail_leads_to_manifest_and_members():
    footer, parsed = read_tail(PACK)
    assert footer == SEALED.footer
    assert parsed.public == SEALED.public
    opened = streaming.decrypt(
        parsed.manifest_ciphertext,
        data_key=samples.DATA_KEY,
        associated_data=samples.bound(Kind.MANIFEST, 0),
    )
    assert Manifest.decode(opened) == MANIFEST
    for member in parsed.public.members:
        body = PACK[member.offset : member.offset + member.size_bytes]
        assert hashlib.sha256(body).digest() == member.sha256


def test_the_hashes_are_those_of_the_file():
    assert SEALED.sha256 == hashlib.sha256(PACK).digest()
    assert SEALED.pack_size == len(PACK)
    body = len(PACK) - tail.FOOTER_FROM_END
    assert SEALED.footer.sha256 == hashlib.sha256(PACK[:body]).digest()
    assert Footer.unpack(PACK[body : body + 512]) == SEALED.footer


def test_the_running_hash_of_the_caller_is_not_changed():
    running = hashlib.sha256(b"so far")
    tail.tail(
        manifest_ciphertext=b"m" * 60,
        public=SEALED.public,
        offset=512,
        mtime_s=0,
        prefix_hash=running,
    )
    assert running.digest() == hashlib.sha256(b"so far").digest()


def test_python_s_tarfile_lists_and_extracts_a_pack():
    with tarfile.open(fileobj=io.BytesIO(PACK)) as archive:
        names = archive.getnames()
        assert names == [
            "README",
            "i/00000000",
            "i/00000001",
            "i/00000002",
            "manifest",
            "public.json",
            "footer",
        ]
        assert Readme.decode(archive.extractfile("README").read()).pack_id == samples.PACK_ID
        for member in SEALED.public.members:
            body = archive.extractfile(member.name).read()
            assert body == PACK[member.offset : member.offset + member.size_bytes]


def test_members_are_found_by_walking_the_headers():
    offset, names = 0, []
    while header := tar.parse_member_header(PACK[offset : offset + tar.PAX_HEADER_BYTES]):
        names.append(header.name)
        offset += header.next_offset
    assert names[-1] == "footer"
    assert offset == len(PACK) - 1024


def test_every_flipped_byte_of_a_tail_is_found():
    whole, _, sealed = samples.sealed_pack((b"one dataset",))
    for place in range(sealed.footer.tail_offset, len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 0x10
        with pytest.raises(Damaged):
            read_tail(bytes(altered))


@pytest.mark.parametrize("cut", [1, 512, 1024, 1536, 2048, 4096])
def test_a_cut_pack_is_found(cut):
    with pytest.raises(Damaged):
        read_tail(PACK[:-cut])


def test_an_open_pack_has_no_tail():
    with pytest.raises(Damaged):
        read_tail(PACK[: SEALED.footer.tail_offset])


def test_another_manifest_in_the_tail_is_found():
    end = bytearray(PACK[SEALED.footer.tail_offset :])
    end[tar.BLOCK_BYTES] ^= 1
    with pytest.raises(Damaged, match="manifest is not the one"):
        tail.parse_tail(bytes(end), SEALED.footer)


def test_a_footer_is_read_back():
    assert Footer.unpack(FOOTER.pack()) == FOOTER


def test_every_flipped_byte_of_a_footer_is_found():
    for place in range(512):
        altered = bytearray(FOOTER.pack())
        altered[place] ^= 1
        with pytest.raises(Damaged):
            Footer.unpack(bytes(altered))


def with_sum(fields):
    return fields + hashlib.sha256(fields).digest()


@pytest.mark.parametrize("place", [0, 19, 23, 30, 31, 47, 479])
def test_a_footer_that_contradicts_itself_is_found_in_spite_of_its_sum(place):
    fields = bytearray(FOOTER.pack()[:480])
    fields[place] ^= 1
    with pytest.raises(Damaged):
        Footer.unpack(with_sum(bytes(fields)))


@given(st.binary(max_size=480))
def test_arbitrary_bytes_are_no_footer(data):
    with pytest.raises(Damaged):
        Footer.unpack(data)
    with pytest.raises(Damaged):
        Footer.unpack(with_sum(data.ljust(480, b"\0")))


@given(st.binary(max_size=2100))
def test_arbitrary_bytes_are_no_end_of_a_pack(data):
    with pytest.raises(Damaged):
        tail.parse_footer(data)


def test_a_tail_begins_on_a_block():
    with pytest.raises(ValueError, match="multiple of 512"):
        tail.tail(
            manifest_ciphertext=b"",
            public=SEALED.public,
            offset=513,
            mtime_s=0,
            prefix_hash=hashlib.sha256(),
        )


def replaced(data, start, piece):
    return data[:start] + piece + data[start + len(piece) :]


def test_an_altered_header_of_the_footer_is_found():
    with pytest.raises(Damaged, match="footer's header"):
        tail.parse_footer(
            replaced(PACK, len(PACK) - tail.END_BYTES, tar.member_header("x", 512, 0))
        )


def test_a_tail_of_another_length_is_found():
    footer = SEALED.footer
    with pytest.raises(Damaged, match="another length"):
        tail.parse_tail(PACK[footer.tail_offset - 512 :], footer)


def test_a_body_that_is_not_where_the_footer_says_is_found():
    footer = SEALED.footer
    end = PACK[footer.tail_offset :]
    with pytest.raises(Damaged, match="manifest is not where"):
        tail.parse_tail(replaced(end, 0, tar.member_header("x", footer.manifest_size, 0)), footer)


def test_padding_that_is_not_zero_is_found():
    footer = SEALED.footer
    end = PACK[footer.tail_offset :]
    with pytest.raises(Damaged, match="padding after manifest"):
        tail.parse_tail(replaced(end, 512 + footer.manifest_size, b"x"), footer)
