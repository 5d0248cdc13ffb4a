"""Holdings against a dictionary: in whatever order things happen, what was told is there.

The model is what a sender was told: which bytes were stored under which UID, and what is proven
safe elsewhere, and what was erased. Crashes, damage, repair, rebuilds, evictions, erasures, keys
restored from an old copy and jumps of the clock are steps like any other.
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.repair import copy_below
from harmoni.index import erasures, packs
from harmoni.index.packs import PackState
from harmoni.model.errors import Erased

STUDIES = 3
CENTRE = "centre"

numbers = st.integers(min_value=1, max_value=9)
contents = st.integers(min_value=0, max_value=2)


def study_of(number):
    return f"{houses.STUDY}{number % STUDIES}"


def data_of(number, content):
    return houses.data_set(
        number,
        study=study_of(number),
        series=f"{study_of(number)}.2",
        pixels=bytes([content]) * (200 + 3000 * content),
    )


class Hospital(RuleBasedStateMachine):
    """One gateway's holding, and what its senders were told."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        (self.directory / "data").mkdir()
        self.house = houses.make_house(
            self.directory / "data",
            destination=CENTRE,
            policy=CommitmentPolicy(safe_copies=1, elsewhere=True),
        )
        self.writers = 0
        self.told = {}
        self.committed = set()
        self.events = Counter()
        # Another copy of every sealed pack, as a second site has one.
        self.copy = self.directory / "copy"
        self.copy.mkdir()
        # The keys of what was erased: nothing brings them back for longer than a moment.
        self.destroyed = set()
        # The studies that events may name.
        self.named = {houses.STUDY}

    def teardown(self):
        shutil.rmtree(self.directory)

    @rule(number=numbers, content=contents)
    def store(self, number, content):
        self.house.store(data_of(number, content), number)
        self.told.setdefault(number, set()).add(content)
        self.named.add(study_of(number))
        self.house.clock.advance(0.01)

    @rule(number=numbers, content=contents, count=st.integers(min_value=0, max_value=400))
    def break_off(self, number, content, count):
        incoming = self.house.begin(number)
        houses.pour(incoming, data_of(number, content)[:count])
        incoming.abandon()

    @rule()
    def tell(self):
        self.house.holding.events.record("note", {"text": "kept"}, subject=houses.STUDY)
        self.events["note", houses.STUDY] += 1

    @rule()
    def seal(self):
        self.house.holding.events.retire()
        self.house.seal()
        list(self.house.holding.conflicts.compare(60))
        source = self.house.root / "packs"
        for path in source.glob("*/p/*/*.tar"):
            target = self.copy / "packs" / path.relative_to(source)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    @rule()
    def crash(self):
        """The process is gone, its locks with it; the keeper finds what it left."""
        writer = f"dc1-n1-w{self.writers % 8 + 1}"
        self.writers += 1
        site = houses.make_site(
            self.house.root,
            self.house.clock,
            self.house.site.custody_key,
            writer,
            destination=CENTRE,
            policy=self.house.site.policy,
        )
        for opened in list(self.house.holding.recorder.packs._packs.values()):
            opened.writer.close()
        writer = self.house.holding.events._writer
        if writer is not None:
            writer.close()
        self.house = houses.House(site, houses.Holding(site, houses.HOSPITAL))

    @rule(seconds=st.sampled_from([1, 3_600, 40 * 86_400]))
    def let_time_pass(self, seconds):
        self.house.clock.advance(seconds)

    @rule(seconds=st.sampled_from([1, 7_200, 400 * 86_400]))
    def set_the_clock_back(self, seconds):
        self.house.clock.set_back(seconds)

    @rule()
    def rebuild(self):
        assert self.house.holding.rebuilder().rebuild().equal is not False

    @rule()
    def lose_the_index(self):
        """With it goes what is known of damage; the store tells the rest."""
        self.crash()
        for path in (self.house.root / "index" / "hospital-a").iterdir():
            path.unlink(missing_ok=True)  # a connection that is closed takes its log with it
        self.house.holding.rebuilder().rebuild()

    @precondition(lambda self: self.told)
    @rule(number=numbers)
    def commit(self, number):
        """The centre answers for what is sealed of an instance."""
        held = [
            each
            for each in self.house.versions(number)
            if each.sound and each.pack_state is PackState.SEALED
        ]
        if not held:
            return
        self.house.commit_elsewhere(held, by=CENTRE, study=study_of(number))
        self.events["commitment", study_of(number)] += 1
        self.committed |= {(number, each.identity.sha256) for each in held}

    @rule(number=numbers)
    def evict(self, number):
        with self.house.holding.index.reader() as connection:
            known = packs.packs_of_study(connection, study_of(number))
        if known:
            done = self.house.holding.let_go.evict(study_of(number))
            self.events["eviction", study_of(number)] += done.packs

    @rule(number=numbers)
    def erase(self, number):
        study = study_of(number)
        self.events["note", study] += 1
        self.house.holding.events.record("note", {"text": "gone"}, subject=study)
        self.seal()  # which may find conflicts, and tell of them
        self.seal()
        shutil.copytree(self.keys, self.directory / "old keys", dirs_exist_ok=True)
        self.house.holding.eraser.erase(study)
        self.named.discard(study)
        self.told = {each: told for each, told in self.told.items() if study_of(each) != study}
        self.committed = {each for each in self.committed if study_of(each[0]) != study}
        for kind, subject in list(self.events):
            if subject == study:
                del self.events[kind, subject]
        with self.house.holding.index.reader() as connection:
            for _, tombstone in erasures.tombstones(connection):
                self.destroyed |= tombstone.key_ids

    @precondition(lambda self: self.destroyed)
    @rule()
    def restore_old_keys(self):
        shutil.copytree(self.directory / "old keys", self.keys, dirs_exist_ok=True)
        self.house.holding.eraser.reapply()

    @property
    def keys(self):
        return self.house.root / "keys"

    @precondition(lambda self: self.sealed())
    @rule(which=st.integers(min_value=0), where=st.integers(min_value=0), data=st.data())
    def damage_scrub_and_repair(self, which, where, data):
        """A byte changes or the file goes; scrub says so, and the copy mends it."""
        paths = self.sealed()
        path = paths[which % len(paths)]
        if data.draw(st.booleans()):
            path.unlink()
        else:
            path.chmod(0o600)
            content = bytearray(path.read_bytes())
            content[where % len(content)] ^= 1
            path.write_bytes(content)
        self.house.holding.presence.check()
        found = [
            each for each in self.house.holding.scrubber.run(houses.EVERY_PACK) if not each.sound
        ]
        [done] = self.house.holding.repairer.run(
            copy_below(Filesystem(self.copy), self.house.holding.layout), "the copy"
        )
        assert done.repaired, done
        assert len(found) <= 1
        self.events["repair", ""] += 1

    @rule()
    def scrub(self):
        assert all(each.sound for each in self.house.holding.scrubber.run(houses.EVERY_PACK))

    def sealed(self):
        """The files of packs that somebody still answers for."""
        with self.house.holding.index.reader() as connection:
            erased = {str(row.pack_id) for row in packs.packs_in(connection, PackState.ERASED)}
        return [path for path in self.house.files("packs/*/p/*/*.tar") if path.stem not in erased]

    @invariant()
    def everything_acknowledged_is_there(self):
        for number, versions in self.told.items():
            held = self.house.versions(number)
            for content in versions:
                data = data_of(number, content)
                copies = [each for each in held if each.identity.size_bytes == len(data)]
                here = [each for each in copies if each.sound]
                if here:
                    assert self.house.recall(here[0]) == data
                else:
                    assert {each.pack_state for each in copies} == {PackState.EVICTED}
                    assert (number, copies[0].identity.sha256) in self.committed

    @invariant()
    def every_event_is_there(self):
        with self.house.holding.index.reader() as connection:
            rows = connection.execute(
                "SELECT kind, subject, count(*) FROM fact GROUP BY kind, subject"
            ).fetchall()
        found = {(str(kind), str(subject)): int(count) for kind, subject, count in rows}
        assert all(found.get(about, 0) >= count for about, count in self.events.items())

    @invariant()
    def what_was_erased_stays_so(self):
        for key_id in self.destroyed:
            with pytest.raises(Erased):
                self.house.holding.keyring.data_key(key_id)
        with self.house.holding.index.reader() as connection:
            rows = connection.execute("SELECT DISTINCT subject FROM fact").fetchall()
            assert {subject for (subject,) in rows} <= self.named | {""}
        for number in range(1, 10):
            if number not in self.told:
                assert self.house.versions(number) == []


# A step opens packs and flushes: a second for each example.
Hospital.TestCase.settings = settings(max_examples=settings().max_examples * 2 // 5)
TestHospital = Hospital.TestCase
