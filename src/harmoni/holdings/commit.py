"""Storage commitment decided from what is verified, never from what the index hopes.

A reference is final when every version that it means lies in sealed packs, in as many verified
places as the installation asks for, or when it can never be committed. At a gateway it is the
destination's own commitment that counts, end to end. A transaction is reported once, when all its
references are final.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from harmoni.dicom.commitment_data import Reference
from harmoni.dicom.status import Status
from harmoni.holdings.events import EventRecorder
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.presence import Presence
from harmoni.index import commitment, erasures, jobs, packs, safe
from harmoni.index.commitment import Transaction
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.index.packs import PackState
from harmoni.model.errors import Busy
from harmoni.runtime.clock import Clock
from harmoni.sealing import event

_WAITING: Final = -1
_MOST_WAITING: Final = 200_000
"""References of one requester that may wait; a first request of any size is taken."""
_YOUNG_S: Final = 60.0
_PAUSE_BY_AGE: Final = 0.05
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentPolicy:
    """When an instance counts as safe."""

    safe_copies: int
    """Verified places that a committed instance lies in; never lowered by itself."""
    grace_s: float = 600.0
    """How long an unknown instance may still arrive before it is reported as such."""
    places: tuple[str, ...] = ()
    """The sites that have verified what is sealed here: so far, this one."""
    elsewhere: bool = False
    """Whether only what the destination has committed itself to counts: a gateway keeps a copy for
    a while, and does not answer for it."""


class Commitments:
    """The storage commitment transactions of one hospital.

    Args:
        index: the hospital's live index.
        presence: looks at the files of what is to be committed.
        events: where what was committed is recorded.
        clock: the time.
        policy: when an instance counts as safe.
    """

    def __init__(
        self,
        *,
        index: LiveIndex,
        presence: Presence,
        events: EventRecorder,
        clock: Clock,
        policy: CommitmentPolicy,
    ) -> None:
        self._index = index
        self._presence = presence
        self._events = events
        self._clock = clock
        self._policy = policy
        # In monotonic seconds, reckoned at the first look: a clock that jumps ends no grace.
        self._accepted_s: dict[tuple[str, str], float] = {}
        self._again_s: dict[tuple[str, str], float] = {}
        self._hastened: dict[tuple[str, str], int] = {}

    def accept(
        self,
        requester: str,
        transaction_uid: str,
        references: Sequence[Reference],
        *,
        at_once: bool = False,
    ) -> None:
        """Take a request in; it is durable when this returns.

        Args:
            requester: its calling AE title.
            transaction_uid: new, or that of the same request before.
            references: what is to be committed.
            at_once: give what is unknown no grace: our own nodes ask for what they sent before.

        Raises:
            AlreadyHeld: the requester used this Transaction UID with other content (0131).
            Busy: the requester has too much that is not final yet; later.
            OutOfResources, StorageFailed: it is not accepted.
        """
        now_ms = self._clock.now_ms()
        grace_ms = 0 if at_once else int(self._policy.grace_s * 1000)
        with self._index.write(durable=True) as connection:
            waiting = commitment.waiting_references(connection, requester)
            if waiting and waiting + len(references) > _MOST_WAITING:
                raise Busy(
                    f"{waiting} references of {requester} wait for commitment: ask for more when"
                    " they are reported"
                )
            commitment.accept(
                connection,
                Transaction(
                    requester=requester,
                    transaction_uid=transaction_uid,
                    accepted_at_ms=now_ms,
                    grace_until_ms=now_ms + grace_ms,
                    references=tuple(references),
                ),
            )

    def waiting(self) -> int:
        """How many transactions are not final yet."""
        with self._index.reader() as connection:
            return len(commitment.unresolved_since(connection))

    def due(self, requester: str) -> list[Transaction]:
        """The requester's transactions whose report is due, oldest first.

        What is committed and came with a hash, so from one of our own nodes, says its places.
        """
        with self._index.reader() as connection:
            due = commitment.pending(connection, requester)
        return [
            replace(
                transaction,
                references=tuple(self._placed(reference) for reference in transaction.references),
            )
            for transaction in due
        ]

    def answered(self, requester: str, transaction_uid: str) -> None:
        """The requester answered the report with success; it is not sent again."""
        with self._index.write(durable=True) as connection:
            commitment.answered(connection, requester, transaction_uid, self._clock.now_ms())
            erasures.forget_answered(connection, requester, transaction_uid)

    def resolve_all(self, *, all_finished: bool = True) -> int:
        """Look at every open transaction: ask for seals, and make final what can be.

        Called every second by the keeper.

        Args:
            all_finished: whether every pack that nobody holds is finished. While one is not, an
                instance whose row was lost may lie in it, so nobody is told at once that it is
                unknown.

        Returns:
            The number of transactions that became final.
        """
        now_s = self._clock.monotonic_s()
        with self._index.reader() as connection:
            waiting = commitment.unresolved_since(connection)
        self._accepted_s = {
            key: self._accepted_s.get(key, now_s - max(0.0, self._age_s(accepted_at_ms)))
            for key, accepted_at_ms in waiting.items()
        }
        self._again_s = {key: at_s for key, at_s in self._again_s.items() if key in waiting}
        self._hastened = {key: copies for key, copies in self._hastened.items() if key in waiting}
        resolved = 0
        for key in waiting:
            if now_s < self._again_s.get(key, now_s):
                continue
            # What waits for long is looked at seldom: each look reads all its references.
            waited_s = now_s - self._accepted_s[key]
            self._again_s[key] = now_s + min(
                _LONGEST_PAUSE_S, max(0.0, waited_s - _YOUNG_S) * _PAUSE_BY_AGE
            )
            with self._index.reader() as connection:
                transaction = commitment.transaction(connection, *key)
            resolved += transaction is not None and self._resolve(
                transaction, waited_s=waited_s, all_finished=all_finished
            )
        return resolved

    def _age_s(self, accepted_at_ms: int) -> float:
        return (self._clock.now_ms() - accepted_at_ms) / 1000

    def _resolve(self, transaction: Transaction, *, waited_s: float, all_finished: bool) -> bool:
        with self._index.reader() as connection:
            meant = commitment.copies(connection, transaction)
        now_ms = self._clock.now_ms()
        grace_s = self._policy.grace_s
        if all_finished:
            grace_s = (transaction.grace_until_ms - transaction.accepted_at_ms) / 1000
        in_grace = waited_s < grace_s
        outcomes = [self._outcome(reference, held, in_grace=in_grace) for reference, held in meant]
        if _WAITING in outcomes:
            if self._policy.elsewhere:
                self._hasten(transaction, sum(len(copies) for _, copies in meant))
            else:
                self._ask_for_seals([held for _, copies in meant for held in copies])
            return False
        final = replace(
            transaction,
            references=tuple(
                replace(reference, failure_reason=outcome)
                for (reference, _), outcome in zip(meant, outcomes, strict=True)
            ),
        )
        places = self._places(final, meant)
        # The event first: the store is the truth, the report follows from it.
        for study, references in _by_study(meant, outcomes).items():
            self._events.record_of_held(
                event.COMMITMENT,
                {
                    "copies": len(places),
                    "instances": references,
                    "places": list(places),
                    "requester": transaction.requester,
                    "transaction": transaction.transaction_uid,
                },
                study=study,
            )
        with self._index.write(durable=True) as connection:
            commitment.resolve(connection, final, now_ms)
        return True

    def _placed(self, reference: Reference) -> Reference:
        if reference.sha256 is None or reference.failure_reason is not None:
            return reference
        places = self._policy.places
        return replace(reference, copies=len(places), sites=places)

    def _outcome(
        self, reference: Reference, copies: Sequence[Held], *, in_grace: bool
    ) -> int | None:
        """None when committed, `_WAITING` when not final, else the reason (PS3.3 C.14.1.1)."""
        if not copies:
            return _WAITING if in_grace else Status.NO_SUCH_SOP_INSTANCE
        if any(held.sop_class_uid != reference.sop_class_uid for held in copies):
            return Status.CLASS_INSTANCE_CONFLICT
        if self._policy.elsewhere:
            return self._outcome_elsewhere(copies)
        sound: dict[object, list[Held]] = {held.identity: [] for held in copies}
        for held in copies:
            if held.sound and self._presence.has(held.location):
                sound[held.identity].append(held)
        if not all(sound.values()):
            return Status.PROCESSING_FAILURE
        sealed = all(
            any(held.pack_state is PackState.SEALED for held in same) for same in sound.values()
        )
        enough = len(self._policy.places) >= self._policy.safe_copies
        return None if sealed and enough else _WAITING

    def _outcome_elsewhere(self, copies: Sequence[Held]) -> int | None:
        with self._index.reader() as connection:
            if all(self._is_safe(connection, held) for held in copies):
                return None
            parked = jobs.reasons(connection, copies[0].sop_instance_uid)
        return Status.PROCESSING_FAILURE if parked else _WAITING

    def _is_safe(self, connection: Connection, held: Held) -> bool:
        found = safe.find(connection, held.sop_instance_uid, held.identity)
        return found is not None and found.copies >= self._policy.safe_copies

    def _places(
        self, final: Transaction, meant: Sequence[tuple[Reference, Sequence[Held]]]
    ) -> tuple[str, ...]:
        """The sites that have everything that a transaction has committed."""
        if not self._policy.elsewhere:
            return self._policy.places
        found: list[safe.Safe | None] = []
        with self._index.reader() as connection:
            for reference, (_, copies) in zip(final.references, meant, strict=True):
                if reference.failure_reason is None:
                    found += [
                        safe.find(connection, held.sop_instance_uid, held.identity)
                        for held in copies
                    ]
        sites = [frozenset(each.places) for each in found if each is not None]
        return tuple(sorted(frozenset.intersection(*sites))) if sites else ()

    def _hasten(self, transaction: Transaction, copies: int) -> None:
        """Let what a peer waits for go first, again when more of it has come."""
        key = (transaction.requester, transaction.transaction_uid)
        if self._hastened.get(key) != copies:
            with self._index.write() as connection:
                jobs.hasten(connection, [each.sop_instance_uid for each in transaction.references])
            self._hastened[key] = copies

    def _ask_for_seals(self, copies: Sequence[Held]) -> None:
        wanted = {held.location.pack_id for held in copies if held.pack_state is PackState.OPEN}
        if not wanted:
            return
        with self._index.reader() as connection:
            wanted -= packs.seal_requests(connection).keys()
        if wanted:
            with self._index.write() as connection:
                packs.request_seal(connection, wanted, self._clock.now_ms())


def _by_study(
    meant: Sequence[tuple[Reference, Sequence[Held]]], outcomes: Sequence[int | None]
) -> dict[str, list[dict[str, str]]]:
    """What was committed, study by study, as events name it."""
    studies: dict[str, list[dict[str, str]]] = {}
    for (reference, copies), outcome in zip(meant, outcomes, strict=True):
        if outcome is not None:
            continue
        for held in copies:
            studies.setdefault(held.study_instance_uid, []).append(
                {
                    "sha256": held.identity.sha256.hex(),
                    "sop_instance_uid": reference.sop_instance_uid,
                    "transfer_syntax": held.identity.transfer_syntax_uid,
                }
            )
    return studies
