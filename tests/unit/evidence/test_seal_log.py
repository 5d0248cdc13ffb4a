import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harmoni.backends.filesystem import Filesystem
from harmoni.evidence.seal_log import SealLog, SealRecord
from harmoni.model.errors import Damaged
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.sealing import document


def record(number):
    pack_id = PackId.build(time_ms=number, site_number=1, random=b"\0" * 9)
    return SealRecord(
        kind="instances",
        pack_id=pack_id,
        size_bytes=number,
        sha256=b"\1" * 32,
        root=b"\2" * 32,
        sealed_at_ms=number,
    )


@pytest.fixture
def log(tmp_path):
    return SealLog(Filesystem(tmp_path), HospitalId("hospital-a"), SiteId("dc1"))


def test_records_are_numbered_without_gaps_and_read_back_equal(log):
    assert [0, 1, 2] == [log.append(record(number)) for number in range(3)]
    assert [(number, record(number)) for number in range(3)] == list(log.records())


def test_sealers_at_once_never_share_a_number(log):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda number: log.append(record(number)), range(40)))

    assert sorted(numbers) == list(range(40))
    assert len(list(log.records())) == 40


def test_a_pack_is_found_by_its_id(log):
    log.append(record(1))
    log.append(record(2))

    assert log.find(record(1).pack_id) == record(1)
    assert log.find(record(3).pack_id) is None


def test_a_pack_is_not_looked_for_among_records_from_before_it_was_opened(log, tmp_path):
    """A crash leaves hundreds of packs without a record, and the log of years has millions."""
    day_ms = 86_400_000
    for day in range(5):
        log.append(record(day * day_ms))
    (tmp_path / "log/hospital-a/dc1/000000000001.json").write_bytes(b"never read")
    (tmp_path / "log/hospital-a/dc1/000000000003.json").unlink()

    assert log.find(record(4 * day_ms + 1).pack_id) is None
    assert log.find(record(2 * day_ms).pack_id) == record(2 * day_ms)
    with pytest.raises(Damaged):
        log.find(record(1 * day_ms).pack_id)


def test_packs_without_a_record_are_looked_for_in_records_that_are_read_once(log, monkeypatch):
    for number in range(20):
        log.append(record(number))
    read = []
    real = log._files.read
    monkeypatch.setattr(log._files, "read", lambda name: read.append(name) or real(name))

    assert [log.find(record(number).pack_id) for number in range(20, 25)] == [None] * 5
    assert len(read) == 20


def test_what_was_recorded_from_a_number_on_can_be_read_alone(log, tmp_path):
    for number in range(5):
        log.append(record(number))
    (tmp_path / "log/hospital-a/dc1/000000000003.json").unlink()

    assert log.end() == 5
    assert list(log.readable(2)) == [record(2), record(4)]


def test_a_record_that_another_process_has_written_is_found(log, tmp_path):
    other = SealLog(Filesystem(tmp_path), HospitalId("hospital-a"), SiteId("dc1"))
    for number in range(3):
        other.append(record(number))

    assert log.find(record(1).pack_id) == record(1)


def test_a_missing_number_is_damage(log, tmp_path):
    for number in range(3):
        log.append(record(number))
    (tmp_path / "log/hospital-a/dc1/000000000001.json").unlink()

    with pytest.raises(Damaged, match="record 1 is missing"):
        list(log.records())


def test_a_record_that_cannot_be_read_is_damage(log, tmp_path):
    log.append(record(0))
    (tmp_path / "log/hospital-a/dc1/000000000000.json").write_bytes(b"{}")

    with pytest.raises(Damaged):
        log.find(record(0).pack_id)


def altered(root, number, **fields):
    path = root / f"log/hospital-a/dc1/{number:012d}.json"
    path.write_bytes(document.encode(json.loads(path.read_bytes()) | fields))


def test_a_record_under_another_number_is_damage(log, tmp_path):
    log.append(record(0))
    altered(tmp_path, 0, sequence=1)

    with pytest.raises(Damaged, match="another number"):
        list(log.records())


def test_a_record_of_an_unknown_kind_is_counted_and_passed_over(log, tmp_path):
    for number in range(3):
        log.append(record(number))
    altered(tmp_path, 1, kind="later")

    assert list(log.records()) == [(0, record(0)), (2, record(2))]
    assert list(log.readable()) == [record(0), record(2)]
    assert log.find(record(0).pack_id) == record(0)
