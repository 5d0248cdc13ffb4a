"""Success is answered after the flush, never before: read from the system calls of a real worker.

TLS hides which bytes are a C-STORE-RSP. But an association is one thread, and a provider writes to
its connection only to answer: so the response to an instance is the next write to a connection by
the thread that put the instance into a pack. Whoever leads the group commit may be another thread.

These tests fail, as was tried, when `OpenPack._lead` does not flush, when it flushes after the
waiting associations were told to go on, and when `PackWriter.sync` leaves the folder out.
"""

import random
import threading
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

import centre
from harmoni.backends.filesystem import Filesystem
from harmoni.sealing.keys import KeyId
from harmoni.vault import reader
from system_calls import STRACE, Call, Trace, attached

WRITES = ("pwrite64", "pwritev", "pwritev2", "copy_file_range")
TRACED = (
    *WRITES,
    *("openat", "fdatasync", "fsync", "rename", "link", "linkat", "write", "sendto", "sendmsg"),
)
STUDY = "1.2.826.0.1.3680043.10.7"
SMALL = [600, 9_000, 70_000, 300_000]
# A disk that takes its time, so that associations of one study wait for each other's flush.
SLOW_FLUSH = ("-e", "inject=fdatasync:delay_enter=15000")
PARTS = [(STUDY, 1), (STUDY, 101), (STUDY, 201), (STUDY, 301), (f"{STUDY}.2", 1)]
LARGE = [5 << 20, 9 << 20]  # beyond 4 MiB they go to a part file first


@dataclass(frozen=True)
class Appended:
    """One member as it was written into a pack, and the answer to its sender."""

    pack: str
    begun: Call
    last: Call
    response: Call


def place_of(call: Call) -> tuple[int, int]:
    """Where a write into a file begins and ends."""
    if call.name == "copy_file_range":
        offset = int(call.arguments.split("[")[2].split("]")[0].split(" ")[0])
    else:
        numbers = call.arguments.rsplit(", ", 2)
        offset = int(numbers[-2 if call.name == "pwritev2" else -1])
    return offset, offset + call.result


def appended(trace: Trace) -> list[Appended]:
    """The members in a trace; each must lie in its pack without a gap, and be answered."""
    found, writes = [], defaultdict(list)
    for call in trace.named(*WRITES, "write", "sendto", "sendmsg"):
        if call.left is None:  # under way when we stopped looking
            continue
        if call.name in WRITES:
            path = call.paths[-1]
            if path.endswith(".tar") and place_of(call)[0] > 0:  # at 0 stands the README
                writes[call.thread].append(call)
        elif "TCP:" in call.paths[0] and (parts := writes.pop(call.thread, [])):
            assert len({part.paths[-1] for part in parts}) == 1
            for part, following in pairwise(parts):
                assert place_of(part)[1] == place_of(following)[0]
            found.append(Appended(parts[0].paths[-1], parts[0], parts[-1], call))
    assert not writes
    return found


def packs_of(members: list[Appended]) -> set[str]:
    return {member.pack for member in members}


def between(earlier: Call, wanted: list[Call], later: Call) -> bool:
    """Whether one of the calls began after one was over and was over before another began."""
    return any(earlier.precedes(call) and call.precedes(later) for call in wanted)


def syncs(trace: Trace, name: str, path: str) -> list[Call]:
    return [call for call in trace.named(name) if call.paths == [path]]


def named(trace: Trace, path: str) -> Call:
    """The call that gave a pack its name, or that made a part file."""
    (call,) = [
        call
        for call in trace.named("openat", "rename")
        if path == call.names[-1] and (call.name == "rename" or "O_CREAT" in call.arguments)
    ]
    return call


def assert_published_before(trace: Trace, path: Path, first_use: Call) -> None:
    """A small file was written, flushed, linked, and its folder flushed, before it was used."""
    (link,) = [call for call in trace.named("link", "linkat") if call.names[-1] == str(path)]
    beside = link.names[0]
    (write,) = [call for call in trace.named(*WRITES) if call.paths == [beside]]
    assert between(write, syncs(trace, "fdatasync", beside), link)
    assert between(link, syncs(trace, "fsync", str(path.parent)), first_use)


@pytest.fixture(scope="module")
def traced(peer, tmp_path_factory):
    """Several associations of two senders, while strace looks at the worker; the keys too."""
    strace, _ = peer(STRACE), peer(centre.STORESCU)
    assert strace
    folder = tmp_path_factory.mktemp("flush")
    (folder / "files").mkdir()
    source = random.Random("flush")
    batches = [
        centre.write_instances(folder / "files", study, [*SMALL, *LARGE, *SMALL], source, first)
        for study, first in PARTS
    ]
    with centre.running(
        folder / "centre", settings=["archive.workers=1"], seal_after_s=3.0
    ) as archive:
        (house,) = archive.houses
        (worker,) = centre.children(archive.role.pids()[0], "worker")
        answers = {}

        def by_ours(batch):
            statuses = archive.store(house, batch)
            answers.update(zip([sample.path for sample in batch], statuses, strict=True))

        def by_dcmtk(batch):
            answers.update(archive.storescu(house, [sample.path for sample in batch]))

        with attached(worker.pid, folder / "trace", TRACED, *SLOW_FLUSH) as trace:
            senders = [
                threading.Thread(target=by_dcmtk if number % 2 else by_ours, args=(batch,))
                for number, batch in enumerate(batches)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        assert set(answers.values()) == {0, "Success"}
        assert len(answers) == sum(map(len, batches))
        archive.await_seals()
        keys = {}
        for path in archive.data.glob("packs/*/p/*/*.tar"):
            with Filesystem(path.parent).open(path.name) as file:
                keys[path.name] = KeyId.parse(reader.read_readme(file).key_id)
        yield archive.data, trace, len(answers), keys


def test_every_success_is_answered_after_a_flush_of_its_bytes(traced):
    _, trace, stored, _ = traced
    members = appended(trace)
    assert len(members) == stored
    for member in members:
        assert between(member.last, syncs(trace, "fdatasync", member.pack), member.response)
    # What several associations share is one flush, led by one of them.
    assert sum(len(syncs(trace, "fdatasync", pack)) for pack in packs_of(members)) < stored


def test_large_instances_are_copied_into_their_pack_before_the_flush(traced):
    _, trace, _, _ = traced
    copied = [member for member in appended(trace) if member.last is not member.begun]
    assert len(copied) == len(PARTS) * len(LARGE)


def test_the_name_of_a_pack_is_flushed_before_the_first_success_in_it(traced):
    _, trace, _, _ = traced
    for member in appended(trace):
        folder = str(Path(member.pack).parent)
        assert between(named(trace, member.pack), syncs(trace, "fsync", folder), member.response)


def test_keys_are_durable_before_the_first_ciphertext_under_them(traced):
    data, trace, _, keys = traced
    members = appended(trace)
    assert {Path(pack).name for pack in packs_of(members)} == set(keys)
    (epoch,) = data.glob("keys/hospital-a/epochs/*.age")
    for member in members:
        block = keys[Path(member.pack).name].block
        (block_path,) = data.glob(f"keys/hospital-a/*/{block}")
        for path in (epoch, block_path):
            assert_published_before(trace, path, member.begun)
    for part in {path for call in trace.named("openat") for path in call.names if ".part" in path}:
        assert_published_before(trace, epoch, named(trace, part))
