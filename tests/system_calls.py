"""The system calls of a running process, by strace: attached, written down, read back in order.

strace stops a thread where it enters a call and where it leaves it, and writes both down as it sees
them. So when A's end stands before B's beginning in the trace, A was over before B began.
"""

import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STRACE = "/usr/bin/strace"
_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<rest>.*)")
_RESULT = re.compile(r"(?P<arguments>.*)\) += (?P<result>-?\d+)(?P<note>.*)")
_CUT = re.compile(r" <(?:unfinished|detached) \.\.\.>$")
_ATTACHED = re.compile(r"Process \d+ attached")


@dataclass(eq=False)
class Call:
    """One system call.

    Attributes:
        thread: who called.
        name: such as "fdatasync".
        arguments: as strace shows them, with the path of each descriptor in <>.
        entered: its beginning, as a place in the trace.
        left: its end, likewise; None when the trace ends before.
        result: what it gave.
    """

    thread: int
    name: str
    arguments: str
    entered: int
    left: int | None = None
    result: int | None = None

    @property
    def paths(self) -> list[str]:
        """The paths and connections of its descriptors, in the order of the arguments."""
        # A connection has a "->" in it.
        return re.findall(r"\d+<((?:->|[^>])*)>", self.arguments)

    @property
    def names(self) -> list[str]:
        """Names of files among its arguments."""
        return re.findall(r'"([^"]*)"', self.arguments)

    def precedes(self, other: "Call") -> bool:
        """Whether it was over, without an error, before another began."""
        return (
            self.left is not None
            and self.result is not None
            and self.result >= 0
            and self.left < other.entered
        )


@dataclass
class Trace:
    """Filled when the with block of `attached` is over."""

    calls: list[Call] = field(default_factory=list)

    def named(self, *names: str) -> list[Call]:
        """The calls of these names in the order of their beginnings."""
        return [call for call in self.calls if call.name in names]


@contextmanager
def attached(pid: int, output: Path, calls: Sequence[str], *options: str) -> Iterator[Trace]:
    """Trace a process and all its threads for the length of the block.

    Args:
        pid: the process; it goes on when the block is over.
        output: where strace writes.
        calls: the names of the system calls.
        options: further options of strace.
    """
    trace = Trace()
    tracer = subprocess.Popen(
        [
            *(STRACE, "-f", "-yy", "-s", "0", "-o", str(output), "-p", str(pid)),
            *("-e", f"trace={','.join(calls)}", *options),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = tracer.stderr.readline()
        assert _ATTACHED.search(said), said
        yield trace
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.communicate(timeout=30)
    trace.calls.extend(_parse(output.read_text().splitlines()))


def _parse(lines: Sequence[str]) -> list[Call]:
    calls, open_calls = [], {}
    for place, line in enumerate(lines):
        found = _LINE.fullmatch(line)
        thread, rest = int(found["thread"]), found["rest"]
        if resumed := _RESUMED.match(rest):
            call = open_calls.pop(thread, None)
            if call is None:  # it had begun before we looked
                continue
            rest = call.arguments + resumed["rest"]
        elif begun := _CALL.match(rest):
            call = Call(thread, begun["name"], "", place)
            calls.append(call)
            rest = begun["rest"]
        else:  # a signal, an exit
            continue
        if cut := _CUT.search(rest):
            call.arguments = rest[: cut.start()]
            open_calls[thread] = call
        elif ended := _RESULT.fullmatch(rest):
            call.arguments, call.result, call.left = ended["arguments"], int(ended["result"]), place
            if ended["note"].startswith("<"):  # the descriptor that was made
                call.arguments += f", {ended['result']}{ended['note']}"
        else:  # its end was not seen
            call.arguments = rest
    return calls
