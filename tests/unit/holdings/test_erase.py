"""Erasure: what a study's keys opened is gone for good, and nothing else is."""

import json
import shutil

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom.commitment_data import Reference
from harmoni.holdings import let_go
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.live_index import drop_replaced
from harmoni.index import erasures, ingest, packs
from harmoni.index.attributes import pack_uid, uid_hash
from harmoni.index.packs import PackState
from harmoni.model.errors import Busy, Damaged, Erased, NotHeld, Refused, StorageFailed
from harmoni.vault.keyring import Keyring

OTHER = f"{houses.STUDY}.77"


def other(number):
    return houses.data_set(number, study=OTHER, series=f"{OTHER}.1", name="OTHER^PATIENT")


def two_studies(root, **changes):
    """Instances 1 and 2 of one study, 3 of another, an event about each; all sealed."""
    house = houses.make_house(root, **changes)
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2), 2)
    house.store(other(3), 3)
    house.holding.events.record("note", {"text": "kept of one"}, subject=houses.STUDY)
    house.holding.events.record("note", {"text": "kept of other"}, subject=OTHER)
    seal(house)
    return house


def seal(house):
    house.holding.events.retire()
    house.seal()


def pack_of(house, number):
    return house.versions(number)[0].location.pack_id


def readable(house, number):
    return [house.recall(held) for held in house.versions(number)]


def texts(house):
    with house.holding.index.reader() as connection:
        rows = connection.execute("SELECT body FROM fact WHERE kind = 'note' ORDER BY at_ms")
        return [json.loads(body)["text"] for (body,) in rows]


def state_of(house, pack_id):
    with house.holding.index.reader() as connection:
        return packs.pack(connection, pack_id).state


def key_of(house, pack_id):
    with house.site.files.open(house.holding.layout.sealed_pack(pack_id)) as file:
        start = file.read(0, 4096)
    return start.partition(b"key: ")[2].partition(b"\n")[0].decode()


def test_an_erased_study_is_gone_and_every_other_is_there_to_the_byte(tmp_path):
    house = two_studies(tmp_path)
    erased, kept = pack_of(house, 1), pack_of(house, 3)
    key_id = key_of(house, erased)
    done = house.holding.eraser.erase(houses.STUDY)
    assert (done.packs, done.events, done.keys) == (1, 1, 2)
    assert house.versions(1) == house.versions(2) == []
    assert readable(house, 3) == [other(3)]
    assert texts(house) == ["kept of other"]
    assert (state_of(house, erased), state_of(house, kept)) == (
        PackState.ERASED,
        PackState.SEALED,
    )
    with pytest.raises(Erased, match="was erased"):
        house.holding.keyring.data_key(key_id)
    house.holding.keyring.data_key(key_of(house, kept))


def test_a_tombstone_does_not_name_the_study_but_knows_it(tmp_path):
    house = two_studies(tmp_path)
    house.clock.advance(5)
    now_ms = house.clock.now_ms()
    house.holding.eraser.erase(houses.STUDY)
    with house.holding.index.reader() as connection:
        [(body,)] = connection.execute("SELECT body FROM fact WHERE kind = 'tombstone'").fetchall()
    assert houses.STUDY not in body
    assert house.holding.eraser.erased_at_ms(houses.STUDY) == now_ms
    assert house.holding.eraser.erased_at_ms(OTHER) is None


def values(house):
    """Every value in every table of the index."""
    with house.holding.index.reader() as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [
            value
            for (name,) in tables.fetchall()
            for row in connection.execute(f"SELECT * FROM {name}").fetchall()
            for value in row
        ]


def test_no_value_in_the_index_tells_of_an_erased_study(tmp_path):
    house = two_studies(tmp_path)
    house.holding.commitments.accept("PACS", "1.9", [referenced(1)])
    house.holding.commitments.resolve_all()
    house.holding.commitments.answered("PACS", "1.9")
    seal(house)
    uids = (houses.STUDY, houses.SERIES, houses.uid(1))
    traces = {*uids, *map(pack_uid, uids), uid_hash(houses.uid(1))}
    before = values(house)
    # Each is there in some form: a trace that never is could not be missed.
    assert houses.STUDY in before
    assert {pack_uid(houses.STUDY), pack_uid(houses.SERIES), pack_uid(houses.uid(1))} <= set(before)
    assert {houses.uid(1), uid_hash(houses.uid(1))} <= set(before)
    assert any(b"PLANTED" in value for value in before if isinstance(value, bytes))
    house.holding.eraser.erase(houses.STUDY)
    after = values(house)
    assert not traces & set(after)
    assert not any(b"PLANTED" in value for value in after if isinstance(value, bytes))
    assert not any("PLANTED" in value for value in after if isinstance(value, str))


def test_the_erasure_is_complete_after_the_horizon(tmp_path):
    house = two_studies(tmp_path, erasure_horizon_days=30.0)
    done = house.holding.eraser.erase(houses.STUDY)
    assert done.complete_at_ms == house.clock.now_ms() + 30 * 86_400_000


def test_what_is_still_written_is_not_erased_by_half(tmp_path):
    house = two_studies(tmp_path)
    house.store(houses.data_set(4), 4)
    with pytest.raises(Busy, match="still being written"):
        house.holding.eraser.erase(houses.STUDY)
    assert readable(house, 1) == [houses.data_set(1)]
    seal(house)
    assert house.holding.eraser.erase(houses.STUDY).packs == 2
    assert house.versions(4) == []


def test_a_study_of_which_nothing_is_here_is_said_to_be_unknown(tmp_path):
    house = two_studies(tmp_path)
    for study in ("1.2.3", ""):
        with pytest.raises(NotHeld, match="nothing of that study"):
            house.holding.eraser.erase(study)
    with house.holding.index.reader() as connection:
        assert erasures.tombstones(connection) == []


def test_a_process_that_had_the_pack_open_cannot_open_it_any_more(tmp_path):
    house = two_studies(tmp_path)
    beside = house.again()
    [held] = beside.versions(1)
    assert beside.recall(held) == houses.data_set(1)
    house.holding.eraser.erase(houses.STUDY)
    beside.holding.forget_gone()
    with pytest.raises(Erased):
        beside.recall(held)


def test_the_writer_of_a_block_goes_on_minting_and_brings_no_erased_key_back(tmp_path):
    house = two_studies(tmp_path)
    operator = house.again("dc1-n1-cli")
    key_id = key_of(house, pack_of(house, 1))
    operator.holding.eraser.erase(houses.STUDY)
    house.store(houses.data_set(5), 5)
    seal(house)
    assert readable(house, 5) == [houses.data_set(5)]
    with pytest.raises(Erased):
        operator.holding.keyring.data_key(key_id)


def test_an_interrupted_erasure_is_completed_by_the_next_look(tmp_path, monkeypatch):
    house = two_studies(tmp_path)
    key_id = key_of(house, pack_of(house, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Keyring, "erase", failing)
        with pytest.raises(StorageFailed):
            house.holding.eraser.erase(houses.STUDY)
    assert house.versions(1) == []
    house.holding.keyring.data_key(key_id)
    assert house.again().holding.eraser.reapply() == 2
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)


def failing(*_, **__):
    raise StorageFailed("the disk is gone")


def test_a_tombstone_that_only_the_store_has_hides_the_study_when_its_pack_is_finished(
    tmp_path, monkeypatch
):
    house = two_studies(tmp_path)
    key_id = key_of(house, pack_of(house, 1))
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "record_facts", failing)
        with pytest.raises(StorageFailed):
            house.holding.eraser.erase(houses.STUDY)
    assert readable(house, 1) == [houses.data_set(1)]
    seal(house)
    assert house.versions(1) == []
    assert house.holding.eraser.reapply() == 2
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuilt_index_says_the_same_after_an_erasure(tmp_path, lost):
    house = two_studies(tmp_path)
    erased = pack_of(house, 1)
    house.holding.eraser.erase(houses.STUDY)
    house.store(houses.data_set(1), 1)  # sent again: new, and not erased with the old
    seal(house)
    if lost:
        house = lose_the_index(house)
    report = house.holding.rebuilder().rebuild()
    assert report.sound, report
    assert report.equal is (None if lost else True)
    assert state_of(house, erased) is PackState.ERASED
    assert readable(house, 1) == [houses.data_set(1)]
    assert texts(house) == ["kept of other"]


def lose_the_index(house):
    for path in house.files("index/hospital-a/*"):
        path.unlink(missing_ok=True)
    return house.again("dc1-n1-w2")


@pytest.mark.parametrize("lost", [False, True])
def test_keys_that_are_restored_from_an_old_copy_are_destroyed_again(tmp_path, lost):
    (tmp_path / "data").mkdir()
    house = two_studies(tmp_path / "data")
    shutil.copytree(house.root / "keys", tmp_path / "backup")
    key_id = key_of(house, pack_of(house, 1))
    house.holding.eraser.erase(houses.STUDY)
    seal(house)
    shutil.copytree(tmp_path / "backup", house.root / "keys", dirs_exist_ok=True)
    house.holding.keyring.data_key(key_id)  # it is back
    if lost:
        house = lose_the_index(house)
        assert house.holding.rebuilder().rebuild().sound
    else:
        assert house.holding.eraser.reapply() == 2
    assert house.versions(1) == []
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)
    assert readable(house, 3) == [other(3)]


def test_scrub_and_presence_find_nothing_wrong_with_what_was_erased(tmp_path):
    house = two_studies(tmp_path)
    erased = house.site.files.path(house.holding.layout.sealed_pack(pack_of(house, 1)))
    house.holding.eraser.erase(houses.STUDY)
    seal(house)
    erased.unlink()
    assert house.holding.presence.check().missing == ()
    verdicts = list(house.holding.scrubber.run(houses.EVERY_PACK, opens=lambda _: True))
    assert [verdict.why for verdict in verdicts] == [""] * 3
    assert list(house.holding.conflicts.compare(60)) == []


def test_a_missing_pack_is_erased_when_it_comes_back(tmp_path):
    house = two_studies(tmp_path)
    pack_id = pack_of(house, 1)
    key_id = key_of(house, pack_id)
    path = house.site.files.path(house.holding.layout.sealed_pack(pack_id))
    path.rename(tmp_path / "away")
    house.holding.presence.check()
    assert house.holding.eraser.erase(houses.STUDY).keys == 1  # of the event
    (tmp_path / "away").rename(path)
    assert house.holding.presence.check().returned == ()
    assert house.holding.eraser.reapply() == 1
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)


def test_what_a_gateway_has_let_go_of_is_erased_too(tmp_path):
    house = two_studies(
        tmp_path,
        destination="centre",
        policy=CommitmentPolicy(safe_copies=1, elsewhere=True),
    )
    list(house.holding.conflicts.compare(60))
    held = [*house.versions(1), *house.versions(2)]
    key_id = key_of(house, held[0].location.pack_id)
    house.commit_elsewhere(held, by="centre")
    assert house.holding.let_go.evict(houses.STUDY).packs == 1
    seal(house)
    done = house.holding.eraser.erase(houses.STUDY)
    assert (done.packs, done.events) == (1, 3)
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)
    assert house.versions(1) == []
    assert house.holding.rebuilder().rebuild().equal
    with house.holding.index.reader() as connection:
        assert connection.execute("SELECT count(*) FROM safe").fetchone() == (0,)


def test_copies_of_keys_follow_an_erasure(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    copy.mkdir()
    house = two_studies(data, key_copies=(copy,))
    house.holding.key_copies.mirror()
    house.holding.eraser.erase(houses.STUDY)
    assert house.holding.key_copies.mirror() == {}
    here = {path.relative_to(data): path.read_bytes() for path in house.files("keys/*/dc1*/*")}
    there = {path.relative_to(copy): path.read_bytes() for path in copy.glob("keys/*/dc1*/*")}
    assert here == there
    assert len(here) == 1


def test_a_rotation_and_an_erasure_do_not_run_at_once(tmp_path):
    house = two_studies(tmp_path)
    with (
        Filesystem(tmp_path).lock_file(house.holding.layout.rotation_lock),
        pytest.raises(Busy),
    ):
        house.holding.eraser.erase(houses.STUDY)
    assert readable(house, 1) == [houses.data_set(1)]


def test_erased_keys_stay_gone_through_a_rotation_of_epochs(tmp_path):
    house = two_studies(tmp_path)
    key_id = key_of(house, pack_of(house, 1))
    house.holding.eraser.erase(houses.STUDY)
    house.holding.rotation.rotate(lambda *_: None, epochs=True)
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)
    assert readable(house, 3) == [other(3)]


def write_key_into_readme(house, pack_id, key_id):
    path = house.site.files.path(house.holding.layout.sealed_pack(pack_id))
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data.replace(f"key: {key_of(house, pack_id)}".encode(), key_id, 1))


@pytest.mark.parametrize("altered", ["other", "nonsense"])
def test_a_readme_that_names_another_key_costs_no_other_study_its_key(tmp_path, altered):
    house = two_studies(tmp_path)
    erased, kept = pack_of(house, 1), pack_of(house, 3)
    key_id, other_key = key_of(house, erased), key_of(house, kept)
    named = f"key: {other_key}" if altered == "other" else f"yek: {key_id}"
    write_key_into_readme(house, erased, named.encode())
    assert house.holding.eraser.erase(houses.STUDY).keys == 2
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)
    assert readable(house.again(), 3) == [other(3)]


def test_a_pack_that_comes_back_with_another_key_in_its_readme_costs_nobody_a_key(tmp_path):
    house = two_studies(tmp_path)
    erased, kept = (
        house.site.files.path(house.holding.layout.sealed_pack(pack_of(house, n))) for n in (1, 3)
    )
    erased.unlink()
    house.holding.eraser.erase(houses.STUDY)
    shutil.copy(kept, erased)
    assert house.holding.eraser.reapply() == 0
    assert readable(house.again(), 3) == [other(3)]


def test_the_index_that_a_rebuild_replaced_goes_with_an_erasure(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    copy.mkdir()
    house = two_studies(data, key_copies=(copy,))
    house.holding.key_copies.mirror()
    [replaced] = house.files("index/*/*.sqlite")
    assert house.holding.rebuilder().rebuild().equal
    house.holding.eraser.erase(houses.STUDY)
    house.holding.key_copies.mirror()
    assert house.files(f"index/*/{replaced.stem}*") == []
    assert house.files(f"keys/*/index/{replaced.stem}*") == []
    assert list(copy.glob(f"keys/*/index/{replaced.stem}*")) == []
    assert len(list(copy.glob("keys/*/index/*"))) == 1
    assert readable(house, 3) == readable(house.again(), 3) == [other(3)]


def test_an_erasure_leaves_the_index_of_a_rebuild_that_runs(tmp_path):
    house = two_studies(tmp_path)
    beside = house.files("index/*/*.sqlite")[0].with_name(f"{'0' * 26}.sqlite")
    beside.touch()
    with Filesystem(tmp_path).lock_file(house.holding.layout.rebuild_lock):
        house.holding.eraser.erase(houses.STUDY)
        assert beside.exists()
    house.holding.eraser.reapply()
    assert not beside.exists()


def test_an_index_that_is_older_than_an_erasure_brings_nothing_back(tmp_path):
    (tmp_path / "data").mkdir()
    house = two_studies(tmp_path / "data")
    house.holding.index.database().close()
    shutil.copytree(house.root / "index", tmp_path / "index")
    shutil.copytree(house.root / "keys", tmp_path / "keys")
    house = house.again()
    house.holding.eraser.erase(houses.STUDY)
    seal(house)
    house.holding.index.database().close()
    shutil.rmtree(house.root / "index")
    shutil.copytree(tmp_path / "index", house.root / "index")
    shutil.copytree(tmp_path / "keys", house.root / "keys", dirs_exist_ok=True)
    house = house.again("dc1-n1-w2")
    assert house.versions(1) != []
    assert house.holding.rebuilder().rebuild().damaged == 0
    assert house.versions(1) == []
    assert texts(house) == ["kept of other"]
    assert readable(house, 3) == [other(3)]


def test_an_event_of_a_pack_that_was_missing_is_gone_again_when_it_comes_back(tmp_path):
    house = two_studies(tmp_path)
    with house.holding.index.reader() as connection:
        [(pack_id, _)] = erasures.events_about(connection, houses.STUDY)
    path = house.site.files.path(house.holding.layout.sealed_pack(pack_id))
    path.rename(tmp_path / "away")
    house.holding.scrubber.verify(pack_id)
    assert house.holding.eraser.erase(houses.STUDY).keys == 1  # of the pack of instances
    (tmp_path / "away").rename(path)
    assert house.holding.scrubber.verify(pack_id).sound
    assert house.holding.eraser.reapply() == 1
    assert texts(house) == ["kept of other"]


def test_a_second_copy_of_a_block_in_another_folder_is_erased_too(tmp_path):
    house = two_studies(tmp_path)
    key_id = key_of(house, pack_of(house, 1))
    [folder] = house.files("keys/*/dc1-n1-w0")
    shutil.copytree(folder, folder.with_name("dc1-n1-w0 (copy)"))
    shutil.copytree(folder, folder.with_name("a"))
    assert house.holding.eraser.erase(houses.STUDY).keys == 2
    for block in house.files("keys/*/*/01*"):
        if block.suffix != ".age":
            assert key_id.partition(".")[2] not in json.loads(block.read_bytes())["rows"]


def test_a_block_that_is_lost_after_an_erasure_is_not_put_back_as_it_was(tmp_path):
    house = two_studies(tmp_path)
    key_id = key_of(house, pack_of(house, 1))
    house.again("dc1-n1-cli").holding.eraser.erase(houses.STUDY)
    house.holding.forget_gone()
    for block in house.files("keys/*/dc1-n1-w0/*"):
        block.unlink()
    house.store(other(9), 9)
    with pytest.raises(NotHeld):
        house.again().holding.keyring.data_key(key_id)


def two_blocks(house):
    """The same study by another writer, whose keys are in another block; the blocks' files."""
    second = house.again("dc1-n2-w0")
    second.store(houses.data_set(5), 5)
    second.seal()
    return [house.files(f"keys/*/{writer}/*")[0] for writer in ("dc1-n1-w0", "dc1-n2-w0")]


def test_a_damaged_block_saves_no_other_key_and_stops_no_rebuild(tmp_path):
    house = two_studies(tmp_path)
    kept, damaged = two_blocks(house)
    before = kept.read_bytes()
    key_id = key_of(house, pack_of(house, 1))
    house.holding.eraser.erase(houses.STUDY)
    kept.write_bytes(before)
    damaged.write_bytes(b"{")
    with pytest.raises(Damaged, match="dc1-n2-w0"):
        house.holding.eraser.reapply()
    with pytest.raises(Erased):
        house.holding.keyring.data_key(key_id)
    seal(house)
    house = lose_the_index(house)
    house.holding.rebuilder().rebuild()
    assert house.versions(1) == house.versions(5) == []
    assert readable(house, 3) == [other(3)]


def test_a_study_that_is_erased_while_its_pack_is_let_go_of_is_told_of_no_more(
    tmp_path, monkeypatch
):
    house = two_studies(tmp_path)
    house.commit_elsewhere([house.versions(number)[0] for number in (1, 2)], by="centre")
    seal(house)
    assert list(house.holding.conflicts.compare(60)) == []
    operator, read = house.again("dc1-n1-cli"), let_go.listing.read

    def erased_once_it_was_read(*given):
        listed = read(*given)
        operator.holding.eraser.erase(houses.STUDY)
        return listed

    with monkeypatch.context() as patch:
        patch.setattr(let_go.listing, "read", erased_once_it_was_read)
        gone = house.holding.let_go.evict(houses.STUDY)
    assert (gone.packs, len(gone.stayed)) == (0, 1)
    assert kinds(house) == ["note", "tombstone"]


def test_a_study_that_is_erased_while_it_is_compared_is_told_of_no_more(tmp_path):
    house = two_studies(tmp_path)
    assert list(house.holding.conflicts.compare(60)) == []
    house.store(houses.data_set(1, pixels=b"other"), 1)
    seal(house)
    for _ in house.holding.conflicts.compare(60):
        house.holding.eraser.erase(houses.STUDY)
    assert kinds(house) == ["note", "tombstone"]


def kinds(house):
    with house.holding.index.reader() as connection:
        rows = connection.execute("SELECT kind FROM fact ORDER BY kind").fetchall()
    return [kind for (kind,) in rows]


def test_a_commitment_that_is_answered_after_the_erasure_names_nothing_of_it(tmp_path):
    house = two_studies(tmp_path)
    told = house.holding.commitments
    told.accept("PACS", "1.9", [referenced(1), referenced(3)])
    told.resolve_all()
    seal(house)
    house.holding.eraser.erase(houses.STUDY)
    assert [len(each.references) for each in told.due("PACS")] == [2]
    told.answered("PACS", "1.9")
    with house.holding.index.reader() as connection:
        rows = connection.execute("SELECT sop_instance_uid FROM commitment_reference").fetchall()
    assert rows == [(houses.uid(3),)]


def referenced(number):
    return Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(number))


def test_an_erasure_that_is_called_again_makes_what_the_first_replaced_durable(
    tmp_path, monkeypatch
):
    house = two_studies(tmp_path)
    real, flushed = Filesystem.sync_directory, []

    def fails(self, name):
        if name.startswith("keys/") and "/dc1-n1-w0" in name:
            raise StorageFailed("planted")
        real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Filesystem, "sync_directory", fails)
        with pytest.raises(StorageFailed):
            house.holding.eraser.erase(houses.STUDY)
    monkeypatch.setattr(
        Filesystem, "sync_directory", lambda self, name: (flushed.append(name), real(self, name))
    )
    house.holding.eraser.reapply()
    assert house.holding.layout.writer_keys(house.site.writer) in flushed


def test_a_pack_that_holds_another_study_too_is_not_erased(tmp_path):
    house = two_studies(tmp_path)
    with house.holding.index.write() as connection:
        connection.execute(
            "UPDATE instance SET sequence = 99,"
            " pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?) WHERE sop_hash = ?",
            (str(pack_of(house, 1)), uid_hash(houses.uid(3))),
        )
    with pytest.raises(Refused, match="another study"):
        house.holding.eraser.erase(houses.STUDY)
    assert readable(house, 1) == [houses.data_set(1)]


@pytest.mark.parametrize("damaged", [b"", b"nonsense", b"01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_no_index_goes_where_nothing_says_which_one_is_live(tmp_path, damaged):
    house = two_studies(tmp_path)
    layout = house.holding.layout
    before = house.files("index/*/*.sqlite") + house.files("keys/*/index/*")
    house.site.files.replace(layout.current_index, damaged)
    drop_replaced(house.site.files, layout)
    assert house.files("index/*/*.sqlite") + house.files("keys/*/index/*") == before != []
