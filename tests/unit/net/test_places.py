import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.net import places
from harmoni.net.places import OwnPlaces, SharedPlaces, create_table


@pytest.fixture
def table():
    descriptor = create_table()
    yield descriptor
    os.close(descriptor)


def test_what_one_worker_counts_the_other_counts_on(table):
    first, second = SharedPlaces(table, 0), SharedPlaces(table, 1)
    assert [first.take("192.0.2.1"), second.take("192.0.2.1"), first.take("192.0.2.1")] == [1, 2, 3]
    assert second.take("192.0.2.2") == 1

    first.give_back("192.0.2.1")
    assert second.take("192.0.2.1") == 3


def test_what_a_dead_worker_had_counted_is_gone_with_its_successor(table):
    first, second = SharedPlaces(table, 0), SharedPlaces(table, 1)
    for _ in range(5):
        first.take("192.0.2.1")
    second.take("192.0.2.1")
    successor = SharedPlaces(table, 0)

    assert successor.take("192.0.2.1") == 2


def test_processes_and_threads_at_once_lose_no_count(table):
    program = (
        "import sys; from harmoni.net.places import SharedPlaces\n"
        "own = SharedPlaces(int(sys.argv[1]), int(sys.argv[2]))\n"
        "for _ in range(300): own.take('192.0.2.1')\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(table), str(n)], pass_fds=[table])
        for n in (1, 2)
    ]
    mine = SharedPlaces(table, 0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: mine.take("192.0.2.1"), range(300)))
    assert [child.wait(30) for child in children] == [0, 0]

    assert mine.take("192.0.2.1") == 901


def test_more_addresses_than_rows_are_let_in_and_break_nothing(table, monkeypatch):
    monkeypatch.setattr(places, "_ROWS", 4)
    own = SharedPlaces(table, 0)
    assert [own.take(f"192.0.2.{n}") for n in range(6)] == [1] * 6
    for n in range(6):
        own.give_back(f"192.0.2.{n}")

    assert own.take("192.0.2.9") == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 5)), max_size=60))
def test_shared_places_count_as_one_counter_would(acts):
    descriptor = create_table()
    try:
        workers = [SharedPlaces(descriptor, 0), SharedPlaces(descriptor, 1)]
        model = {}
        for taking, worker, number in acts:
            address = f"192.0.2.{number}"
            if taking:
                model[worker, number] = model.get((worker, number), 0) + 1
                expected = sum(model.get((each, number), 0) for each in (0, 1))
                assert workers[worker].take(address) == expected
            elif model.get((worker, number), 0):
                model[worker, number] -= 1
                workers[worker].give_back(address)
    finally:
        os.close(descriptor)


def test_one_process_counts_for_itself():
    own = OwnPlaces()
    assert [own.take("a"), own.take("a"), own.take("b")] == [1, 2, 1]
    own.give_back("a")
    own.give_back("a")

    assert own.take("a") == 1
