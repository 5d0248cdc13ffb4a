from harmoni.index import ingest, packs, totals
from harmoni.index.packs import PackKind, PackState, SealedPack
from harmoni.index.totals import PacksInState, Totals
from index_samples import CT, EXPLICIT, MR, instance, pack_id

IMPLICIT = "1.2.840.10008.1.2"


def test_an_empty_index_counts_nothing_and_prefers_nothing(database):
    with database.reader() as connection:
        assert totals.totals(connection) == Totals(studies=0, instances=0, damaged=0)
        assert totals.preferred_syntaxes(connection) == {}


def test_versions_count_once_copies_that_are_damaged_each(database):
    first, version = instance(), instance(pack=2, content=b"other")
    elsewhere = instance("1.9", pack=3, study_uid="1.8")
    without_study = instance("1.10", pack=4, study_uid="")
    with database.write() as connection:
        ingest.record(connection, [first, version, elsewhere, without_study])
        packs.flag_damaged(connection, first.sop_instance_uid, first.location)
        packs.flag_damaged(connection, first.sop_instance_uid, version.location)
        assert totals.totals(connection) == Totals(studies=2, instances=3, damaged=2)


def test_each_class_ranks_the_syntaxes_of_its_instances(database):
    syntaxes = [(CT, IMPLICIT), (CT, EXPLICIT), (CT, EXPLICIT), (MR, IMPLICIT)]
    with database.write() as connection:
        ingest.record(
            connection,
            [
                instance(f"1.{number}", sequence=number, sop_class_uid=sop_class, syntax=syntax)
                for number, (sop_class, syntax) in enumerate(syntaxes)
            ],
        )
        assert totals.preferred_syntaxes(connection) == {
            CT: [EXPLICIT, IMPLICIT],
            MR: [IMPLICIT],
        }


def test_packs_are_counted_by_state_with_the_bytes_that_were_sealed(database):
    with database.write() as connection:
        packs.opened(connection, pack_id(1), PackKind.INSTANCES)
        for number in (2, 3, 4):
            packs.sealed(
                connection,
                SealedPack(
                    pack_id=pack_id(number),
                    kind=PackKind.INSTANCES,
                    size_bytes=10**number,
                    sha256=bytes(32),
                    root=bytes(32),
                    sealed_at_ms=9,
                ),
            )
        packs.set_state(connection, pack_id(4), PackState.DAMAGED)
        found = totals.packs_by_state(connection)
    none = PacksInState(count=0, size_bytes=0)
    assert found == dict.fromkeys(PackState, none) | {
        PackState.OPEN: PacksInState(count=1, size_bytes=0),
        PackState.SEALED: PacksInState(count=2, size_bytes=1100),
        PackState.DAMAGED: PacksInState(count=1, size_bytes=10_000),
    }
