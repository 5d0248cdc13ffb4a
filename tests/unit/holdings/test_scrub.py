"""Scrubbing finds every change of a sealed pack, names the instances, believes what is whole."""

from dataclasses import replace

import pytest

import house as houses
from harmoni.holdings import listing
from harmoni.index import packs, scrubbing
from harmoni.index.packs import PackState
from harmoni.index.scrubbing import Due
from harmoni.model.errors import NotHeld, OutOfResources
from harmoni.sealing import manifest

DAY_MS = 86_400_000


def sealed(house, *numbers, study=houses.STUDY):
    for number in numbers:
        house.store(houses.data_set(number, study=study), number)
    [finished] = [each for each in house.seal() if each.sealed is not None]
    [path] = house.files(f"packs/*/p/*/{finished.pack_id}.tar")
    path.chmod(0o600)
    return finished.pack_id, path


def test_a_pack_that_is_what_was_sealed_is_sound_and_costs_its_size(house):
    pack_id, path = sealed(house, 1, 2)
    seen = []

    verdict = house.holding.scrubber.verify(pack_id, observe=seen.append)

    assert verdict.sound
    assert verdict.size_bytes == sum(seen) == path.stat().st_size


def test_a_damaged_instance_is_named_flagged_and_healed_by_an_identical_resend(house):
    pack_id, path = sealed(house, 1, 2)
    houses.flip(path, house.versions(2)[0].location.offset + 300)

    verdict = house.holding.scrubber.verify(pack_id)

    assert verdict.state is PackState.DAMAGED
    assert verdict.instances == (houses.uid(2),)
    assert verdict.members == ("i/00000001",)
    assert verdict.held_elsewhere == 0
    assert [held.damaged for held in house.versions(2)] == [True]
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)
    house.store(houses.data_set(2), 2)
    assert house.recall(house.versions(2)[1]) == houses.data_set(2)
    assert house.holding.scrubber.verify(pack_id).held_elsewhere == 1


def test_a_missing_pack_is_noted_with_all_its_instances(house):
    pack_id, path = sealed(house, 1, 2)
    path.unlink()

    verdict = house.holding.scrubber.verify(pack_id)

    assert verdict.state is PackState.MISSING
    assert sorted(verdict.instances) == [houses.uid(1), houses.uid(2)]
    assert house.versions(1)[0].pack_state is PackState.MISSING


def test_a_missing_pack_is_told_by_every_run_until_it_is_back(house):
    pack_id, path = sealed(house, 1, 2)
    whole = path.read_bytes()
    path.unlink()
    house.clock.advance(60)
    now_ms = house.clock.now_ms()
    wanted = Due(scrubbed_before_ms=now_ms, sealed_before_ms=now_ms)
    for _ in range(2):
        [verdict] = house.holding.scrubber.run(wanted)

        assert (verdict.pack_id, verdict.state) == (pack_id, PackState.MISSING)
    path.write_bytes(whole)
    [verdict] = house.holding.scrubber.run(wanted)

    assert verdict.sound


def test_a_damaged_pack_of_which_nobody_knows_what_was_sealed_is_told_by_every_run(house):
    pack_id, path = sealed(house, 1, 2)
    path.write_bytes(path.read_bytes()[:-3000])
    house.holding.scrubber.verify(pack_id)
    for name in house.files("log/**/*.json"):
        name.unlink()
    for name in house.files("index/**/*.sqlite*"):
        name.unlink()
    assert not house.again().holding.rebuilder().rebuild().sound
    house.clock.advance(60)
    now_ms = house.clock.now_ms()
    wanted = Due(scrubbed_before_ms=now_ms, sealed_before_ms=now_ms)

    [verdict] = house.again().holding.scrubber.run(wanted)

    assert (verdict.pack_id, verdict.state) == (pack_id, PackState.DAMAGED)
    assert "by hand" in verdict.why


@pytest.mark.parametrize("cut_bytes", [1, 512, 4096])
def test_a_pack_that_was_cut_is_damaged(house, cut_bytes):
    pack_id, path = sealed(house, 1)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut_bytes)

    assert house.holding.scrubber.verify(pack_id).state is PackState.DAMAGED


def test_the_pack_of_another_id_in_its_place_is_found(house):
    first, path = sealed(house, 1)
    _, other = sealed(house, 2, study=f"{houses.STUDY}9")
    path.write_bytes(other.read_bytes())

    verdict = house.holding.scrubber.verify(first)

    assert verdict.state is PackState.DAMAGED
    assert verdict.instances == (houses.uid(1),)


def test_members_in_each_others_place_are_found_and_named(house):
    pack_id, path = sealed(house, 1, 2)
    one, two = (house.versions(number)[0].location for number in (1, 2))
    assert one.size_bytes == two.size_bytes
    data = bytearray(path.read_bytes())
    there = slice(one.offset, one.offset + one.size_bytes)
    here = slice(two.offset, two.offset + two.size_bytes)
    data[there], data[here] = data[here], data[there]
    path.write_bytes(data)

    assert sorted(house.holding.scrubber.verify(pack_id).instances) == [
        houses.uid(1),
        houses.uid(2),
    ]


def test_a_file_that_is_put_back_counts_again_only_when_it_opens(house):
    pack_id, path = sealed(house, 1)
    whole = path.read_bytes()
    houses.flip(path, house.versions(1)[0].location.offset + 100)
    scrubber = house.holding.scrubber
    assert not scrubber.verify(pack_id).sound

    path.write_bytes(whole)

    assert scrubber.verify(pack_id).sound
    assert house.versions(1)[0].sound
    assert house.versions(1)[0].pack_state is PackState.SEALED


def test_without_its_key_a_pack_is_verified_all_the_same(house, monkeypatch):
    pack_id, path = sealed(house, 1)

    def lost(_key_id):
        raise NotHeld("the key block is gone")

    monkeypatch.setattr(house.holding.keyring, "data_key", lost)
    assert house.holding.scrubber.verify(pack_id).sound
    houses.flip(path, house.versions(1)[0].location.offset + 100)
    assert house.holding.scrubber.verify(pack_id).members == ("i/00000000",)


def test_a_pack_that_nobody_can_open_any_more_is_found_when_it_is_opened(house, monkeypatch):
    """Its hash is right, and its key is gone."""
    pack_id, _ = sealed(house, 1)

    def lost(_key_id):
        raise NotHeld("the key block is gone")

    monkeypatch.setattr(house.holding.keyring, "data_key", lost)
    verdict = house.holding.scrubber.verify(pack_id, opens=True)

    assert "its key is not: the key block is gone" in verdict.why
    assert verdict.instances == (houses.uid(1),)


def test_a_manifest_that_says_something_else_than_the_members_is_found(house, monkeypatch):
    """A fault of the program that sealed, which no hash of the file can show."""
    encrypt = listing.encrypt

    def encrypt_lies(contents, data_key):
        [told] = contents.instances
        lie = replace(told, identity=replace(told.identity, sha256=bytes(32)))
        changed = replace(contents, instances=(lie,), root=manifest.pack_root([lie]))
        return encrypt(changed, data_key)

    house.store(houses.data_set(1), 1)
    monkeypatch.setattr(listing, "encrypt", encrypt_lies)
    house.seal()
    pack_id = house.versions(1)[0].location.pack_id
    assert house.versions(1)[0].pack_state is PackState.SEALED

    assert house.holding.scrubber.verify(pack_id).sound
    assert "not what its manifest says" in house.holding.scrubber.verify(pack_id, opens=True).why


def test_what_could_not_be_tried_is_not_called_damaged(house, monkeypatch):
    pack_id, path = sealed(house, 1)
    houses.flip(path, house.versions(1)[0].location.offset + 100)

    def no_memory(_key_id):
        raise OutOfResources("no memory")

    with monkeypatch.context() as short:
        short.setattr(house.holding.keyring, "data_key", no_memory)
        with pytest.raises(OutOfResources):
            house.holding.scrubber.verify(pack_id)

    assert [held.damaged for held in house.versions(1)] == [False]
    assert house.holding.scrubber.verify(pack_id).instances == (houses.uid(1),)


def test_the_one_verified_longest_ago_comes_first_and_a_run_ends(house):
    ids = []
    for number in range(1, 4):
        ids.append(sealed(house, number, study=f"{houses.STUDY}{number}")[0])
        house.clock.advance(60)
    scrubber = house.holding.scrubber
    scrubber.verify(ids[0])
    now_ms = house.clock.now_ms()
    house.clock.advance(1)
    wanted = Due(scrubbed_before_ms=now_ms + 1, sealed_before_ms=now_ms + 1)
    steps = []

    verdicts = list(scrubber.run(wanted, progress=lambda *step: steps.append(step)))

    assert [verdict.pack_id for verdict in verdicts] == [ids[1], ids[2], ids[0]]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_run_that_was_interrupted_goes_on_where_it_was(house):
    ids = [sealed(house, number, study=f"{houses.STUDY}{number}")[0] for number in range(1, 4)]
    house.clock.advance(60)
    wanted = Due(scrubbed_before_ms=house.clock.now_ms(), sealed_before_ms=house.clock.now_ms())
    next(house.holding.scrubber.run(wanted))

    rest = [verdict.pack_id for verdict in house.again().holding.scrubber.run(wanted)]

    assert rest == ids[1:]


def test_a_young_pack_is_due_after_days_and_an_old_one_after_months(house):
    pack_id, _ = sealed(house, 1)
    scrubber = house.holding.scrubber

    def due():
        now_ms = house.clock.now_ms()
        return scrubber.next(
            Due(scrubbed_before_ms=now_ms - 90 * DAY_MS, sealed_before_ms=now_ms - 7 * DAY_MS)
        )

    assert due() is None
    house.clock.advance(8 * 86_400)
    assert due() == pack_id
    scrubber.verify(pack_id)
    house.clock.advance(80 * 86_400)
    assert due() is None
    house.clock.advance(11 * 86_400)
    assert due() == pack_id


def test_a_pack_that_was_verified_in_the_future_is_due(house):
    """The clock was ahead for a while: nothing waits until it is there again."""
    house.store(houses.data_set())
    house.seal()
    house.clock.advance(1)
    now_ms = house.clock.now_ms()
    wanted = Due(scrubbed_before_ms=0, sealed_before_ms=0, later_than_ms=now_ms)
    assert list(house.holding.scrubber.run(wanted)) == []
    house.clock.set_ahead(86_400)
    list(house.holding.scrubber.run(houses.EVERY_PACK))
    house.clock.set_back(86_400)

    assert len(list(house.holding.scrubber.run(wanted))) == 1
    assert list(house.holding.scrubber.run(wanted)) == []


def test_a_rebuild_keeps_what_scrubbing_found_out(house):
    damaged, path = sealed(house, 1)
    sound, _ = sealed(house, 2, study=f"{houses.STUDY}2")
    houses.flip(path, house.versions(1)[0].location.offset + 100)
    for pack_id in (damaged, sound):
        house.holding.scrubber.verify(pack_id)

    report = house.holding.rebuilder().rebuild()

    assert report.equal
    assert house.versions(1)[0].damaged
    with house.holding.index.reader() as connection:
        assert packs.pack(connection, damaged).state is PackState.DAMAGED
        assert scrubbing.due(connection, Due(scrubbed_before_ms=1, sealed_before_ms=1 << 60)) == []


def test_a_pack_that_is_back_by_its_length_alone_is_scrubbed_before_others(house):
    pack_id, path = sealed(house, 1)
    house.holding.scrubber.verify(pack_id)
    away = path.rename(path.with_suffix(".away"))
    house.holding.presence.check()
    away.rename(path)
    house.holding.presence.check()

    assert house.holding.scrubber.next(houses.EVERY_PACK) == pack_id
    with house.holding.index.reader() as connection:
        assert (
            scrubbing.oldest_ms(connection) == packs.pack(connection, pack_id).sealed.sealed_at_ms
        )


def test_a_key_that_fails_is_told_as_such_and_costs_no_pack_its_good_name(house, tmp_path):
    pack_id, _ = sealed(house, 1)
    block = house.files("keys/hospital-a/dc1-n1-w0/*")[0]
    away = block.rename(tmp_path / "away")
    fresh = house.again()
    verdict = fresh.holding.scrubber.verify(pack_id, opens=True)

    assert not verdict.sound
    assert verdict.key_fails
    assert "key" in verdict.why
    assert house.versions(1)[0].sound
    away.rename(block)
    assert fresh.holding.scrubber.verify(pack_id, opens=True).sound


def test_a_damaged_pack_whose_key_fails_is_not_repaired_before_the_key_is_back(house, tmp_path):
    pack_id, path = sealed(house, 1)
    whole = path.read_bytes()
    houses.flip(path, house.versions(1)[0].location.offset + 100)
    house.holding.scrubber.verify(pack_id)
    path.write_bytes(whole)
    block = house.files("keys/hospital-a/dc1-n1-w0/*")[0]
    away = block.rename(tmp_path / "away")
    fresh = house.again()
    [done] = fresh.holding.repairer.run(lambda _: pytest.fail("no copy is needed"), "the copy")

    assert not done.repaired
    assert "its key is not" in done.why
    away.rename(block)
    [done] = fresh.holding.repairer.run(lambda _: pytest.fail("no copy is needed"), "the copy")
    assert done.repaired
