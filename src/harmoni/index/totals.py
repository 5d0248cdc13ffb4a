"""Counts over the whole index, for operators and for negotiation."""

from dataclasses import dataclass

from harmoni.index.database import Connection
from harmoni.index.packs import PackState


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a hospital's index counts."""

    studies: int
    instances: int
    """SOP Instance UIDs; several versions of one count once."""
    damaged: int
    """Copies that are flagged."""


def totals(connection: Connection) -> Totals:
    """Count everything; reads the narrow index over UIDs, not the rows."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM study WHERE uid != x''),"
        " (SELECT count(DISTINCT sop_hash) FROM instance),"
        " (SELECT count(*) FROM instance WHERE damaged = 1)"
    ).fetchone()
    assert row is not None
    studies, instances, damaged = row
    return Totals(studies=studies, instances=instances, damaged=damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacksInState:
    """How many packs are in one state."""

    count: int
    size_bytes: int
    """Of their files, as they were sealed; those of open packs are not counted."""


def packs_by_state(connection: Connection) -> dict[PackState, PacksInState]:
    """Count the packs of every state, those without a pack included."""
    none = PacksInState(count=0, size_bytes=0)
    rows = connection.execute(
        "SELECT state, count(*), coalesce(sum(size_bytes), 0) FROM pack GROUP BY state"
    )
    return dict.fromkeys(PackState, none) | {
        PackState(state): PacksInState(count=int(count), size_bytes=int(size_bytes))
        for state, count, size_bytes in rows
    }


def preferred_syntaxes(connection: Connection) -> dict[str, list[str]]:
    """For each SOP class, the transfer syntaxes in which its instances are held, most held first.

    Counted over the 20,000 instances of the newest series, which takes a few milliseconds however
    large the index is; a class that is not among them has no preference.
    """
    rows = connection.execute(
        "SELECT sop_class.uid, transfer_syntax.uid FROM (SELECT sop_class_no, transfer_syntax_no"
        " FROM instance ORDER BY series_no DESC LIMIT 20000) JOIN sop_class USING (sop_class_no)"
        " JOIN transfer_syntax USING (transfer_syntax_no)"
        " GROUP BY sop_class.uid, transfer_syntax.uid ORDER BY count(*) DESC, transfer_syntax.uid"
    )
    ranked: dict[str, list[str]] = {}
    for sop_class, syntax in rows:
        ranked.setdefault(str(sop_class), []).append(str(syntax))
    return ranked
