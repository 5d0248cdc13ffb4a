"""Which packs are due to be read again, the one verified longest ago first.

Sealing reads a pack back, so its first verification is its sealing. When a pack was scrubbed is
bookkeeping: a rebuilt index takes it over, or has everything scrubbed anew.
"""

from dataclasses import dataclass

from harmoni.index.database import Connection
from harmoni.index.packs import PackState
from harmoni.model.identifiers import PackId

_SCRUBBED = (PackState.SEALED, PackState.DAMAGED)
"""A damaged pack is read again too: its file may have been put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """From which time on a pack counts as verified lately enough; milliseconds since 1970."""

    scrubbed_before_ms: int
    """A pack that was scrubbed before this is due."""
    sealed_before_ms: int
    """A pack that was never scrubbed is due if it was sealed before this."""
    later_than_ms: int = 1 << 62
    """A pack is due if its last look is told to be later than this: the clock was ahead then."""


def due(connection: Connection, wanted: Due, limit: int = -1) -> list[PackId]:
    """The packs that are due, longest not verified first.

    Args:
        connection: from `Database.reader`.
        wanted: what counts as due.
        limit: how many at most; -1 for all.
    """
    found: list[tuple[int, str]] = []
    for state in _SCRUBBED:
        # One range of one index each; an OR would read the whole of it every second.
        for where, bound in (
            ("scrubbed_at_ms = 0 AND sealed_at_ms < ?", wanted.sealed_before_ms),
            (
                "scrubbed_at_ms > 0 AND scrubbed_at_ms < ? AND sealed_at_ms IS NOT NULL",
                wanted.scrubbed_before_ms,
            ),
            ("scrubbed_at_ms > ? AND sealed_at_ms IS NOT NULL", wanted.later_than_ms),
            ("scrubbed_at_ms = 0 AND sealed_at_ms > ?", wanted.later_than_ms),
        ):
            rows = connection.execute(
                "SELECT max(scrubbed_at_ms, sealed_at_ms), pack_id FROM pack"  # noqa: S608 - ours
                f" WHERE state = ? AND {where} ORDER BY scrubbed_at_ms, sealed_at_ms LIMIT ?",
                (state, bound, limit),
            )
            found += [(int(at_ms), str(pack_id)) for at_ms, pack_id in rows]
    found.sort()
    return [PackId(pack_id) for _, pack_id in (found if limit < 0 else found[:limit])]


def note(connection: Connection, pack_id: PackId, at_ms: int) -> None:
    """Note that a pack was read whole, with whatever result."""
    connection.execute(
        "UPDATE pack SET scrubbed_at_ms = ? WHERE pack_id = ?", (at_ms, pack_id.value)
    )


def oldest_ms(connection: Connection) -> int | None:
    """When the sealed pack that was not verified for longest was verified; None without packs."""
    oldest = []
    for where in ("scrubbed_at_ms = 0", "scrubbed_at_ms > 0"):
        row = connection.execute(
            "SELECT max(scrubbed_at_ms, sealed_at_ms) FROM pack"  # noqa: S608 - ours
            f" WHERE state = ? AND {where} ORDER BY scrubbed_at_ms, sealed_at_ms LIMIT 1",
            (PackState.SEALED,),
        ).fetchone()
        oldest += [] if row is None else [int(row[0])]
    return min(oldest, default=None)


def take_over(source: Connection, target: Connection) -> None:
    """Let a rebuilt index know what was scrubbed already."""
    rows = source.execute("SELECT scrubbed_at_ms, pack_id FROM pack WHERE scrubbed_at_ms > 0")
    target.executemany("UPDATE pack SET scrubbed_at_ms = ? WHERE pack_id = ?", rows.fetchall())
