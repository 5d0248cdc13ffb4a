"""Associations recorded with other vendors' tools, played again byte for byte."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from association_pairs import CT, OURS, REQUEST, Shell, accept_all, echo, sent, store, wire
from harmoni.dicom import association as upper
from harmoni.dicom import dimse, presentation

TRANSCRIPTS = sorted((Path(__file__).parents[2] / "transcripts").glob("*.txt"))
DATA_SET = (
    bytes.fromhex("0800 1600 5549 1A00") + CT.encode() + b"\0",
    bytes.fromhex("0800 1800 5549 0800") + b"1.2.3.4\0",
)
ACTS: dict[str, list[Callable[[upper.Association], bytes]]] = {
    "dcmtk-storescp": [
        lambda association: wire(association, 3, echo()),
        lambda association: wire(association, 1, store(), DATA_SET),
        lambda association: association.release() or sent(association),
    ]
}


def _read(path: Path) -> list[tuple[str, bytes | list[str]]]:
    """Blocks of a transcript: ("<" or ">", bytes) and ("=", names of events)."""
    blocks: list[tuple[str, list[str]]] = []
    for line in path.read_text().splitlines():
        mark, _, content = line.partition("#")[0].strip().partition(" ")
        if not mark:
            continue
        if not blocks or blocks[-1][0] != mark:
            blocks.append((mark, []))
        blocks[-1][1].append(content)
    return [
        (mark, lines if mark == "=" else bytes.fromhex("".join(lines))) for mark, lines in blocks
    ]


def _react(shell: Shell, event: upper.Event, acts: Iterator[Callable]) -> bytes:
    """What the recorded side did: accept all, answer with success, go through its acts."""
    association = shell.association
    match event:
        case upper.AssociateRequested(request=request):
            association.accept(presentation.negotiate(request, accept_all), OURS)
        case upper.CommandReceived(command=command, has_data_set=False, context_id=number):
            if not command.field.is_response:
                return wire(association, number, dimse.response(command, 0))
            return next(acts)(association)
        case upper.DataSetReceived(context_id=number):
            command = next(
                event.command
                for event in reversed(shell.events)
                if isinstance(event, upper.CommandReceived)
            )
            return wire(association, number, dimse.response(command, 0))
        case upper.AssociateAccepted():
            return next(acts)(association)
        case upper.ReleaseRequested():
            association.confirm_release(now_s=0.0)
        case _:
            pass
    return sent(association)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_recorded_association_goes_the_same_way_again(path, step):
    blocks = _read(path)
    requestor = blocks[0][0] == ">"
    shell = Shell(upper.Association(requestor=requestor, now_s=0.0))
    ours = bytearray()
    if requestor:
        shell.association.associate(REQUEST)
        ours += sent(shell.association)
    acts = iter(ACTS.get(path.stem, []))
    done = 0
    for mark, content in blocks:
        match mark:
            case "<":
                for at in range(0, len(content), step):
                    shell.feed(content[at : at + step])
            case "=":
                if content[-1] == "TransportClosed":
                    shell.close()
                new = shell.events[done:]
                done = len(shell.events)
                assert content == [type(event).__name__ for event in new]
                for event in new:
                    ours += _react(shell, event, acts)
            case _:
                assert bytes(ours) == content
                ours.clear()
    assert not ours
    assert shell.association.closing
