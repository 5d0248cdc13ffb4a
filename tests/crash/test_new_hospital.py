"""A crash while a hospital is made leaves one that is there, or nothing that stands in the way."""

import os
from contextlib import suppress

import house as houses
from crash import index_log
from crash.harness import scratch
from crash.invariants import Examiner
from crash.recording import Numbers, RecordingFilesystem, baseline
from crash.states import States
from crash.work import Run, deterministic
from harmoni.holdings.holding import Holding
from harmoni.model.errors import AlreadyHeld
from harmoni.sealing import age
from harmoni.testing import FakeClock
from harmoni.vault.layout import Layout
from house import House

STATES = 150


def create(site):
    recovery = age.generate_identity(random=os.urandom(32)).recipient()
    return Holding.create(site, houses.HOSPITAL, recovery)


def test_the_same_call_again_completes_a_hospital_whose_making_was_cut_short():
    with scratch() as root, deterministic(1):
        store = root / "data"
        store.mkdir()
        custody_key, numbers = os.urandom(32), Numbers()
        journal = baseline(store, numbers)
        files = RecordingFilesystem(store, journal, numbers)
        with index_log.recorded(journal, store, root):
            create(houses.make_site(store, FakeClock(), custody_key, "dc1-n1-w0", files=files))
        examined = 0
        run, state_root = Run(journal, custody_key, {}, 0.0), root / "state"
        states = States(journal, Layout(houses.HOSPITAL).current_index, seed=1)
        for state in states.some(STATES):
            Examiner(run, state_root).put(state)
            site = houses.make_site(state_root, FakeClock(), custody_key, "dc1-n1-w1")
            with suppress(AlreadyHeld):
                create(site)
            house = House(site, Holding(site, houses.HOSPITAL))
            house.store(houses.data_set(1), 1)
            house.seal()

            assert house.recall(house.versions(1)[0]) == houses.data_set(1), state.how
            Examiner(run, state_root).clear()
            examined += 1
    assert examined == states.distinct == STATES
