import pytest
from hypothesis import given
from hypothesis import strategies as st

from association_pairs import refusal
from harmoni.dicom import items
from harmoni.model.errors import RemoteProtocolError


def _view(text: str) -> memoryview:
    return memoryview(bytes.fromhex(text))


def test_items_are_cut_at_their_lengths():
    pairs = [
        (kind, bytes(value)) for kind, value in items.split_items(_view("10000001AA 40000000"))
    ]
    assert pairs == [(0x10, b"\xaa"), (0x40, b"")]


@pytest.mark.parametrize("data", ["10", "100000", "10000002AA", "10000000 51"])
def test_an_item_longer_than_what_is_there_is_malformed(data):
    with pytest.raises(RemoteProtocolError):
        list(items.split_items(_view(data)))


def test_the_number_of_items_is_bounded():
    most = memoryview(bytes.fromhex("10000000") * items.MAX_ITEMS)
    assert len(list(items.split_items(most))) == items.MAX_ITEMS
    with pytest.raises(RemoteProtocolError, match="more than"):
        list(items.split_items(memoryview(bytes(most) + bytes.fromhex("10000000"))))


@given(st.binary(max_size=200))
def test_arbitrary_sub_items_give_user_information_or_the_named_error(data):
    reason = refusal(lambda: items.decode_user_information(memoryview(data)))
    assert reason in (None, items.INVALID_VALUE)


@pytest.mark.parametrize(
    "data",
    [
        "51000003 000000",  # a maximum length of 3 bytes
        "53000002 0001",  # half a window
        "54000003 000131",  # roles missing
        "54000005 000131 0101 ",  # the length is right for a UID of 1 and both roles, then cut
        "56000003 000531",  # a UID longer than the item
        "57000005 0001310001",  # the service class is cut
        "58000001 01",  # no response flag
        "58000004 01000005",  # a user name longer than the item
        "5900000100",  # half a length
        "520000020A0A",  # control characters
        "52000000",  # an empty UID
        "52000041" + "31" * 65,  # 65 characters
        "520000023181",  # not ASCII
    ],
)
def test_a_sub_item_that_breaks_its_own_rules_is_malformed(data):
    raw = bytes.fromhex(data)
    if data.startswith("54000005"):
        raw = raw[:-1]
    with pytest.raises(RemoteProtocolError):
        items.decode_user_information(memoryview(raw))


def test_a_uid_padded_with_nul_is_read_without_it():
    assert items.decode_uid(memoryview(b"1.2.840\0")) == "1.2.840"


def test_of_a_repeated_single_sub_item_the_last_counts():
    data = _view("51000004 00004000 51000004 00008000")
    assert items.decode_user_information(data).max_length == 0x8000


def test_a_role_other_than_1_is_no_role():
    data = _view("54000005 000131 02FF")
    (role,) = items.decode_user_information(data).roles
    assert (role.scu, role.scp) == (False, False)
