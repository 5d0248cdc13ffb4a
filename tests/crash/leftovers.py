"""What a crash may leave of one file's unflushed sectors, from all of them to a random mix."""

from collections.abc import Callable
from random import Random

from crash.disk import SECTOR_BYTES, FileState, applied, dirty


def kept(state: FileState, _random: Random) -> bytes:
    """Everything got there, though nobody flushed it."""
    return state.newest()


def dropped(state: FileState, _random: Random) -> bytes:
    """Nothing got there."""
    return state.durable


def zeroed(state: FileState, _random: Random) -> bytes:
    """The length got there, the content did not."""
    return _mixed(state, lambda _sector: "zero")


def torn(state: FileState, random: Random) -> bytes:
    """What was written first got there; it ends within a sector, or zeros follow."""
    if not state.pending:
        return state.durable
    done = random.randrange(len(state.pending))
    last = state.pending[done]
    before = applied(state.durable, state.pending[:done])
    after = applied(before, (last,))
    cut = random.randrange(max(len(before), len(after)) + 1)
    if random.random() < 0.5:
        cut -= cut % SECTOR_BYTES
    if len(after) < len(before):
        return after if cut % 2 else before
    start = getattr(last, "offset", 0)
    cut = min(max(cut, start), len(after))
    if random.random() < 0.5:
        return after[:cut] + before[cut:]
    return after[:cut] + before[cut:] + bytes(max(0, len(after) - max(cut, len(before))))


def mixed(state: FileState, random: Random) -> bytes:
    """Each sector by chance."""
    weights = random.choice([(1, 1, 1), (6, 1, 1), (1, 6, 1), (1, 1, 6)])
    return _mixed(state, lambda _sector: random.choices(("new", "old", "zero"), weights)[0], random)


def all_but_one(state: FileState, random: Random) -> bytes:
    """One sector did not get there."""
    sectors = dirty(state)
    if not sectors:
        return state.newest()
    lost, how = random.choice(sectors), random.choice(("old", "zero"))
    return _mixed(state, lambda sector: how if sector == lost else "new")


def _mixed(state: FileState, choose: Callable[[int], str], random: Random | None = None) -> bytes:
    newest = state.newest()
    old = state.durable.ljust(len(newest), b"\0")
    data = bytearray(newest if len(newest) >= len(state.durable) else state.durable)
    reached = len(state.durable)
    for sector in dirty(state):
        span = slice(sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, len(newest)))
        how = choose(sector)
        if how == "new":
            reached = max(reached, span.stop)
        elif how == "old" or span.start < len(state.durable):
            # A sector is written whole or not at all: what was durable in it is not zeroed.
            data[span] = old[span]
        else:
            data[span] = bytes(len(newest[span]))
    if random is not None and len(newest) > reached and random.random() < 0.5:
        del data[random.randint(reached, len(newest)) :]
    return bytes(data)
