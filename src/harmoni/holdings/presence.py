"""Whether the packs that rows name are still there, and noting what is not.

A row says that a copy was durable once. Before somebody is told that an instance is safe on the
strength of a row, the file is looked at; and whoever meets damage notes it, so that nobody else
believes that copy and an identical re-send heals it. Reading everything again is scrub's work.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.live_index import LiveIndex
from harmoni.index import packs, scrubbing
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackState
from harmoni.model.errors import HarmoniError, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Location
from harmoni.vault.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at sealed packs changed."""

    missing: tuple[PackId, ...]
    """Gone or cut since the last look."""
    returned: tuple[PackId, ...]
    """There again, with the length that was sealed."""
    ended: bool
    """Whether it came to the last pack; the next look begins with the first one."""


class Presence:
    """Looks at the files of one hospital's packs.

    Args:
        files: the store.
        layout: the hospital's names.
        index: its live index.
    """

    def __init__(self, files: Filesystem, layout: Layout, index: LiveIndex) -> None:
        self._files = files
        self._layout = layout
        self._index = index
        self._after: PackId | None = None

    def has(self, location: Location) -> bool:
        """Whether the file of a copy is there and reaches as far as the copy does."""
        size_bytes = self._size_bytes(location.pack_id)
        return size_bytes is not None and size_bytes >= location.offset + location.size_bytes

    def check(self, limit: int = -1) -> Looked:
        """Compare sealed packs with their files, by name and length, and note what changed.

        The keeper looks at every pack at start and once an hour, some in each round, since a
        million files take minutes. What was let go of is not looked for.

        Args:
            limit: how many to look at, from where the last call ended; -1 for all that are left.
        """
        with self._index.reader() as connection:
            rows = packs.packs_after(
                connection, self._after, (PackState.SEALED, PackState.MISSING), limit
            )
        changed = [row for row in rows if self._is_whole(row) is (row.state is PackState.MISSING)]
        gone = tuple(row.pack_id for row in changed if row.state is PackState.SEALED)
        back = tuple(row.pack_id for row in changed if row.state is PackState.MISSING)
        if gone or back:
            with self._index.write(durable=True) as connection:
                # A pack may have been let go of since its row was read.
                gone = _not_let_go(connection, gone)
                back = _not_let_go(connection, back)
                for pack_id in gone:
                    packs.set_state(connection, pack_id, PackState.MISSING)
                for pack_id in back:
                    packs.set_state(connection, pack_id, PackState.SEALED)
                    # Its length is all that is known of it: it is scrubbed before others.
                    scrubbing.note(connection, pack_id, 0)
        ended = len(rows) != limit
        self._after = None if ended else rows[-1].pack_id
        return Looked(missing=gone, returned=back, ended=ended)

    def note_unreadable(self, held: Held, error: HarmoniError) -> None:
        """Note that a copy could not be given back: its pack is missing, or it is damaged.

        Of an evicted pack there is nothing to note: nobody believes its copies. When even that
        cannot be noted, the error tells it; it is the error that counts.
        """
        try:
            with self._index.write(durable=True) as connection:
                if not _not_let_go(connection, [held.location.pack_id]):
                    return
                if self._size_bytes(held.location.pack_id) is None:
                    packs.set_state(connection, held.location.pack_id, PackState.MISSING)
                else:
                    packs.flag_damaged(connection, held.sop_instance_uid, held.location)
        except HarmoniError as failure:
            error.add_note(f"and it could not be noted: {failure}")

    def _is_whole(self, row: packs.PackRow) -> bool:
        size_bytes = self._size_bytes(row.pack_id)
        return size_bytes is not None and (
            row.sealed is None or size_bytes == row.sealed.size_bytes
        )

    def _size_bytes(self, pack_id: PackId) -> int | None:
        # A pack that is moved between the two looks is met by the third.
        sealed = self._layout.sealed_pack(pack_id)
        for name in (sealed, self._layout.open_pack(pack_id), sealed):
            try:
                return self._files.size_bytes(name)
            except NotHeld:
                continue
        return None


def _not_let_go(connection: Connection, pack_ids: Iterable[PackId]) -> tuple[PackId, ...]:
    rows = {pack_id: packs.pack(connection, pack_id) for pack_id in pack_ids}
    return tuple(
        pack_id for pack_id, row in rows.items() if row is None or row.state not in packs.LET_GO
    )
