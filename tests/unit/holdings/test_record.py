import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import house as houses
from harmoni.holdings import chunks, spill
from harmoni.holdings.chunks import CHUNK_BYTES, ChunkPool
from harmoni.holdings.open_packs import PackLimits
from harmoni.model.errors import InvalidInput, OutOfResources, StorageFailed

MIB = 1 << 20


@pytest.mark.parametrize("step", [1, 7, 1 << 17])
def test_what_was_recorded_comes_back_byte_for_byte(house, step):
    data = houses.data_set(pixels=os.urandom(3000))
    house.store(data, step=step)

    [held] = house.versions()

    assert house.recall(held) == data


@pytest.mark.parametrize(
    "size",
    [CHUNK_BYTES - 400, CHUNK_BYTES, CHUNK_BYTES + 2, 2 * CHUNK_BYTES, 4 * MIB - 400, 5 * MIB],
)
def test_every_size_comes_back_byte_for_byte(house, size):
    data = houses.data_set(pixels=os.urandom(size))
    house.store(data)

    assert house.recall(house.versions()[0]) == data
    assert house.files("packs/hospital-a/open/*.part") == []


def test_no_plaintext_reaches_the_disk(house):
    """Small, spilled and given-up instances, keys and index: the planted name is in no file."""
    house.store(houses.data_set(1))
    house.store(houses.data_set(2, pixels=bytes(5 * MIB)), 2)
    incoming = house.begin(3)
    houses.pour(incoming, houses.data_set(3, pixels=bytes(6 * MIB)))
    planted = houses.PLANTED_NAME.encode()

    found = [
        path for path in house.files("**/*") if path.is_file() and planted in path.read_bytes()
    ]

    assert found == []
    assert house.files("**/*.part") != []
    incoming.abandon()


def test_a_pack_is_let_go_when_the_first_write_of_a_large_instance_fails(house, monkeypatch):
    house.store(houses.data_set(1), 1)

    def full(*_):
        raise OutOfResources("no space")

    monkeypatch.setattr(spill.Spill, "_write", full)
    with pytest.raises(OutOfResources):
        house.store(houses.data_set(2, pixels=bytes(5 * MIB)), 2)

    assert house.files("packs/hospital-a/open/*.part") == []
    assert len(house.seal()) == 1


def test_the_same_object_again_stores_nothing(house):
    data = houses.data_set()
    house.store(data)
    size = house.files("packs/hospital-a/open/*.tar")[0].stat().st_size
    house.store(data)

    assert len(house.versions()) == 1
    assert house.files("packs/hospital-a/open/*.tar")[0].stat().st_size == size


def test_the_same_object_again_heals_a_copy_that_is_flagged(house):
    data = houses.data_set()
    house.store(data)
    with house.holding.index.write() as connection:
        from harmoni.index import packs

        packs.flag_damaged(connection, houses.uid(1), house.versions()[0].location)
    house.store(data)

    assert [held.damaged for held in house.versions()] == [True, False]


def test_another_object_under_the_same_uid_is_kept_beside_the_first(house):
    first, second = houses.data_set(pixels=b"\1" * 10), houses.data_set(pixels=b"\2" * 10)
    house.store(first)
    house.store(second)

    assert [first, second] == [house.recall(held) for held in house.versions()]


@pytest.mark.parametrize(
    "data",
    [
        houses.data_set(2),
        houses.data_set(1, sop_class="1.2.840.10008.5.1.4.1.1.4"),
        b"",
        b"\0",
        os.urandom(100),
    ],
    ids=["another instance", "another class", "empty", "one byte", "noise"],
)
def test_a_data_set_that_is_not_what_was_announced_is_refused_and_leaves_nothing(house, data):
    with pytest.raises(InvalidInput):
        house.store(data)

    assert house.versions(1) == house.versions(2) == []
    assert house.files("packs/hospital-a/open/*") == []


def test_an_instance_without_a_study_goes_to_the_pack_of_its_class(house):
    for number in (1, 2):
        house.store(
            houses.data_set(number, study=None, sop_class=houses.PALETTE),
            number,
            sop_class=houses.PALETTE,
        )
    house.store(houses.data_set(3), 3)

    packs = [house.versions(number)[0].location.pack_id for number in (1, 2, 3)]

    assert packs[0] == packs[1] != packs[2]


def test_a_study_has_one_pack_and_another_study_another(house):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2), 2)
    house.store(houses.data_set(3, study="1.2.3.4"), 3)

    packs = [house.versions(number)[0].location.pack_id for number in (1, 2, 3)]

    assert packs[0] == packs[1] != packs[2]


def test_a_large_instance_given_up_half_way_leaves_no_file_and_no_row(house):
    incoming = house.begin()
    houses.pour(incoming, houses.data_set(pixels=bytes(6 * MIB))[: 5 * MIB])
    assert len(house.files("packs/hospital-a/open/*.part")) == 1

    incoming.abandon()
    incoming.abandon()

    assert house.files("packs/hospital-a/open/*.part") == []
    assert house.versions() == []
    assert [each.sealed for each in house.seal()] == [None]


def test_a_giant_gets_a_pack_of_its_own_and_comes_back(house, monkeypatch):
    monkeypatch.setattr(spill, "GIANT_BYTES", 8 * MIB)
    house.store(houses.data_set(1), 1)
    data = houses.data_set(2, pixels=os.urandom(11 * MIB))
    house.store(data, 2)
    first, giant = house.versions(1)[0], house.versions(2)[0]

    assert first.location.pack_id != giant.location.pack_id
    assert house.recall(giant) == data
    assert house.files("**/*.part") == []
    house.seal()
    assert house.recall(house.again().versions(2)[0]) == data


def test_a_large_instance_whose_study_comes_late_gets_a_pack_of_its_own(house):
    house.store(houses.data_set(1), 1)
    data = houses.data_set(2, before_study=os.urandom(5 * MIB))
    house.store(data, 2)
    held = house.versions(2)[0]

    assert houses.STUDY == held.study_instance_uid
    assert held.location.pack_id != house.versions(1)[0].location.pack_id
    assert house.recall(held) == data


def test_without_memory_for_small_instances_they_go_to_disk_as_they_arrive(tmp_path):
    house = houses.make_house(tmp_path, chunks=ChunkPool(2 * chunks.CHUNK_BYTES))
    waiting = [house.begin(number) for number in (1, 2)]
    for incoming in waiting:
        incoming.reserve(10)
    data = houses.data_set(3, pixels=os.urandom(2 * MIB))
    house.store(data, 3)

    assert house.recall(house.versions(3)[0]) == data
    for incoming in waiting:
        incoming.abandon()


def test_many_senders_at_once_share_packs_and_nothing_is_lost(house):
    sets = {number: houses.data_set(number, pixels=os.urandom(2000)) for number in range(1, 121)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: house.store(item[1], item[0]), sets.items()))

    assert [houses.STUDY] * 120 == [house.versions(n)[0].study_instance_uid for n in sets]
    assert all(house.recall(house.versions(number)[0]) == sets[number] for number in sets)
    assert len(house.files("packs/hospital-a/open/*.tar")) == 1


def test_four_senders_of_the_same_instance_are_all_answered_and_it_is_found_once(house):
    data = houses.data_set()
    start = threading.Barrier(4)

    def send(_):
        start.wait()
        house.store(data)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))

    assert {held.identity for held in house.versions()} == {house.versions()[0].identity}


def test_success_is_answered_only_after_fsync_of_the_pack_and_the_row_after_that(
    house, monkeypatch
):
    acts = []
    house.store(houses.data_set(1), 1)
    for name in ("pwritev", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, real=real, name=name: (acts.append(name), real(*args))[1]
        )
    index = house.holding.index
    real_write = index.write
    monkeypatch.setattr(index, "write", lambda **kw: (acts.append("row"), real_write(**kw))[1])
    house.store(houses.data_set(2), 2)

    assert acts == ["pwritev", "fdatasync", "row"]


def test_the_first_instance_of_a_pack_waits_for_its_name_and_its_key(house, monkeypatch):
    acts = []
    for name in ("link", "fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, real=real, name=name: (acts.append(name), real(*args))[1]
        )
    house.store(houses.data_set())

    # Epoch key and key block: each flushed, linked, its folder flushed; then the pack and its name.
    assert acts[-2:] == ["fdatasync", "fsync"]
    assert acts[:-2].count("link") == 2
    assert acts.index("link") > acts.index("fdatasync")


@pytest.mark.parametrize(
    ("error", "expected"), [(28, OutOfResources), (5, StorageFailed)], ids=["ENOSPC", "EIO"]
)
@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_failed_write_or_flush_is_never_success_and_fences_the_pack(
    house, monkeypatch, call, error, expected
):
    house.store(houses.data_set(1), 1)
    real = getattr(os, call)
    failures = iter([OSError(error, "planted")])

    def fail_once(*args):
        for failure in failures:
            raise failure
        return real(*args)

    monkeypatch.setattr(os, call, fail_once)
    with pytest.raises(expected):
        house.store(houses.data_set(2), 2)
    monkeypatch.undo()

    assert house.versions(2) == []
    house.store(houses.data_set(2), 2)
    first, second = house.versions(1)[0], house.versions(2)[0]
    assert first.location.pack_id != second.location.pack_id
    assert house.recall(first) == houses.data_set(1)
    assert house.recall(second) == houses.data_set(2)


def test_packs_are_let_go_when_quiet_old_big_or_asked_for(tmp_path):
    house = houses.make_house(
        tmp_path,
        limits=PackLimits(quiet_s=10, max_age_s=60, max_bytes=1 * MIB, commitment_quiet_s=2),
    )
    packs = house.holding.recorder.packs
    house.store(houses.data_set(1), 1)
    assert packs.retire_due() == 0
    house.clock.advance(9)
    house.store(houses.data_set(2), 2)
    house.clock.advance(9)
    assert packs.retire_due() == 0
    house.clock.advance(1)
    assert packs.retire_due() == 1

    for _ in range(9):
        house.store(houses.data_set(3), 3)
        house.store(houses.data_set(10 + _), 10 + _)
        house.clock.advance(7)
    assert packs.retire_due() == 1

    house.store(houses.data_set(30, pixels=bytes(MIB)), 30)
    house.store(houses.data_set(31), 31)
    assert house.versions(30)[0].location.pack_id != house.versions(31)[0].location.pack_id

    from harmoni.index import packs as index_packs

    with house.holding.index.write() as connection:
        index_packs.request_seal(
            connection, [house.versions(31)[0].location.pack_id], house.clock.now_ms()
        )
    assert packs.retire_due() == 0
    house.clock.advance(2)
    assert packs.retire_due() == 1


def test_of_too_many_open_packs_the_longest_quiet_one_is_let_go(tmp_path):
    house = houses.make_house(tmp_path, limits=PackLimits(max_open=2))
    for number in (1, 2, 3):
        house.store(houses.data_set(number, study=f"1.2.3.{number}"), number)
        house.clock.advance(1)

    assert house.holding.recorder.packs.retire_due() == 1
    house.finish()
    assert ["sealed", "open", "open"] == [
        house.versions(number)[0].pack_state.value for number in (1, 2, 3)
    ]
