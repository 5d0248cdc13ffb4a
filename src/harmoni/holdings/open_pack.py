"""A pack while a worker adds to it, and the commit that many associations share.

Group commit without a timer: whoever finds no flush under way leads. The leader flushes the pack
once for everything appended so far and commits all rows in one transaction; what arrives meanwhile
shares the next round. So a lone sender never waits, and many senders never flush one by one.
"""

import threading
from dataclasses import dataclass

from harmoni.holdings.live_index import LiveIndex
from harmoni.index import ingest
from harmoni.model.errors import HarmoniError, StorageFailed
from harmoni.model.instance import Instance
from harmoni.vault.writer import PackWriter


@dataclass(slots=True, eq=False)
class _Ticket:
    """One appended instance that waits for its round."""

    instance: Instance
    doubtful: bool
    done: bool = False
    error: HarmoniError | None = None


class OpenPack:
    """A worker's pack: the writer, who is using it, and its group commit.

    Args:
        writer: the pack.
        index: the hospital's live index.
        opened_s: monotonic time of opening.
        alone: whether one giant has the pack for itself.
    """

    def __init__(
        self, writer: PackWriter, index: LiveIndex, *, opened_s: float, alone: bool = False
    ) -> None:
        self.writer = writer
        self.opened_s = opened_s
        self.touched_s = opened_s
        self.alone = alone
        self._index = index
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._committing = False
        self._users = 0
        self._retired = False

    def enter(self) -> bool:
        """Begin to use the pack; False when it was retired meanwhile."""
        with self._changed:
            if self._retired:
                return False
            self._users += 1
            return True

    def leave(self, now_s: float) -> None:
        """End to use the pack; the last to leave a retired one lets go of it."""
        with self._changed:
            self._users -= 1
            self.touched_s = now_s
            self._close_if_unused()

    def retire(self) -> None:
        """Accept no new user; let go as soon as the present ones have left."""
        with self._changed:
            self._retired = True
            self._close_if_unused()

    def commit(self, instance: Instance, *, doubtful: bool = False) -> None:
        """Return when the appended instance is durable and its row is visible.

        Args:
            instance: what was appended.
            doubtful: whether its job asks before it sends, as `ingest.record`.

        Raises:
            OutOfResources, StorageFailed: it is not; the sender must be told so.
        """
        ticket = _Ticket(instance, doubtful)
        with self._changed:
            self._waiting.append(ticket)
            while self._committing and not ticket.done:
                self._changed.wait()
            if not ticket.done:
                self._committing = True
                batch, self._waiting = self._waiting, []
            else:
                batch = []
        if batch:
            self._lead(batch)
        if ticket.error is not None:
            # One error object may end several associations: each raises its own.
            raise type(ticket.error)(*ticket.error.args) from ticket.error

    def _lead(self, batch: list[_Ticket]) -> None:
        error: HarmoniError | None = StorageFailed("the commit was interrupted; send again")
        try:
            # The order is the promise: pack bytes durable, then rows visible, then success.
            self.writer.sync()
            with self._index.write() as connection:
                for doubtful in {ticket.doubtful for ticket in batch}:
                    ingest.record(
                        connection,
                        [ticket.instance for ticket in batch if ticket.doubtful is doubtful],
                        self._index.terms,
                        doubtful=doubtful,
                        sent_anew=not doubtful,
                    )
            error = None
        except HarmoniError as failure:
            error = failure
        finally:
            with self._changed:
                for ticket in batch:
                    ticket.error = error
                    ticket.done = True
                self._committing = False
                self._changed.notify_all()

    def _close_if_unused(self) -> None:
        if self._retired and self._users == 0:
            self.writer.close()
