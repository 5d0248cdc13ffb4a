from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR

from harmoni.index import attributes
from harmoni.index.attributes import VALUE_REPRESENTATION, pack, pack_uid, unpack, unpack_uid
from harmoni.model import header
from harmoni.model.header import Element

UIDS_WITH_A_PLACE_OF_THEIR_OWN = {
    header.SOP_CLASS_UID,
    header.SOP_INSTANCE_UID,
    header.STUDY_INSTANCE_UID,
    header.SERIES_INSTANCE_UID,
}
raw_values = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet="0123456789. -", max_size=300).map(str.encode),
)
uids = st.one_of(
    st.text(alphabet="0123456789.", max_size=64),
    st.text(max_size=64).filter(lambda text: text.isprintable()),
)


def test_every_scanned_element_has_a_code_or_a_column():
    scanned = {
        *header.PATIENT_TAGS,
        *header.STUDY_TAGS,
        *header.SERIES_TAGS,
        *header.INSTANCE_TAGS,
        header.SPECIFIC_CHARACTER_SET,
    }
    assert scanned - UIDS_WITH_A_PLACE_OF_THEIR_OWN == set(VALUE_REPRESENTATION)


def test_value_representations_are_those_of_the_dictionary():
    assert {tag: dictionary_VR(tag) for tag in VALUE_REPRESENTATION} == VALUE_REPRESENTATION


@given(st.lists(st.tuples(st.sampled_from(sorted(VALUE_REPRESENTATION)), raw_values), max_size=8))
def test_property_unpacking_gives_back_what_was_packed(values):
    elements = [Element(tag, VALUE_REPRESENTATION[tag], value) for tag, value in values]
    assert list(unpack(pack(elements))) == elements


def test_a_value_of_64_kib_is_kept_whole():
    elements = [Element(0x0010_4000, "LT", b"x" * 65_536)]
    assert list(unpack(pack(elements))) == elements


def test_elements_without_a_code_are_left_out():
    assert pack([Element(0x0008_0018, "UI", b"1.2")]) == b""


def test_dates_take_half_their_length():
    assert len(pack([Element(header.STUDY_DATE, "DA", b"20260131")])) == 6


@given(uids)
def test_property_uids_come_back(uid):
    assert unpack_uid(pack_uid(uid)) == uid


@given(st.lists(uids, unique=True, max_size=20))
def test_property_different_uids_have_different_packed_forms(several):
    assert len({pack_uid(uid) for uid in several}) == len(several)


def test_a_reader_decodes_with_the_character_set_beside_it():
    name = Element(header.PATIENT_NAME, "PN", "Άννα".encode("iso8859_7"))
    value = attributes.reader(attributes.with_character_set((name,), b"ISO_IR 126"))
    assert value(header.PATIENT_NAME) == "Άννα"
    assert value(header.PATIENT_ID) == ""
