import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId, PackId, SiteId, WriterId


@given(
    st.integers(0, 2**48 - 1),
    st.integers(0, 1023),
    st.binary(min_size=9, max_size=9),
)
def test_a_pack_id_tells_its_time_and_its_site(time_ms, site_number, random):
    pack_id = PackId.build(time_ms=time_ms, site_number=site_number, random=random)

    assert (time_ms, site_number) == (pack_id.time_ms, pack_id.site_number)
    assert PackId(str(pack_id)) == pack_id


@given(st.integers(0, 2**48 - 2), st.binary(min_size=9, max_size=9))
def test_pack_ids_of_one_site_sort_by_time(time_ms, random):
    earlier = PackId.build(time_ms=time_ms, site_number=1, random=b"\xff" * 9)
    later = PackId.build(time_ms=time_ms + 1, site_number=1, random=random)

    assert earlier < later
    assert str(earlier) < str(later)


def test_the_folder_of_a_pack_is_its_random_end():
    pack_id = PackId.build(time_ms=0, site_number=0, random=b"\0" * 8 + b"\x21")

    assert pack_id.folder == "11"


@pytest.mark.parametrize("number", [-1, 1024])
def test_a_site_number_out_of_range_is_refused(number):
    with pytest.raises(InvalidInput):
        PackId.build(time_ms=0, site_number=number, random=b"\0" * 9)


@pytest.mark.parametrize(
    "text", ["", "8" + "0" * 25, "0" * 25, "0" * 27, "0" * 25 + "U", "0" * 25 + "/"]
)
def test_what_is_not_a_ulid_is_no_pack_id(text):
    with pytest.raises(InvalidInput):
        PackId(text)


@pytest.mark.parametrize("kind", [HospitalId, SiteId, WriterId])
@pytest.mark.parametrize("text", ["", "..", "a/b", "a\0b", "A", "-a", "a\n", "ä" * 5, "." * 5])
def test_no_identifier_can_mean_something_in_a_path(kind, text):
    with pytest.raises(InvalidInput):
        kind(text)


@given(st.text(string.printable, max_size=70))
def test_an_accepted_hospital_id_is_also_a_bucket_name(text):
    try:
        accepted = str(HospitalId(text))
    except InvalidInput:
        return
    assert set(accepted) <= set(string.ascii_lowercase + string.digits + "-")
    assert 3 <= len(accepted) <= 63
