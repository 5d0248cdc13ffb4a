import os
import tarfile
from pathlib import Path

import pytest

import house as houses
from harmoni.backends.filesystem import File
from harmoni.dicom import identifier
from harmoni.dicom.identifier import QueryLevel
from harmoni.holdings import listing
from harmoni.index import equality, packs
from harmoni.model.errors import Damaged, HarmoniError, StorageFailed
from harmoni.sealing import event
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

    def look(file, **given):
        if file.name.startswith("packs/"):
            seen.append([path.suffix for path in house.files("packs/hospital-a/open/*")])
        return lock(file, **given)

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


def test_a_pack_of_a_newer_version_is_neither_sealed_nor_dropped(house):
    """After a step back to an older program: no row tells that anything of it counts."""
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    house.holding.recorder.packs.retire_all()
    with house.holding.index.write() as connection:
        connection.execute("DELETE FROM instance")
    newer = path.read_bytes().replace(b"harmoni-pack 1\n", b"harmoni-pack 2\n", 1)
    path.write_bytes(newer)
    done, failures = house.holding.sealer.finish_free()

    assert done == []
    assert "has version 2, this program knows 1" in failures[path.stem]
    assert path.read_bytes() == newer


def test_an_event_of_a_newer_version_is_not_cut_from_its_pack(house, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(event, "VERSION", 2)
        house.holding.events.append("hold", {"study": "1.2"}, subject="1.2")
    house.holding.events.retire()
    path = open_pack(house)
    newer = path.read_bytes()
    done, failures = house.holding.sealer.finish_free()

    assert done == []
    assert "has version 2, this program knows 1" in failures[path.stem]
    assert path.read_bytes() == newer


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


@pytest.mark.parametrize("call", ["link", "unlink"])
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


def planted(monkeypatch, call, error):
    """Let the next call of that name fail."""
    real = getattr(os, call)
    failures = iter([OSError(error, "planted")])

    def fail_once(*args):
        for failure in failures:
            raise failure
        return real(*args)

    monkeypatch.setattr(os, call, fail_once)


def state(house):
    with house.holding.index.reader() as connection:
        return equality.digest(connection)


@pytest.mark.parametrize("error", [5, 28], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_what_a_fenced_pack_acknowledged_is_encrypted_anew_into_a_new_pack(
    house, monkeypatch, call, error
):
    sets = {1: houses.data_set(1), 2: houses.data_set(2, pixels=os.urandom(5 * MIB))}
    for number, data in sets.items():
        house.store(data, number)
    old = house.versions(1)[0].location.pack_id
    planted(monkeypatch, call, error)
    with pytest.raises(HarmoniError):
        house.store(houses.data_set(3), 3)
    monkeypatch.undo()
    [finished] = house.seal()

    assert finished.pack_id == old.successor()
    assert finished.damaged == ()
    for number, data in sets.items():
        [held] = house.versions(number)
        assert (held.location.pack_id, held.pack_state.value) == (finished.pack_id, "sealed")
        assert house.recall(held) == data
    # What was written whole but not acknowledged is adopted: nobody can say that it was not.
    assert len(house.versions(3)) == (call == "fdatasync")
    assert house.files("packs/hospital-a/open/*") == []
    assert not house.files(f"packs/hospital-a/p/*/{old}.tar")


def test_an_index_that_followed_a_fenced_pack_equals_its_rebuild(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2, series="1.2.3"), 2)
    planted(monkeypatch, "fdatasync", 5)
    with pytest.raises(StorageFailed):
        house.store(houses.data_set(3), 3)
    monkeypatch.undo()
    house.store(houses.data_set(3), 3)
    house.seal()
    before = state(house)

    assert house.holding.rebuilder().rebuild().equal is True
    assert before == state(house)


def test_a_fenced_pack_is_never_flushed_again(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    planted(monkeypatch, "fdatasync", 5)
    with pytest.raises(StorageFailed):
        house.store(houses.data_set(2), 2)
    house.holding.recorder.packs.retire_all()
    monkeypatch.undo()
    flushed, real = [], os.fdatasync
    monkeypatch.setattr(
        os,
        "fdatasync",
        lambda fd: (flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1],
    )
    house.finish()

    assert flushed
    assert str(path) not in flushed


def test_a_fenced_pack_without_a_member_goes(house, monkeypatch):
    house.holding.keyring.mint()
    planted(monkeypatch, "pwritev", 5)
    with pytest.raises(HarmoniError):
        house.store(houses.data_set(1), 1)
    monkeypatch.undo()
    house.seal()

    assert house.versions(1) == []
    assert house.files("packs/hospital-a/open/*.fenced") == []


def test_a_fenced_pack_with_a_damaged_member_is_finished_where_it_lies(house, monkeypatch):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    planted(monkeypatch, "fdatasync", 5)
    with pytest.raises(StorageFailed):
        house.store(houses.data_set(3), 3)
    monkeypatch.undo()
    with open_pack(house).open("r+b") as file:
        file.seek(house.versions(1)[0].location.offset + 100)
        file.write(b"\xff\xff\xff")
    [finished] = house.seal()

    assert [held.sop_instance_uid for held in finished.damaged] == [houses.uid(1)]
    assert house.recall(house.versions(2)[0]) == houses.data_set(2)


def test_a_pack_whose_finisher_cannot_flush_is_copied_at_the_next_attempt(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    old = house.versions(1)[0].location.pack_id
    house.holding.recorder.packs.retire_all()
    planted(monkeypatch, "fdatasync", 5)
    _, failures = house.holding.sealer.finish_free()
    monkeypatch.undo()
    [finished] = house.finish()

    assert list(failures) == [str(old)]
    assert finished.pack_id == old.successor()
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


def test_events_of_a_fenced_pack_keep_their_own_keys(house, monkeypatch):
    for subject in ("1.2", "1.3"):
        house.holding.events.record("hold", {"study": subject}, subject=subject)
    before = state(house)
    planted(monkeypatch, "pwritev", 5)
    with pytest.raises(StorageFailed):
        house.holding.events.record("hold", {"study": "1.4"}, subject="1.2")
    monkeypatch.undo()
    house.holding.events.retire()
    [finished] = house.finish()
    with house.holding.index.reader() as connection:
        kept = connection.execute("SELECT body FROM fact ORDER BY sequence").fetchall()

    assert finished.sealed.kind == "events"
    assert ['{"study": "1.2"}', '{"study": "1.3"}'] == [body for (body,) in kept]
    assert before != state(house)
    assert house.holding.rebuilder().rebuild().equal is True


def test_a_salvage_that_was_cut_short_loses_nothing_and_shows_nothing_twice(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    planted(monkeypatch, "fdatasync", 5)
    with pytest.raises(StorageFailed):
        house.store(houses.data_set(2), 2)
    monkeypatch.undo()
    house.holding.recorder.packs.retire_all()

    def die(*_):
        raise StorageFailed("planted")

    monkeypatch.setattr(packs, "replaced", die)
    _, failures = house.holding.sealer.finish_free()
    assert len(failures) == 1
    monkeypatch.undo()
    house.finish()
    copies = house.versions(1)

    assert len({held.identity for held in copies}) == 1
    assert [house.recall(held) for held in copies] == [houses.data_set(1)] * len(copies)
    query = identifier.compose_query(
        "STUDY",
        QueryLevel.IMAGE,
        {0x0020000D: houses.STUDY, 0x0020000E: houses.SERIES, 0x00080018: ""},
    )
    # The first one, and the second, which was written whole: each of them once.
    assert len(list(house.holding.find(query))) == 2
    assert house.holding.rebuilder().rebuild().equal is True


@pytest.mark.parametrize(
    "left", [".{}.fenced.0123456789abcdef.tmp", "{}.fenced", "{}.00000003.part"]
)
def test_what_a_crash_left_beside_a_pack_is_no_trouble_and_goes_once_the_pack_is_gone(house, left):
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    house.seal()
    orphan = path.with_name(left.format(path.stem))
    orphan.touch()

    assert house.finish() == []
    assert not orphan.exists()


def test_a_mark_that_a_writer_is_making_is_left_to_it(house):
    house.store(houses.data_set(1), 1)
    path = open_pack(house)
    being_made = path.with_name(f".{path.stem}.fenced.0123456789abcdef.tmp")
    being_made.touch()

    assert house.finish() == []
    assert being_made.exists()


def test_nothing_is_sealed_before_it_was_opened_though_the_clock_was_set_back(house):
    house.store(houses.data_set())
    house.clock.set_back(3600)

    [done] = house.seal()

    assert done.sealed.sealed_at_ms == done.pack_id.time_ms
