import pytest

import house as houses
from harmoni.dicom.commitment_data import Reference
from harmoni.index import packs
from harmoni.index.packs import PackState
from harmoni.model.errors import Damaged, NotHeld, StorageFailed


def sealed(house, number=1):
    house.store(houses.data_set(number), number)
    house.seal()
    [path] = house.files("packs/hospital-a/p/*/*.tar")
    path.chmod(0o600)
    return path


def test_damage_that_a_retrieval_meets_is_flagged_and_an_identical_resend_heals_it(house):
    path = sealed(house)
    houses.flip(path, house.versions()[0].location.offset + 100)
    with pytest.raises(Damaged):
        house.recall(house.versions()[0])

    assert [held.damaged for held in house.versions()] == [True]
    house.store(houses.data_set())
    healed = house.versions()
    assert [held.damaged for held in healed] == [True, False]
    assert house.recall(healed[1]) == houses.data_set()


def test_a_pack_that_a_retrieval_misses_is_noted(house):
    sealed(house).unlink()
    with pytest.raises(NotHeld):
        house.recall(house.versions()[0])

    assert [held.pack_state.value for held in house.versions()] == ["missing"]


def test_success_is_not_answered_on_a_row_whose_file_is_gone(house):
    sealed(house).unlink()
    house.store(houses.data_set())

    assert [held.pack_state.value for held in house.versions()] == ["sealed", "open"]
    assert house.recall(house.versions()[1]) == houses.data_set()


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "gone"])
def test_nothing_is_committed_on_a_row_whose_file_is_not_whole(house, cut):
    path = sealed(house)
    if cut:
        with path.open("r+b") as file:
            file.truncate(house.versions()[0].location.offset + 10)
    else:
        path.unlink()
    reference = Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(1))
    house.holding.commitments.accept("GW_A", "1.2.3", [reference])
    house.holding.commitments.resolve_all()
    [due] = house.holding.commitments.due("GW_A")

    assert [item.failure_reason for item in due.references] == [0x0110]


def test_a_look_finds_packs_that_went_and_packs_that_came_back(house):
    path = sealed(house)
    content = path.read_bytes()
    pack_id = house.versions()[0].location.pack_id
    assert house.holding.presence.check().missing == ()

    path.write_bytes(content[:-1])
    assert house.holding.presence.check().missing == (pack_id,)
    assert house.holding.presence.check().missing == ()
    path.write_bytes(content)
    assert house.holding.presence.check().returned == (pack_id,)
    assert [held.pack_state.value for held in house.versions()] == ["sealed"]


def evict(house, *, unlink=True):
    path = sealed(house)
    with house.holding.index.write() as connection:
        packs.set_state(connection, house.versions()[0].location.pack_id, PackState.EVICTED)
    if unlink:
        path.unlink()
    return path


@pytest.mark.parametrize("unlink", [True, False])
def test_an_evicted_pack_is_neither_missing_nor_back(house, unlink):
    evict(house, unlink=unlink)
    looked = house.holding.presence.check()

    assert (looked.missing, looked.returned) == ((), ())
    assert [held.pack_state.value for held in house.versions()] == ["evicted"]


def test_a_look_at_some_packs_goes_on_where_the_last_one_ended(house):
    for number in range(4):
        house.store(houses.data_set(number, study=f"1.2.{number}"), number)
    house.seal()
    ids = [house.versions(number)[0].location.pack_id for number in range(4)]
    for path in house.files("packs/hospital-a/p/*/*.tar"):
        path.unlink()
    check = house.holding.presence.check

    looks = [check(3), check(3), check(4), check(4)]

    assert [look.missing for look in looks] == [tuple(ids[:3]), tuple(ids[3:]), (), ()]
    assert [look.ended for look in looks] == [False, True, False, True]


def test_a_pack_that_is_evicted_while_it_is_looked_at_is_not_missing(house, monkeypatch):
    path = sealed(house)
    pack_id = house.versions()[0].location.pack_id
    real = house.holding.presence._is_whole

    def evict_first(row):
        with house.holding.index.write() as connection:
            packs.set_state(connection, pack_id, PackState.EVICTED)
        path.unlink()
        return real(row)

    monkeypatch.setattr(type(house.holding.presence), "_is_whole", lambda _, row: evict_first(row))
    assert house.holding.presence.check().missing == ()
    assert [held.pack_state.value for held in house.versions()] == ["evicted"]


def test_a_retrieval_that_meets_an_evicted_pack_notes_nothing(house):
    evict(house)
    with pytest.raises(NotHeld):
        house.recall(house.versions()[0])

    assert [(held.pack_state.value, held.damaged) for held in house.versions()] == [
        ("evicted", False)
    ]


def test_what_is_evicted_and_sent_again_is_held_again(house):
    evict(house)
    house.store(houses.data_set())

    assert [held.pack_state.value for held in house.versions()] == ["evicted", "open"]
    assert house.recall(house.versions()[1]) == houses.data_set()


def test_nothing_is_committed_on_the_word_of_an_evicted_row(house):
    evict(house)
    reference = Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(1))
    house.holding.commitments.accept("GW_A", "1.2.3", [reference])
    house.holding.commitments.resolve_all()
    [due] = house.holding.commitments.due("GW_A")

    assert [item.failure_reason for item in due.references] == [0x0110]


def test_a_lost_index_is_a_failure_of_storage_and_says_how_to_make_it_anew(house):
    house.store(houses.data_set())
    for path in house.files("index/hospital-a/*.sqlite"):
        path.unlink()

    with pytest.raises(StorageFailed, match="vault rebuild"):
        house.store(houses.data_set(2), 2)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"../../etc/passwd", b"0" * 26])
def test_a_broken_name_of_the_live_index_is_a_lost_index(house, content):
    house.store(houses.data_set())
    [path] = house.files("index/hospital-a/current")
    path.unlink()
    path.write_bytes(content)

    with pytest.raises(StorageFailed, match="vault rebuild"):
        house.versions()


def test_a_stray_file_among_open_packs_is_named_and_stops_nothing(house):
    house.store(houses.data_set())
    house.site.files.path("packs/hospital-a/open/copy.tar").write_bytes(b"?")
    house.holding.recorder.packs.retire_all()
    finished, failures = house.holding.sealer.finish_free()

    assert len(finished) == 1
    assert list(failures) == ["copy.tar"]
