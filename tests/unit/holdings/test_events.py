import house as houses


def facts(house):
    with house.holding.index.reader() as connection:
        return connection.execute("SELECT kind, body FROM fact ORDER BY sequence").fetchall()


def test_an_event_is_in_the_store_before_it_is_in_the_index(house):
    house.holding.events.record("hold", {"study": houses.STUDY}, subject=houses.STUDY)
    with house.holding.index.write() as connection:
        connection.execute("DELETE FROM fact")
    house.holding.events.retire()
    [finished] = house.finish()

    assert finished.sealed.kind == "events"
    assert [("hold", f'{{"study": "{houses.STUDY}"}}')] == [tuple(row) for row in facts(house)]


def test_events_of_one_subject_share_a_key_that_no_other_has(house):
    for subject in ("1.2", "1.3", "1.2", ""):
        house.holding.events.record("hold", {"study": subject}, subject=subject)
    [path] = house.files("packs/hospital-a/open/*.tar")
    import tarfile

    with tarfile.open(path) as archive:
        keys = [name.partition(".")[2] for name in archive.getnames() if name.startswith("e/")]

    assert keys[0] == keys[2]
    assert len({keys[0], keys[1], keys[3]}) == 3


def test_a_young_event_pack_is_kept_open(house):
    house.holding.events.record("hold", {}, subject="")
    house.holding.events.retire(older_than_s=10)
    assert house.finish() == []
    house.clock.advance(10)
    house.holding.events.retire(older_than_s=10)

    assert len(house.finish()) == 1


def test_planted_names_in_events_reach_no_disk_in_clear(house):
    house.holding.events.record("overlay", {"name": houses.PLANTED_NAME}, subject="1.2")
    planted = houses.PLANTED_NAME.encode()

    assert not any(planted in path.read_bytes() for path in house.files("**/*") if path.is_file())


def test_a_recorded_event_that_does_not_verify_is_never_cut(house):
    for subject in ("1.2", "1.3"):
        house.holding.events.record("hold", {"study": subject}, subject=subject)
    house.holding.events.retire()
    [path] = house.files("packs/hospital-a/open/*.tar")
    damaged = bytearray(path.read_bytes())
    damaged[-600] ^= 1
    path.write_bytes(damaged)
    finished, failures = house.holding.sealer.finish_free()

    assert finished == []
    assert ["HZ" in why and "[1]" in why for why in failures.values()] == [True]
    assert path.read_bytes() == damaged
