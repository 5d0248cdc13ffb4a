import os
import tarfile

import pytest

import house as houses
from harmoni.backends.filesystem import File
from harmoni.holdings import listing
from harmoni.model.errors import Damaged, StorageFailed
from harmoni.vault import reader

MIB = 1 << 20


def open_pack(house):
    [path] = house.files("packs/hospital-a/open/*.tar")
    return path


def test_a_finished_pack_is_a_tar_in_its_place_with_a_log_record(house):
    for number in (1, 2, 3):
        house.store(houses.data_set(number), number)
    [finished] = house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    [(sequence, record)] = house.holding.log.records()

    assert (0, finished.sealed) == (sequence, record)
    assert path.name == f"{finished.pack_id}.tar"
    assert path.parent.name == finished.pack_id.folder
    assert path.stat().st_size == record.size_bytes
    assert path.stat().st_mode & 0o777 == 0o400
    assert house.files("packs/hospital-a/open/*") == []
    with tarfile.open(path) as archive:
        assert archive.getnames() == [
            "README",
            "i/00000000",
            "i/00000001",
            "i/00000002",
            "manifest",
            "public.json",
            "footer",
        ]


def test_instances_come_back_from_sealed_packs_in_other_processes(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    other = house.again()

    assert other.recall(other.versions(1)[0]) == houses.data_set(1)
    assert other.versions(1)[0].pack_state.value == "sealed"


def test_a_pack_that_a_worker_holds_is_left_alone(house):
    house.store(houses.data_set(1), 1)

    assert house.again().finish() == []


def test_a_pack_without_a_lock_is_never_seen_under_its_name(house, monkeypatch):
    seen = []
    lock = File.lock

    def look(file):
        seen.append([path.suffix for path in house.files("packs/hospital-a/open/*")])
        return lock(file)

    monkeypatch.setattr(File, "lock", look)
    house.store(houses.data_set(1), 1)

    assert seen == [[".new"]]
    assert open_pack(house).stat().st_size > 0


def test_what_a_maker_left_before_the_lock_is_removed_after_a_minute(house):
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    left = path.rename(path.with_suffix(".new"))
    house.finish()
    assert left.exists()
    house.clock.advance(61)
    house.finish()
    assert not left.exists()


def test_the_mark_of_a_failed_write_goes_with_its_pack(house):
    house.store(houses.data_set(1), 1)
    open_pack(house).with_suffix(".fenced").touch()
    house.seal()
    assert house.files("packs/hospital-a/open/*") == []


def test_a_torn_tail_is_cut_and_everything_acknowledged_is_kept(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    house.holding.recorder.packs.retire_all()
    with open_pack(house).open("ab") as file:
        file.write(os.urandom(700))
    [finished] = house.finish()

    assert (finished.cut_bytes, finished.damaged) == (700, ())
    assert house.recall(house.versions(2)[0]) == houses.data_set(2)


def test_a_member_torn_at_any_byte_is_cut_without_a_trace(house):
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    whole = path.stat().st_size
    writer = house.versions(1)[0]
    # A second member that reached the disk without being acknowledged, cut at various places.
    house.store(houses.data_set(2), 2)
    both = path.read_bytes()
    house.holding.recorder.packs.retire_all()
    with house.holding.index.write() as connection:
        connection.execute("DELETE FROM instance WHERE sequence = 1")
    for end in [whole, whole + 1, whole + 511, whole + 512, whole + 600, len(both) - 513]:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(both[:end])
        with house.site.files.open(str(path.relative_to(house.root))) as file:
            members = [member.name for member in reader.walk(file)]
        assert members == ["README", "i/00000000"]
    [finished] = house.finish()

    assert finished.adopted == 0
    assert house.versions(2) == []
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)
    assert writer.location == house.versions(1)[0].location


def test_a_whole_member_without_a_row_is_adopted(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    with house.holding.index.write() as connection:
        connection.execute("DELETE FROM instance WHERE sequence = 1")
    assert house.versions(2) == []
    [finished] = house.seal()

    assert finished.adopted == 1
    assert house.recall(house.versions(2)[0]) == houses.data_set(2)


@pytest.mark.parametrize("number", [1, 2])
def test_an_acknowledged_member_that_does_not_verify_is_flagged_and_never_cut(house, number):
    for each in (1, 2):
        house.store(houses.data_set(each), each)
    location = house.versions(number)[0].location
    house.holding.recorder.packs.retire_all()
    path = open_pack(house)
    with path.open("r+b") as file:
        file.seek(location.offset + 100)
        file.write(b"\xff\xff\xff")
    [finished] = house.finish()

    assert [held.sop_instance_uid for held in finished.damaged] == [houses.uid(number)]
    assert [held.damaged for held in house.versions(number)] == [True]
    other = 3 - number
    assert house.recall(house.versions(other)[0]) == houses.data_set(other)
    with pytest.raises(Damaged):
        house.recall(house.versions(number)[0])


def test_a_pack_with_nothing_in_it_goes(house):
    incoming = house.begin()
    houses.pour(incoming, houses.data_set(pixels=bytes(5 * MIB)))
    incoming.abandon()
    [finished] = house.seal()

    assert finished.sealed is None
    assert house.files("packs/hospital-a/*/*.tar") == []


def test_part_files_of_a_dead_worker_go_with_its_pack(house):
    house.store(houses.data_set(1), 1)
    incoming = house.begin(2)
    houses.pour(incoming, houses.data_set(2, pixels=bytes(6 * MIB)))
    assert len(house.files("**/*.part")) == 1
    # The worker dies: its descriptors close, nothing else happens.
    house.holding.recorder.packs.enter(incoming._scanner.header(), houses.CT).writer.close()
    house.finish()

    assert house.files("**/*.part") == []
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


@pytest.mark.parametrize("call", ["rename", "fchmod", "link"])
def test_finishing_that_was_interrupted_is_repeated_with_one_log_record(house, monkeypatch, call):
    house.store(houses.data_set(1), 1)
    house.holding.recorder.packs.retire_all()

    def die(*_):
        raise OSError(5, "planted")

    monkeypatch.setattr(os, call, die)
    _, failures = house.holding.sealer.finish_free()
    assert len(failures) == 1
    monkeypatch.undo()
    [finished] = house.again().finish()

    assert [finished.sealed] == [record for _, record in house.holding.log.records()]
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


def test_a_tail_that_reads_back_wrongly_is_not_believed(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    house.holding.recorder.packs.retire_all()
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: real(fd, [bytes(len(views[0]))], at))
    with pytest.raises(StorageFailed, match="reads back differently"):
        house.holding.sealer.finish(house.versions(1)[0].location.pack_id)
    monkeypatch.undo()

    [finished] = house.finish()
    assert finished.damaged == ()


def test_the_manifest_says_what_the_index_says(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    with house.site.files.open(str(path.relative_to(house.root))) as file:
        sealed = listing.read(file, house.holding.keyring)

    for instance in sealed.manifest.instances:
        [held] = house.versions(int(instance.sop_instance_uid.rpartition(".")[2]))
        assert (instance.identity, instance.location) == (held.identity, held.location)
        assert instance.origin == held.origin
        assert instance.received_at_ms == held.received_at_ms
