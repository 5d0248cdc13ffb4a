import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.sealing import document

MAX_TIME_MS = 253_402_300_799_999

jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fields(**values):
    return document.decode(document.encode({"version": 0, **values}), "a test", 0)


def test_the_form_is_canonical():
    assert document.encode({"b": [1, None], "a": "\u0391"}) == b'{"a":"\\u0391","b":[1,null]}'


@given(st.dictionaries(st.text(), jsons, max_size=5))
def test_property_what_is_written_is_read_back(body):
    assert fields(body=body).mapping("body") == body


@given(st.integers(0, MAX_TIME_MS))
def test_property_times_are_read_back(time_ms):
    text = document.time_text(time_ms)
    assert fields(time=text).time_ms("time") == time_ms
    expected = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert text == f"{expected}.{time_ms % 1000:03d}Z"


@given(st.binary(max_size=100))
def test_property_octets_are_read_back(value):
    assert fields(value=document.octets_text(value)).octets("value", len(value)) == value


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        document.decode(data, "a test", 0)


@given(st.dictionaries(st.text(), jsons, max_size=5))
def test_a_document_without_our_version_is_damaged(body):
    with pytest.raises(Damaged):
        document.decode(json.dumps({**body, "version": 1}).encode(), "a test", 0)


@pytest.mark.parametrize(
    "text",
    ["[]", "0", "null", '{"version":0.0}', '{"version":0,"x":NaN}', "[" * 100_000, "\ufeff{}"],
)
def test_what_is_no_document_is_damaged(text):
    with pytest.raises(Damaged):
        document.decode(text.encode(), "a test", 0)


READERS = {
    "text": lambda f: f.text("x"),
    "number": lambda f: f.number("x", 5),
    "time": lambda f: f.time_ms("x"),
    "octets": lambda f: f.octets("x", 3),
    "digest": lambda f: f.digest("x"),
    "choice": lambda f: f.choice("x", ("yes", "no")),
    "entries": lambda f: f.entries("x"),
    "objects": lambda f: list(f.objects("x")),
    "inner": lambda f: f.inner("x"),
    "mapping": lambda f: f.mapping("x"),
    "hospital": lambda f: f.hospital("x"),
    "site": lambda f: f.site("x"),
    "pack": lambda f: f.pack_id("x"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [None, True, 6, -1, "\u00e9 \\"])
def test_a_field_of_another_type_or_range_is_damaged_and_named(reader, value):
    if reader == "text" and isinstance(value, str):
        return
    with pytest.raises(Damaged, match=r"a test.*'x'|a test, x is not"):
        READERS[reader](fields(x=value))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_field_is_damaged(reader):
    with pytest.raises(Damaged):
        READERS[reader](fields())


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T04:00:00Z",
        "2026-11-24T04:00:00.000+00:00",
        "2026-13-24T04:00:00.000Z",
        "1969-12-31T23:59:59.999Z",
        "2026-11-24 04:00:00,000Z",
        "2026-W48-2T04:00:00.000Z",
        "not a time in any format",
    ],
)
def test_other_forms_of_time_are_damaged(text):
    with pytest.raises(Damaged):
        fields(x=text).time_ms("x")


@pytest.mark.parametrize("text", ["AA", "AA==A", "A A=", "AA-_", "AAA=\n", "=AAA"])
def test_base64_has_one_form(text):
    with pytest.raises(Damaged):
        fields(x=text).octets("x")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-8-sig"])
def test_another_encoding_than_utf_8_is_damaged(encoding):
    with pytest.raises(Damaged):
        document.decode('{"version":0}'.encode(encoding), "a test", 0)


def test_unknown_fields_are_ignored():
    assert fields(known="yes", unknown=[1]).text("known") == "yes"
    assert fields(known="yes").has("known")
    assert not fields(known=None).has("known")
