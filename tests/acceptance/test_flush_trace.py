"""What the kernel saw: every success was preceded by a completed flush of that instance's pack.

The worker is traced by strace while one sender stores in lockstep, so the thread of the association
appends, flushes, commits and answers in one order. Two of these tests were seen to fail when
`OpenPack._lead` did not flush.
"""

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import house as houses
from harmoni.demo import serve, system
from harmoni.demo.requestor import Requestor
from harmoni.demo.samples import Sample
from harmoni.runtime.clock import SystemClock

CALLS = "pwritev,pwritev2,pwrite64,fdatasync,fsync,link,linkat,copy_file_range,write,sendto,sendmsg"
# thread, call, file of the first argument, the rest, result
LINE = re.compile(r"^(\d+)\s+(\w+)\((\d+<[^>]*(?:>[^,)]*)?|[^,)]*)(.*)\)\s+=\s+(-?\d+)")
MIB = 1 << 20
SIZES = [500, 20_000, 600_000, 5 * MIB, 700, 6 * MIB, 800]


@dataclass(frozen=True)
class Call:
    number: int
    thread: str
    name: str
    target: str
    rest: str
    result: int


def samples(folder: Path) -> list[Sample]:
    made = []
    for number, size in enumerate(SIZES, 1):
        data = houses.data_set(number, pixels=bytes([number]) * size)
        path = folder / f"{number}.data"
        path.write_bytes(data)
        made.append(
            Sample(
                path=path,
                sop_class_uid=houses.CT,
                sop_instance_uid=houses.uid(number),
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                study_instance_uid=houses.STUDY,
                offset=0,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).digest(),
            )
        )
    return made


def parse(trace: Path) -> list[Call]:
    """Completed calls in the order in which they ended; unfinished halves are joined."""
    calls, begun = [], {}
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split(None, 1)[0]
        if line.rstrip().endswith("<unfinished ...>"):
            begun[thread] = line.rstrip().removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$", line)
        whole = begun.pop(thread, "") + resumed[2] if resumed else line
        found = LINE.match(whole)
        if found:
            calls.append(Call(len(calls), found[1], found[2], found[3], found[4], int(found[5])))
    return calls


@pytest.fixture(scope="module")
def traced(tmp_path_factory, request):
    """The calls of a worker that stored SIZES, and how many successes the sender saw."""
    if shutil.which("strace") is None:
        request.getfixturevalue("peer")("/usr/bin/strace")
    folder = tmp_path_factory.mktemp("trace")
    clock = SystemClock()
    centre = system.build(
        folder, hospitals=1, seal_after_s=600, settings=["archive.workers=1"], clock=clock
    )
    trace = folder / "trace"
    with serve.archive_role(centre, clock) as role:
        [worker] = [pid for pid in role.pids()[1:] if "worker" in psutil.Process(pid).cmdline()]
        with subprocess.Popen(
            [
                "strace",
                "-f",
                "-yy",
                "-s",
                "0",
                "-e",
                f"trace={CALLS}",
                "-o",
                trace,
                "-p",
                f"{worker}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as tracer:
            # strace says so once it holds every thread.
            assert "attached" in tracer.stderr.readline()
            stored = []
            refused = Requestor(centre, centre.houses[0], clock).store(
                samples(folder), stored.append
            )
            tracer.terminate()
            tracer.communicate()
    assert refused == {}
    return parse(trace), len(stored)


def is_pack(call: Call) -> bool:
    return bool(re.search(r"/packs/hospital-a/open/[0-9A-Z]{26}\.tar>", call.target))


def appends(calls: list[Call]) -> list[Call]:
    """Writes of members: all writes into a pack but the first, which is its README."""
    seen, members = set(), []
    for call in calls:
        if call.name in {"pwritev", "pwritev2"} and is_pack(call):
            if call.target in seen:
                members.append(call)
            seen.add(call.target)
        elif call.name == "copy_file_range" and ".tar>" in call.rest:
            members.append(call)
    return members


def answers(calls: list[Call], thread: str) -> list[Call]:
    return [
        call
        for call in calls
        if call.thread == thread
        and call.name in {"write", "sendto", "sendmsg"}
        and "TCP" in call.target
    ]


def test_success_is_answered_only_after_fsync_of_that_pack(traced):
    calls, successes = traced
    members = appends(calls)
    assert successes == len(SIZES)
    assert len(members) >= len(SIZES)
    proved = 0
    for member in members:
        pack = re.search(r"open/([0-9A-Z]{26})\.tar>", member.target + member.rest)[1]
        answer = next(call for call in answers(calls, member.thread) if call.number > member.number)
        flushes = [
            call
            for call in calls[member.number : answer.number]
            if call.name == "fdatasync" and f"{pack}.tar>" in call.target and call.result == 0
        ]
        assert flushes, f"no flush between {member} and {answer}"
        proved += 1
    assert proved == len(members)


def test_the_packs_name_is_durable_before_the_first_success(traced):
    calls, _ = traced
    first = appends(calls)[0]
    answer = next(call for call in answers(calls, first.thread) if call.number > first.number)

    assert any(
        call.name == "fsync"
        and call.target.endswith("/packs/hospital-a/open>")
        and call.result == 0
        for call in calls[: answer.number]
    )


def test_epoch_key_and_key_block_are_durable_before_the_first_ciphertext(traced):
    calls, _ = traced
    first = appends(calls)[0].number
    for folder in ("/keys/hospital-a/epochs", "/keys/hospital-a/dc1-node1-w0"):
        flushed = next(
            call.number
            for call in calls
            if call.name == "fdatasync" and f"{folder}/." in call.target and call.result == 0
        )
        linked = next(
            call.number
            for call in calls
            if call.name in {"link", "linkat"}
            and f"{folder}/" in call.target + call.rest
            and call.number > flushed
        )
        named = next(
            call.number
            for call in calls
            if call.name == "fsync" and call.target.endswith(f"{folder}>") and call.number > linked
        )
        assert flushed < linked < named < first
