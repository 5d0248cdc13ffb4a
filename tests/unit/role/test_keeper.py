"""The keeper's rounds: one hospital's trouble is told, and stops nobody else's."""

import shutil
from types import SimpleNamespace

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.config.sections import ScrubSection
from harmoni.model.errors import Erased, StorageFailed
from harmoni.model.identifiers import HospitalId
from harmoni.role.keeper import Keeper
from harmoni.runtime.metrics import Metrics

FIRST, SECOND = HospitalId("hospital-a"), HospitalId("hospital-b")


class Archive:
    """Two hospitals; what `fail` says of one is raised when its holding is asked for."""

    def __init__(self, root):
        for name in ("a", "b"):
            (root / name).mkdir()
        self.houses = {
            FIRST: houses.make_house(root / "a"),
            SECOND: houses.make_house(root / "b", hospital=SECOND),
        }
        self.hospitals = dict.fromkeys(self.houses)
        self.clock = self.houses[FIRST].clock
        self.settings = SimpleNamespace(
            pack=SimpleNamespace(quiet_s=600.0),
            scrub=ScrubSection(mib_per_second=0.01, opened_percent=100),
        )
        self.fail = {}

    def holding(self, hospital):
        if hospital in self.fail:
            raise self.fail[hospital]
        return self.houses[hospital].holding

    def opened(self):
        return [house.holding for house in self.houses.values()]


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


class Lines:
    """A log that keeps what it is told."""

    def __init__(self):
        self.told = []

    def error(self, event, **values):
        self.told.append((event, values))

    info = error


@pytest.fixture
def keeper(archive):
    return Keeper(archive, Lines(), Metrics())


def let_go(house):
    house.store(houses.data_set())
    house.holding.recorder.packs.retire_all()


@pytest.mark.parametrize("fault", [StorageFailed("planted"), KeyError("planted")])
def test_one_hospitals_fault_is_told_and_the_other_is_kept(archive, keeper, fault):
    let_go(archive.houses[SECOND])
    archive.fail = {FIRST: fault}
    keeper.tick()

    assert archive.houses[SECOND].versions()[0].pack_state.value == "sealed"
    assert not keeper.health().healthy
    archive.fail = {}
    keeper.tick()
    assert keeper.health().healthy


def test_a_keeper_whose_round_does_not_end_is_not_healthy(archive, keeper):
    keeper.tick()
    assert keeper.health().healthy
    archive.clock.advance(1000)

    assert not keeper.health().healthy


def test_a_pack_that_went_is_noticed_within_an_hour_and_again_when_it_is_back(archive, keeper):
    house = archive.houses[FIRST]
    let_go(house)
    keeper.tick()
    [path] = house.files("packs/*/p/*/*.tar")
    path.rename(house.root / "away")
    keeper.tick()
    assert house.versions()[0].pack_state.value == "sealed"
    archive.clock.advance(3600)
    keeper.tick()
    assert house.versions()[0].pack_state.value == "missing"

    (house.root / "away").rename(path)
    archive.clock.advance(3600)
    keeper.tick()
    assert house.versions()[0].pack_state.value == "sealed"


def test_looking_for_a_million_packs_holds_up_no_round(archive, keeper, monkeypatch):
    """What does not fit into a round goes on in the next one, and nobody's seal waits for it."""
    monkeypatch.setattr("harmoni.role.keeper._LOOK_PACKS", 1)
    house = archive.houses[FIRST]
    for number in range(3):
        house.store(houses.data_set(number, study=f"1.2.{number}"), number)
    house.seal()
    for path in house.files("packs/*/p/*/*.tar"):
        path.unlink()
    check = house.holding.presence.check

    def slow(limit):
        archive.clock.advance(60)
        return check(limit)

    monkeypatch.setattr(house.holding.presence, "check", slow)
    other = archive.houses[SECOND]
    for turn, found in enumerate((1, 2, 3, 3)):
        other.store(houses.data_set(turn), turn)
        other.holding.recorder.packs.retire_all()
        keeper.tick()
        states = [house.versions(number)[0].pack_state.value for number in range(3)]
        assert states.count("missing") == found
        assert other.versions(turn)[0].pack_state.value == "sealed"


def test_differing_pixels_raise_the_alarm_and_a_differing_header_waits_for_the_digest(
    archive, keeper
):
    house = archive.houses[FIRST]
    for values in ({}, {"pixels": b"\1\2"}, {"name": "MERGED^NAME"}):
        house.store(houses.data_set(**values))
        house.holding.recorder.packs.retire_all()
        keeper.tick()
    told = [values for event, values in keeper._log.told if event == "pixels differ"]
    assert [(each["hospital"], each["source"], each["instances"]) for each in told] == [
        ("hospital-a", "CT_A", 1)
    ]

    house.clock.advance(86_400)
    keeper.tick()
    [digest] = [values for event, values in keeper._log.told if event == "conflicts of yesterday"]
    assert digest == {
        "hospital": "hospital-a",
        "source": "CT_A",
        "syntax": 0,
        "header": 1,
        "pixels": 1,
    }
    keeper.tick()
    assert len([event for event, _ in keeper._log.told if event == "conflicts of yesterday"]) == 1


def test_a_conflict_that_was_not_recorded_comes_again_with_its_alarm(archive, keeper, monkeypatch):
    house = archive.houses[FIRST]
    let_go(house)
    keeper.tick()
    house.store(houses.data_set(pixels=b"\1\2"))
    house.holding.recorder.packs.retire_all()

    def full(*_args, **_options):
        raise StorageFailed("planted")

    with monkeypatch.context() as patch:
        patch.setattr(house.holding.events, "record_of_held", full)
        keeper.tick()
    assert not keeper.health().healthy
    archive.clock.advance(60)
    keeper.tick()
    assert keeper.health().healthy
    assert [event for event, _ in keeper._log.told].count("pixels differ") == 2


def test_packs_are_read_again_in_turn_at_the_rate_and_damage_raises_the_alarm(archive, keeper):
    """At 10 KiB/s one small pack is read in a round, and the next one rounds later."""
    for house in archive.houses.values():
        for number in (1, 2):
            house.store(houses.data_set(number, study=f"{houses.STUDY}{number}"), number)
        house.seal()
    [path] = archive.houses[SECOND].files(
        f"packs/*/p/*/{archive.houses[SECOND].versions(2)[0].location.pack_id}.tar"
    )
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[archive.houses[SECOND].versions(2)[0].location.offset + 60] ^= 1
    path.write_bytes(data)
    for house in archive.houses.values():
        house.clock.advance(8 * 86_400)

    def scrubbed():
        return {
            line.split("{")[1].split("}")[0]: float(line.split()[-1])
            for line in keeper_metrics.render().decode().splitlines()
            if line.startswith("harmoni_packs_scrubbed_total{")
        }

    keeper_metrics = Metrics()
    keeper = Keeper(archive, Lines(), keeper_metrics)
    rounds = 0
    while sum(scrubbed().values()) < 4:
        before = sum(scrubbed().values())
        keeper.tick()
        rounds += 1
        assert sum(scrubbed().values()) - before <= 1
        archive.clock.advance(0.5)
        assert rounds < 50

    assert rounds > 4
    assert scrubbed() == {
        'hospital="hospital-a",state="sealed"': 2,
        'hospital="hospital-b",state="sealed"': 1,
        'hospital="hospital-b",state="damaged"': 1,
    }
    [(_, told)] = [line for line in keeper._log.told if "not what was sealed" in line[0]]
    assert told["hospital"] == "hospital-b"
    assert told["instances"] == 1


def test_each_round_brings_keys_to_their_copies_and_one_that_is_away_is_no_healthy_state(
    archive, tmp_path
):
    (tmp_path / "c").mkdir()
    copy = tmp_path / "copy"
    archive.houses[FIRST] = houses.make_house(tmp_path / "c", key_copies=(copy,))
    lines = Lines()
    keeper = Keeper(archive, lines, Metrics())
    keeper.tick()
    assert not keeper.health().healthy
    assert [values["why"] for event, values in lines.told if event == "not kept"]
    assert not copy.exists()

    copy.mkdir()
    keeper.tick()
    assert keeper.health().healthy
    recipient = "keys/hospital-a/recovery.recipient"
    assert (copy / recipient).read_bytes() == (tmp_path / "c" / recipient).read_bytes()


def test_keys_that_a_restore_brought_back_are_destroyed_at_the_next_look(archive, keeper, tmp_path):
    house = archive.houses[FIRST]
    let_go(house)
    keeper.tick()
    shutil.copytree(house.root / "keys", tmp_path / "old keys")
    held = house.versions()[0]
    house.holding.eraser.erase(houses.STUDY)
    shutil.copytree(tmp_path / "old keys", house.root / "keys", dirs_exist_ok=True)
    archive.clock.advance(3600)
    with Filesystem(house.root).lock_file(house.holding.layout.rotation_lock):
        keeper.tick()  # a rotation runs: later
    assert house.recall(held)
    assert keeper.health().healthy
    keeper.tick()
    keeper.tick()
    with pytest.raises(Erased):
        house.recall(held)


def test_what_a_crash_kept_from_being_published_is_removed_at_start(archive, keeper):
    house = archive.houses[FIRST]
    house.store(houses.data_set())
    layout, site = house.holding.layout, house.site
    folders = (
        layout.keys,
        layout.writer_keys(site.writer),
        layout.epochs,
        layout.index_keys,
        layout.custody,
        layout.index,
        layout.log(site.site),
        ".",
    )
    for folder in folders:
        site.files.create(f"{folder}/.a.0123456789abcdef.tmp").close()
    keeper.tick()

    assert house.files("**/*.tmp") == []


def test_a_damaged_block_with_an_erased_key_is_told_and_stops_no_other_duty(archive, keeper):
    house = archive.houses[FIRST]
    let_go(house)
    keeper.tick()
    house.holding.eraser.erase(houses.STUDY)
    [block] = house.files("keys/*/dc1-n1-w0/*")
    block.write_bytes(b"{")
    archive.clock.advance(3600)
    keeper.tick()
    assert not keeper.health().healthy
    rounds = keeper._looked_s[str(FIRST)]
    keeper.tick()
    assert keeper._looked_s[str(FIRST)] == rounds == archive.clock.monotonic_s()
