import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged, InvalidInput
from harmoni.model.identifiers import HospitalId, PackId
from harmoni.sealing import pack, streaming, tar
from harmoni.sealing.pack import Kind, MemberName, PackKind, PublicMember, PublicTable, Readme
from unit.sealing import samples


def test_a_pack_lies_in_the_folder_of_its_last_two_characters():
    assert pack.path(PackId("01JDEXAMPLE0000000000000XY".replace("L", "1"))).startswith("p/XY/01J")


def test_names_are_read_back():
    assert pack.instance_name(7) == "i/00000007"
    assert pack.parse_name("i/00000007") == MemberName(Kind.INSTANCE, 7, None)
    name = pack.event_name(8, samples.KEY_ID)
    assert pack.parse_name(name) == MemberName(Kind.EVENT, 8, samples.KEY_ID)
    assert pack.parse_name("manifest") == MemberName(Kind.MANIFEST, 0, None)


@pytest.mark.parametrize(
    "name", ["README", "public.json", "footer", "", "i/7", "i/00000007x", "../x"]
)
def test_other_names_are_no_encrypted_members(name):
    assert pack.parse_name(name) is None


@pytest.mark.parametrize("sequence", [-1, pack.MAX_SEQUENCE + 1])
def test_a_sequence_out_of_range_has_no_name(sequence):
    with pytest.raises(InvalidInput):
        pack.instance_name(sequence)


def test_the_associated_data_is_this():
    bound = pack.associated_data(
        kind=Kind.INSTANCE, hospital=HospitalId("h-1"), pack_id=samples.PACK_ID, sequence=12
    )
    assert bound == (
        b"\0\x011"
        b"\0\x1aaes256-gcm-hkdf-sha256-64k"
        b"\0\x08instance"
        b"\0\x03h-1"
        b"\0\x1a" + samples.PACK_ID.value.encode() + b"\0\x0212"
    )


def test_a_member_is_ready_to_be_appended():
    out = samples.member(Kind.INSTANCE, 3, "i/00000003", b"dataset")
    header = tar.parse_member_header(out)
    assert header.name == "i/00000003"
    assert header.next_offset == len(out)
    ciphertext = out[512 : 512 + header.size_bytes]
    opened = streaming.decrypt(
        ciphertext,
        data_key=samples.DATA_KEY,
        associated_data=samples.bound(Kind.INSTANCE, 3),
    )
    assert opened == b"dataset"


@pytest.mark.parametrize(("kind", "sequence"), [(Kind.INSTANCE, 4), (Kind.EVENT, 3)])
def test_a_moved_member_does_not_open(kind, sequence):
    out = samples.member(Kind.INSTANCE, 3, "i/00000003", b"")
    with pytest.raises(Damaged):
        streaming.decrypt(
            out[512 : 512 + streaming.ciphertext_size(0)],
            data_key=samples.DATA_KEY,
            associated_data=samples.bound(kind, sequence),
        )


README = Readme(
    pack_id=samples.PACK_ID,
    hospital=samples.HOSPITAL,
    site=samples.SITE,
    kind=PackKind.EVENTS,
    key_id=samples.KEY_ID,
)


def test_a_readme_is_read_back():
    assert Readme.decode(README.encode()) == README
    assert Readme.decode(memoryview(README.encode())) == README


def test_a_readme_of_which_any_part_never_reached_the_disk_is_damaged_and_not_of_a_newer_program():
    whole = README.encode()
    for start in range(len(whole)):
        for size in (1, 2, 7, 64):
            torn = whole[:start] + bytes(size) + whole[start + size :]
            with pytest.raises(Damaged) as caught:
                Readme.decode(torn[: len(whole)])
            assert type(caught.value) is Damaged


def test_every_flipped_byte_of_a_readme_is_found_or_names_another_pack():
    """A README has no checksum of its own; the footer covers it. Its fixed text must be exact."""
    text = README.encode()
    for place in range(len(text)):
        altered = bytearray(text)
        altered[place] ^= 1
        try:
            assert Readme.decode(bytes(altered)) != README
        except Damaged:
            continue


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_readme(data):
    with pytest.raises(Damaged):
        Readme.decode(data)


TABLE = PublicTable(
    pack_id=samples.PACK_ID,
    hospital=samples.HOSPITAL,
    site=samples.SITE,
    kind=PackKind.INSTANCES,
    key_id=samples.KEY_ID,
    members=(
        PublicMember(
            name="i/00000000", sequence=0, offset=2048, size_bytes=99, sha256=bytes(range(32))
        ),
    ),
)


def test_a_public_table_is_read_back():
    assert PublicTable.decode(TABLE.encode()) == TABLE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":1', b'"version":2'),
        (b'"suite":"aes', b'"suite":"des'),
        (b'"kind":"instances"', b'"kind":"images"'),
        (b'"offset":2048', b'"offset":-1'),
        (b'"offset":2048', b'"offset":20.5'),
        (b'"sha256":"00', b'"sha256":"0x'),
        (b'"sequence":0', b'"sequence":true'),
        (b'.17"', b'.256"'),
        (b'"members":[', b'"members":[7,'),
        (b'"pack":"0', b'"pack":"8'),
    ],
)
def test_a_public_table_with_a_wrong_field_is_damaged(old, new):
    assert old in TABLE.encode()
    with pytest.raises(Damaged):
        PublicTable.decode(TABLE.encode().replace(old, new))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_public_table(data):
    with pytest.raises(Damaged):
        PublicTable.decode(data)
