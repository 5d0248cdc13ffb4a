"""What a worker of the archive takes does not grow with what passes through it."""

import threading

import pytest

import centre as archives
import long_instance
import resident

MIB = 1 << 20
BOUND_BYTES = 150 * MIB
LONG_BYTES = 320 * MIB
EACH_BYTES = 24 * MIB
STUDY = "1.2.826.0.1.3680043.10.16"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    with archives.running(folder / "centre", settings=["archive.workers=1"]) as running:
        yield running


@pytest.fixture
def worker(running):
    [worker] = archives.children(running.role.pids()[0], "worker")
    return worker.pid


def store(running, instance):
    refused = running.requestor(running.houses[0]).store([instance], lambda _: None)
    assert not refused


def test_a_long_instance_passes_in_and_out_to_a_stalling_receiver_within_bounds(running, worker):
    study = f"{STUDY}.1"
    instance = long_instance.make(study, 1, LONG_BYTES)
    with resident.peak(worker) as taking_in:
        store(running, instance)
    receiver = long_instance.StallingReceiver(after_bytes=8 * MIB, stall_s=2.0)
    with resident.peak(worker) as giving_back:
        running.requestor(running.houses[0]).get(study, [instance], receiver)
    received = receiver.received()[instance.sop_instance_uid]
    assert (received.sha256, received.size_bytes) == (instance.sha256, instance.size_bytes)
    assert 0 < taking_in.anonymous_bytes < taking_in.resident_bytes <= BOUND_BYTES
    assert 0 < giving_back.anonymous_bytes < giving_back.resident_bytes <= BOUND_BYTES


def test_eight_associations_at_once_are_taken_in_within_bounds(running, worker):
    instances = [long_instance.make(f"{STUDY}.2.{each}", each, EACH_BYTES) for each in range(8)]
    threads = [threading.Thread(target=store, args=(running, each)) for each in instances]
    with resident.peak(worker) as taking_in:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for instance in instances:
        assert running.instances(running.houses[0], instance.study_instance_uid) == [
            instance.sop_instance_uid
        ]
    assert 0 < taking_in.anonymous_bytes < taking_in.resident_bytes <= BOUND_BYTES
