import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.model.header import Element, Header
from harmoni.model.instance import Identity, Instance, Location
from harmoni.sealing import manifest, merkle
from harmoni.sealing.manifest import ListedEvent, Manifest
from harmoni.sealing.pack import PackKind
from unit.sealing import samples
from unit.sealing.test_provenance import origins

times = st.integers(0, 253_402_300_799_999)
numbers = st.integers(0, (1 << 53) - 1)
digests = st.binary(min_size=32, max_size=32)
# Few distinct values, so that levels are shared as well as different.
levels = st.lists(
    st.builds(
        Element,
        tag=st.sampled_from([0x00100010, 0x0020000D, 0xFFFFFFFF, 0]),
        vr=st.sampled_from(["LO", "UI", "\u00e9?"]),
        value=st.sampled_from([b"", b"\xff\0", b"a" * 50]),
    ),
    max_size=3,
).map(tuple)
headers = st.builds(
    Header,
    character_set=st.sampled_from([b"", b"ISO_IR 126"]),
    patient=levels,
    study=levels,
    series=levels,
    instance=levels,
)
instances = st.builds(
    Instance,
    sop_class_uid=st.text(max_size=8),
    sop_instance_uid=st.text(st.characters(), max_size=8),
    header=headers,
    identity=st.builds(Identity, st.text(max_size=8), digests, numbers),
    location=st.builds(
        Location, st.just(samples.PACK_ID), st.integers(0, 99_999_999), numbers, numbers
    ),
    salt=digests,
    received_at_ms=times,
    origin=origins,
)
events = st.builds(
    ListedEvent,
    sequence=st.integers(0, 99_999_999),
    offset=numbers,
    size_bytes=numbers,
    key_id=st.just(samples.KEY_ID),
    kind=st.sampled_from(["hold", "tombstone"]),
    at_ms=times,
    sha256=digests,
    salt=digests,
)


def manifest_of(kind, held=(), listed=(), **changes):
    root = manifest.pack_root(held) if kind is PackKind.INSTANCES else manifest.event_root(listed)
    values = {
        "hospital": samples.HOSPITAL,
        "site": samples.SITE,
        "pack_id": samples.PACK_ID,
        "kind": kind,
        "opened_ms": 1,
        "sealed_ms": 2,
        "scanner_version": 3,
        "root": root,
        "instances": tuple(held),
        "events": tuple(listed),
    }
    return Manifest(**(values | changes))


@settings(max_examples=60)
@given(st.lists(instances, max_size=6), times, times)
def test_property_a_manifest_of_instances_is_read_back(held, opened_ms, sealed_ms):
    value = manifest_of(PackKind.INSTANCES, held, opened_ms=opened_ms, sealed_ms=sealed_ms)
    assert Manifest.decode(value.encode()) == value


@settings(max_examples=60)
@given(st.lists(events, max_size=6))
def test_property_a_manifest_of_events_is_read_back(listed):
    value = manifest_of(PackKind.EVENTS, listed=listed)
    assert Manifest.decode(value.encode()) == value


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        Manifest.decode(data)


SAMPLE = manifest_of(PackKind.INSTANCES, [samples.instance(number) for number in range(4)])


def altered(change):
    fields = json.loads(SAMPLE.encode())
    change(fields)
    return json.dumps(fields).encode()


def test_patient_study_and_series_stand_once_each():
    fields = json.loads(SAMPLE.encode())
    counts = [len(fields[table]) for table in ("patients", "studies", "series", "origins")]
    assert counts == [1, 1, 2, 1]
    assert [entry["series"] for entry in fields["instances"]] == [0, 0, 1, 1]


def test_contradicting_headers_of_one_study_are_both_kept():
    one = samples.instance(0)
    other = replace(one, header=replace(one.header, patient=(), character_set=b""))
    value = manifest_of(PackKind.INSTANCES, [one, other, one])
    assert Manifest.decode(value.encode()) == value


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.pop("instances"),
        lambda f: f.pop("events"),
        lambda f: f["instances"].pop(),
        lambda f: f["instances"][0].update(series=2),
        lambda f: f["instances"][0].update(origin=1),
        lambda f: f["instances"][0].update(salt="AAAA"),
        lambda f: f["instances"][0].update(sop_instance="1.2.826.0.1.9"),
        lambda f: f["instances"][0].update(dataset_sha256="00" * 32),
        lambda f: f["instances"][0]["elements"].append(["00100010", "LO"]),
        lambda f: f["instances"][0]["elements"].append(["0010001", "LO", "AA=="]),
        lambda f: f["instances"][0]["elements"].append(["00100010", 1, "AA=="]),
        lambda f: f["instances"][0]["elements"].append(["00100010", "LO", "?"]),
        lambda f: f["instances"][0]["elements"].append("abc"),
        lambda f: f["series"][0].update(study=1),
        lambda f: f["studies"][0].update(patient=-1),
        lambda f: f["patients"][0].pop("character_set"),
        lambda f: f.update(kind="events"),
        lambda f: f.update(root="00" * 32),
        lambda f: f.update(suite="none"),
        lambda f: f.update(hospital="../other"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_damaged(change):
    with pytest.raises(Damaged):
        Manifest.decode(altered(change))


def test_unknown_fields_are_ignored():
    assert Manifest.decode(altered(lambda f: f.update(later=1))) == SAMPLE


def test_the_pack_root_is_over_salt_uid_and_hash_in_order_of_sequence():
    one, two = samples.instance(1, dataset=b"one"), samples.instance(2, dataset=b"two")
    entries = [
        hashlib.sha256(
            held.salt + held.sop_instance_uid.encode() + hashlib.sha256(dataset).digest()
        ).digest()
        for held, dataset in ((one, b"one"), (two, b"two"))
    ]
    assert manifest.pack_root([two, one]) == merkle.tree_hash(entries)
