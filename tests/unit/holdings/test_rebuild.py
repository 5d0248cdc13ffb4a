import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import house as houses
from harmoni.dicom import identifier
from harmoni.dicom.commitment_data import Reference
from harmoni.dicom.identifier import QueryLevel
from harmoni.holdings import rebuild, seal
from harmoni.holdings.rebuild import Rebuilder
from harmoni.index import equality, packs
from harmoni.index.database import Database
from harmoni.index.packs import PackState
from harmoni.model.errors import Busy
from harmoni.model.header import STUDY_DATE
from harmoni.sealing import keys


def every_study():
    return identifier.compose_query("STUDY", QueryLevel.STUDY, {0x0020000D: ""})


def digest(house):
    with house.holding.index.reader() as connection:
        return equality.digest(connection)


def fill(house):
    for number in (1, 2, 3):
        house.store(houses.data_set(number), number)
    house.store(houses.data_set(1, pixels=b"another version"), 1, calling="CT_B")
    house.seal()
    house.store(houses.data_set(4, series="1.2.3", name="ΠΑΠΑΔΟΠΟΥΛΟΣ"), 4)
    house.store(
        houses.data_set(5, study=None, sop_class=houses.PALETTE), 5, sop_class=houses.PALETTE
    )
    house.holding.events.record("hold", {"study": houses.STUDY}, subject=houses.STUDY)


def test_a_rebuild_from_packs_and_keys_gives_an_equal_index(house):
    fill(house)
    before = digest(house)
    seen = []
    report = house.holding.rebuilder().rebuild(lambda done, total: seen.append((done, total)))

    assert report.equal is True
    assert report.unreadable == ()
    assert before == digest(house)
    assert seen[-1] == (1, 1)
    assert house.recall(house.versions(4)[0]) == houses.data_set(
        4, series="1.2.3", name="ΠΑΠΑΔΟΠΟΥΛΟΣ"
    )


def test_a_rebuild_without_the_log_is_equal_too(house):
    fill(house)
    house.seal()
    before = digest(house)
    for path in house.files("log/hospital-a/dc1/*.json"):
        path.unlink()

    assert house.holding.rebuilder().rebuild().equal is True
    assert before == digest(house)


def test_a_lost_index_is_rebuilt_from_the_store(house):
    fill(house)
    house.seal()
    house.holding.events.retire()
    house.finish()
    before = digest(house)
    for path in house.files("index/hospital-a/*.sqlite*"):
        path.unlink()
    fresh = house.again("dc1-n1-cli")

    assert fresh.holding.rebuilder().rebuild().equal is None
    assert before == digest(fresh)


def test_an_index_is_rebuilt_when_its_folder_is_lost_too(house):
    fill(house)
    house.seal()
    house.holding.events.retire()
    house.finish()
    before = digest(house)
    shutil.rmtree(house.root / "index")
    fresh = house.again("dc1-n1-cli")

    assert fresh.holding.rebuilder().rebuild().sound
    assert before == digest(fresh)


def test_workers_go_on_recording_into_the_rebuilt_index(house):
    house.store(houses.data_set(1), 1)
    operator = house.again("dc1-n1-cli")
    operator.holding.rebuilder().rebuild()
    house.store(houses.data_set(2), 2)

    assert operator.recall(operator.versions(2)[0]) == houses.data_set(2)
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


def test_a_pack_that_cannot_be_read_is_named_and_the_rest_is_rebuilt(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    [broken] = house.files("packs/hospital-a/p/*/*.tar")
    house.store(houses.data_set(2, study="1.2.3"), 2)
    house.seal()
    broken.chmod(0o600)
    broken.write_bytes(os.urandom(5000))
    report = house.holding.rebuilder().rebuild()

    assert [broken.name in text for text in report.unreadable] == [True]
    assert report.equal is False
    assert not report.sound
    # What was acknowledged is never forgotten: its row is taken over and flagged.
    assert [(held.damaged, held.pack_state.value) for held in house.versions(1)] == [
        (True, "damaged")
    ]
    assert house.recall(house.versions(2)[0]) == houses.data_set(2, study="1.2.3")


def test_a_pack_that_is_sealed_between_the_two_looks_is_not_missed(house, monkeypatch):
    house.store(houses.data_set())
    house.seal()
    [sealed] = house.files("packs/hospital-a/p/*/*.tar")
    waiting = house.root / "packs/hospital-a/open" / sealed.name
    sealed.rename(waiting)
    real, looks = Rebuilder._read_sealed, []

    def read_sealed(self, fresh, progress):
        real(self, fresh, progress)
        looks.append(fresh)
        if len(looks) == 2:
            waiting.rename(sealed)

    monkeypatch.setattr(Rebuilder, "_read_sealed", read_sealed)

    assert house.holding.rebuilder().rebuild().equal is True
    assert house.recall(house.versions()[0]) == houses.data_set()


def test_what_a_living_writer_has_not_flushed_gets_no_row_before_it_is(house, monkeypatch):
    house.store(houses.data_set())
    [path] = house.files("packs/hospital-a/open/*.tar")
    acts, real = [], os.fdatasync
    monkeypatch.setattr(
        os,
        "fdatasync",
        lambda fd: (acts.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd))[1],
    )
    house.holding.rebuilder().rebuild()

    assert path in acts


def test_the_rows_for_a_lost_index_are_flushed_before_it_is_live(house, monkeypatch):
    fill(house)
    for path in house.files("index/hospital-a/*.sqlite*"):
        path.unlink()
    fresh, acts = house.again("dc1-n1-cli"), []
    for owner, name in ((Database, "flush"), (Rebuilder, "_catch_up"), (rebuild, "make_live")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner,
            name,
            lambda *args, real=real, name=name: (acts.append(name), real(*args))[1],
        )
    fresh.holding.rebuilder().rebuild()

    assert acts[acts.index("_catch_up") :][:3] == ["_catch_up", "flush", "make_live"]


def test_a_missing_pack_is_named_and_its_instances_are_still_known(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    content = path.read_bytes()
    path.unlink()
    for _ in range(2):
        report = house.holding.rebuilder().rebuild()

        assert (report.missing, report.sound) == ((path.stem,), False)
        [held] = house.versions(1)
        assert (held.pack_state.value, held.sound) == ("missing", False)
        assert len(list(house.holding.find(every_study()))) == 1
    path.write_bytes(content)
    house.holding.presence.check()

    assert house.recall(house.versions(1)[0]) == houses.data_set(1)
    assert house.holding.rebuilder().rebuild().sound


@pytest.mark.parametrize("unlink", [True, False])
def test_an_evicted_pack_stays_so_and_is_not_missing(house, unlink):
    house.store(houses.data_set(1), 1)
    house.seal()
    with house.holding.index.write() as connection:
        packs.set_state(connection, house.versions(1)[0].location.pack_id, PackState.EVICTED)
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    if unlink:
        path.unlink()
    for _ in range(2):
        report = house.holding.rebuilder().rebuild()

        assert (report.missing, report.equal, report.sound) == ((), True, True)
        assert [held.pack_state.value for held in house.versions(1)] == ["evicted"]
    assert len(list(house.holding.find(every_study()))) == 1


def test_with_the_index_lost_as_well_a_missing_pack_is_named_from_the_log(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    path.unlink()
    for database in house.files("index/hospital-a/*.sqlite*"):
        database.unlink()
    report = house.again("dc1-n1-cli").holding.rebuilder().rebuild()

    assert (report.missing, report.equal, report.sound) == ((path.stem,), None, False)


def test_a_damaged_tail_costs_no_member(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\xff")
    report = house.holding.rebuilder().rebuild()

    assert len(report.unreadable) == 1
    for number in (1, 2):
        assert house.recall(house.versions(number)[0]) == houses.data_set(number)


def test_without_index_and_log_a_damaged_member_is_found_and_does_not_count_as_sealed(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    path.chmod(0o600)
    whole = path.read_bytes()
    data = bytearray(whole)
    data[house.versions(1)[0].location.offset + 600] ^= 1
    path.write_bytes(data)
    for name in house.files("log/hospital-a/dc1/*.json"):
        name.unlink()
    for name in house.files("index/hospital-a/*.sqlite*"):
        name.unlink()
    report = house.again("dc1-n1-cli").holding.rebuilder().rebuild()

    assert [path.stem in each for each in report.unreadable] == [True]
    assert not report.sound
    assert house.recall(house.versions(2)[0]) == houses.data_set(2)
    path.write_bytes(whole)
    assert not house.again("dc1-n1-cli").holding.rebuilder().rebuild().unreadable
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


def test_a_flag_of_damage_survives_a_rebuild(house):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    location = house.versions(1)[0].location
    house.holding.recorder.packs.retire_all()
    [path] = house.files("packs/hospital-a/open/*.tar")
    with path.open("r+b") as file:
        file.seek(location.offset + 100)
        file.write(b"\xff\xff")
    house.finish()
    for _ in range(2):
        report = house.holding.rebuilder().rebuild()

        assert (report.damaged, report.sound) == (1, False)
        assert [held.damaged for held in house.versions(1)] == [True]
    assert house.recall(house.versions(2)[0]) == houses.data_set(2)


def test_one_rebuild_of_a_hospital_runs_at_a_time(house):
    house.store(houses.data_set(1), 1)
    other = house.again("dc1-n1-cli").holding.rebuilder()
    met = []

    def meanwhile(_done, _total):
        with pytest.raises(Busy):
            other.rebuild()
        met.append(True)

    house.seal()
    assert house.holding.rebuilder().rebuild(meanwhile).sound
    assert met


def test_a_member_whose_row_is_not_written_yet_is_left_to_its_writer(house):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2), 2)
    with house.holding.index.write() as connection:
        connection.execute("DELETE FROM instance WHERE sequence = 1")
    report = house.again("dc1-n1-cli").holding.rebuilder().rebuild()

    assert report.equal is True
    assert house.versions(2) == []


def test_what_stands_in_the_database_alone_is_taken_over(house):
    reference = Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(1))
    house.holding.commitments.accept("GW_A", "1.2.3", [reference])
    house.holding.rebuilder().rebuild()

    assert house.holding.commitments.waiting() == 1


def test_a_pack_that_waits_to_be_moved_while_it_is_rebuilt_is_sealed_in_the_new_index(
    house, monkeypatch
):
    """The keeper has written the row of a sealed pack, and has not moved its file yet."""
    house.store(houses.data_set(1), 1)
    files, reports = house.site.files, []
    link = files.link

    def rebuild_first(old, new):
        if "/p/" in new:
            reports.append(house.again("dc1-n1-cli").holding.rebuilder().rebuild())
        link(old, new)

    monkeypatch.setattr(files, "link", rebuild_first)
    house.seal()

    assert [report.equal for report in reports] == [True]
    assert house.versions(1)[0].pack_state is PackState.SEALED


def older_scanner(monkeypatch):
    """Let manifests be written as a version wrote them that did not read Study Date."""
    scanned = seal.manifest.Manifest

    def manifest(*, instances, **fields):
        forgetful = tuple(
            replace(
                each,
                header=replace(
                    each.header,
                    study=tuple(one for one in each.header.study if one.tag != STUDY_DATE),
                ),
            )
            for each in instances
        )
        return scanned(instances=forgetful, **fields)

    monkeypatch.setattr(seal.manifest, "Manifest", manifest)


def dates(house):
    with house.holding.index.reader() as connection:
        return [date for (date,) in connection.execute("SELECT date FROM study").fetchall()]


def test_a_rescan_reads_from_instances_what_an_older_scanner_had_not_read(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    with monkeypatch.context() as patch:
        older_scanner(patch)
        house.seal()
    assert house.holding.rebuilder().rebuild().equal is False
    assert dates(house) == [""]
    report = house.holding.rebuilder(rescan=True).rebuild()
    assert report.sound
    assert report.equal is None
    assert dates(house) == ["20261124"]


def test_a_rescan_of_what_was_read_rightly_is_equal(house):
    fill(house)
    house.seal()
    assert house.holding.rebuilder(rescan=True).rebuild().equal is True


def test_a_rescan_names_what_is_not_what_the_manifest_says(house):
    fill(house)
    house.seal()
    [path] = [
        path
        for path in house.files("packs/hospital-a/p/*/*.tar")
        if str(house.versions(4)[0].location.pack_id) == path.stem
    ]
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[house.versions(4)[0].location.offset + 600] ^= 1
    path.write_bytes(data)
    report = house.holding.rebuilder(rescan=True).rebuild()
    assert not report.sound
    assert [path.stem in each for each in report.unreadable] == [True]
    assert house.versions(4)[0].damaged


@pytest.mark.parametrize("lost", [False, True])
def test_what_somebody_put_among_packs_and_records_stops_no_rebuild(house, lost):
    fill(house)
    house.seal()
    path = house.files("packs/*/p/*/*.tar")[0]
    path.with_name("copy (1).tar").write_bytes(path.read_bytes())
    (path.parent.parent / "notes.txt").write_text("a note")
    path.with_name(f"{'0' * 26}.tar").mkdir()
    os.mkfifo(path.with_name(f"{'1' * 26}.tar"))
    (path.parent.parent.parent / "open" / "x.tar").write_text("a note")
    for name in ("9.txt", "²", "000000000007.json.bak"):
        (house.root / "log/hospital-a/dc1" / name).write_text("a note")
    if lost:
        for each in house.files("index/hospital-a/*"):
            each.unlink()
    anew = house.again("dc1-n1-w2")

    report = anew.holding.rebuilder().rebuild()

    assert len(report.unreadable) == 2  # what has the name of a pack and is no file
    assert (report.missing, report.damaged) == ((), 0)
    assert report.equal is (None if lost else True)
    anew.store(houses.data_set(9), 9)
    anew.holding.recorder.packs.retire_all()
    finished, failures = anew.holding.sealer.finish_free()
    assert len(finished) == 1
    assert list(failures) == ["x.tar"]


def test_a_record_of_another_hospital_names_no_pack_of_this_one(house):
    fill(house)
    house.seal()
    [path, *_] = house.files("log/hospital-a/dc1/*.json")
    other = path.read_text().replace("hospital-a", "hospital-b")
    pack_id = json.loads(other)["pack"]
    (path.parent / "000000000099.json").write_text(other.replace(pack_id, "0" * 26))

    assert house.holding.rebuilder().rebuild().missing == ()


@pytest.mark.parametrize("trouble", ["damaged", "keyless", "no key"])
def test_one_event_that_does_not_open_is_told_and_takes_no_other_with_it(house, trouble):
    house.holding.events.record("hold", {"study": "1.1"}, subject="1.1")
    house.holding.keyring._next_row = keys.ROWS  # the next key is in another block
    house.holding.events.record("hold", {"study": "1.2"}, subject="1.2")
    house.holding.events.record("hold", {"study": "1.1"}, subject="1.1")
    house.holding.events.retire()
    house.seal()
    [path] = house.files("packs/*/p/*/*.tar")
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    at = data.index(b"e/00000001.")
    match trouble:
        case "damaged":
            data[at + 700] ^= 1
        case "no key":
            data[at + 11 + 27 : at + 11 + 30] = b"999"
            header = data[at : at + 512]
            header[148:156] = b" " * 8
            data[at + 148 : at + 155] = b"%06o\0" % sum(header)
        case _:
            house.files("keys/*/dc1-n1-w0/*")[1].unlink()
    path.write_bytes(data)
    for each in house.files("index/hospital-a/*"):
        each.unlink()
    anew = house.again("dc1-n1-w2")

    report = anew.holding.rebuilder().rebuild()

    assert len(report.unreadable) == 1
    with anew.holding.index.reader() as connection:
        told = connection.execute("SELECT subject FROM fact").fetchall()
    assert told == [("1.1",), ("1.1",)]
