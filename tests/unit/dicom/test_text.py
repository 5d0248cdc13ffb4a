"""Character sets of Greece and of others, and the form for searching."""

import io
import warnings
from unicodedata import normalize

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import charset
from pydicom.dataelem import RawDataElement

from harmoni.dicom.text import decode, encode, fold
from harmoni.model.header import Element
from vendor_files import vendor_files

GREEK = "ΠΑΠΑΔΌΠΟΥΛΟΣ^Γεώργιος"


def person(value: bytes) -> Element:
    return Element(0x00100010, "PN", value)


@pytest.mark.parametrize(
    ("value", "character_set"),
    [
        (GREEK.encode("iso8859-7"), b"ISO_IR 126"),
        (GREEK.encode("iso8859-7"), b"ISO 2022 IR 126"),
        (GREEK.encode("iso8859-7"), b"ISO-IR_126 "),
        (GREEK.encode("iso8859-7"), b"\\ISO 2022 IR 126"),
        (b"\x1b-F" + GREEK.encode("iso8859-7"), b"\\ISO 2022 IR 126"),
        (b"\x1b-F" + GREEK.replace("^", "^\x1b-F").encode("iso8859-7"), b"\\ISO 2022 IR 126"),
        (b"\x1b-F" + GREEK.encode("iso8859-7"), b"ISO 2022 IR 6\\ISO 2022 IR 126"),
        (GREEK.encode(), b"ISO_IR 192"),
        (GREEK.encode(), b""),
        (GREEK.encode("cp1253"), b""),
        (GREEK.encode("iso8859-7"), b""),
        (GREEK.encode("cp1253"), b"ISO_IR 6"),
        (GREEK.encode("cp1253"), b"NO SUCH SET"),
    ],
)
def test_greek_names_are_read_however_declared(value: bytes, character_set: bytes) -> None:
    assert decode(person(value), character_set) == GREEK


@pytest.mark.parametrize("codec", ["cp1253", "iso8859-7", "utf-8"])
def test_undeclared_capital_alpha_with_tonos_is_read(codec: str) -> None:
    assert decode(person("Άννα".encode(codec)), b"") == "Άννα"


def test_a_delimiter_brings_the_initial_set_back() -> None:
    value = b"\x1b-F" + "Ωμέγα".encode("iso8859-7") + b"^" + "Müller".encode("latin-1")
    assert decode(person(value), b"ISO 2022 IR 100\\ISO 2022 IR 126") == "Ωμέγα^Müller"


def test_an_unknown_escape_sequence_is_dropped() -> None:
    assert decode(person(b"A\x1b(BB\x1b-ZC"), b"\\ISO 2022 IR 126") == "ABC"


def test_a_backslash_byte_within_a_letter_does_not_separate() -> None:
    text = "\u8a8d^\u4e57"  # GB18030 writes the first one with a second byte 5C
    value = text.encode("gb18030")
    assert b"\\" in value
    assert decode(person(value), b"GB18030") == text


def test_padding_is_removed_from_each_value() -> None:
    assert decode(Element(0x00080008, "CS", b"ORIGINAL \\ PRIMARY "), b"") == "ORIGINAL\\PRIMARY"
    assert decode(Element(0x00080018, "UI", b"1.2\0"), b"") == "1.2"
    assert decode(Element(0x00104000, "LT", b"  a \\ b \0"), b"") == "  a \\ b"


def test_person_names_of_vendor_files_are_those_that_pydicom_reads() -> None:
    compared = 0
    for path in vendor_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                io.BytesIO(path.read_bytes()),
                force=True,
                specific_tags=["SpecificCharacterSet", "PatientName"],
            )
            declared = dataset.get("SpecificCharacterSet") or ""
            if "PatientName" not in dataset:
                continue
            raw = dataset.get_item("PatientName")
            value = raw.value if isinstance(raw, RawDataElement) else raw.value.original_string
            expected = str(dataset.PatientName)
        names = [declared] if isinstance(declared, str) else declared
        found = decode(person(value or b""), "\\".join(names).encode())
        assert found.rstrip("=") == expected.rstrip("=").strip(), path.name
        compared += 1
    assert compared > 200


TERMS = [name.encode() for name in charset.python_encoding]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.sampled_from([*charset.CODES_TO_ENCODINGS, b"\x1b", b"^", b"\\", b"\xc1\xe2", b"ab"])
        ).map(b"".join),
    ),
    st.one_of(st.binary(max_size=20), st.lists(st.sampled_from(TERMS), max_size=3).map(b"\\".join)),
    st.sampled_from(["PN", "LO", "UT", "UI"]),
)
def test_arbitrary_bytes_and_sets_never_raise(value: bytes, character_set: bytes, vr: str) -> None:
    assert isinstance(decode(Element(0, vr, value), character_set), str)


@pytest.mark.parametrize(
    ("text", "character_set"),
    [
        (GREEK, b"ISO_IR 126"),
        (GREEK, b"\\ISO 2022 IR 126"),
        (GREEK, b"ISO_IR 192"),
        ("Müller^Ωμέγα=Ж", b"ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", b"\\ISO 2022 IR 87"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", b"ISO 2022 IR 13\\ISO 2022 IR 87"),
        ("Hong^Gildong=洪^吉洞=홍^길동", b"\\ISO 2022 IR 149"),
        ("王^小东", b"GB18030"),
        ("DOE^JOHN", b""),
    ],
)
def test_what_is_encoded_decodes_to_itself(text: str, character_set: bytes) -> None:
    value = encode(text, character_set)
    assert value is not None
    assert decode(person(value), character_set) == text


@pytest.mark.parametrize(
    ("text", "character_set"),
    [
        (GREEK, b""),
        (GREEK, b"ISO_IR 100"),
        ("山田", b"ISO_IR 126"),
        ("山田", b"ISO_IR 13"),
        ("홍", b"ISO 2022 IR 159"),
        ("山田^Ж", b"\\ISO 2022 IR 126"),
        ("山", b"ISO 2022 IR 100\\ISO_IR 192"),  # a set without code extensions among others
    ],
)
def test_a_set_that_cannot_write_all_is_refused(text: str, character_set: bytes) -> None:
    assert encode(text, character_set) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.sampled_from(TERMS))
def test_property_encoding_is_refused_or_reversible(text: str, character_set: bytes) -> None:
    value = encode(text, character_set)
    if value is not None and "\x1b" not in text:
        unpadded = decode(Element(0, "UT", value), character_set)
        assert unpadded == text.rstrip(" \0")


@pytest.mark.parametrize(
    "other",
    [
        "Παπαδόπουλος^Γεώργιος",
        "ΠΑΠΑΔΟΠΟΥΛΟΣ^ΓΕΩΡΓΙΟΣ",
        "παπαδοπουλος^γεωργιος",
        "παπαδόπουλοσ^γεώργιοσ",
    ],
)
def test_one_name_folds_to_one_form(other: str) -> None:
    assert fold(GREEK) == fold(other) == "παπαδοπουλοσ^γεωργιοσ"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Μαΐου Ϊωσήφ πρΰ", "μαιου ιωσηφ πρυ"),
        ("MÜLLER Straße Ångström", "muller strasse angstrom"),
        ("\uff24\uff2f\uff25", "doe"),
        ("が", "が"),
        ("홍", "홍"),
        ("A*B?^C=D\\E", "a*b?^c=d\\e"),
    ],
)
def test_case_and_diacritics_fold_away_and_letters_stay(text: str, folded: str) -> None:
    assert fold(text) == folded


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30).filter(lambda text: "\u0345" not in normalize("NFD", text)))
def test_property_folding_twice_is_folding_once_and_case_never_matters(text: str) -> None:
    """Case aside: iota subscript, of no living name, is a mark below and a letter in capitals."""
    assert fold(fold(text)) == fold(text)
    assert fold(text.casefold()) == fold(text)
