"""Jobs: each stored copy that is to be sent on, until its destination has committed itself to it.

    queued ──▶ sent ──▶ asked ──▶ (committed: the job is over and its row gone)
       ▲                  │
       ├──────────────────┘ the destination does not have it
       └──▶ parked          for good, with a reason, until somebody retries it
    doubtful ──▶ asked      whether it was sent is not known: it asks before it sends

A job is made in the transaction of its instance's row (ingest.py). It ends when the commitment is
recorded, which is an event in the store: an instance without one, and without a job, gets a
doubtful job by `reconcile`. So jobs may be lost with the index and nothing is lost with them.

Times are milliseconds since 1970. A lease keeps a study for one sender and runs out by itself.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from harmoni.index.attributes import pack_uid, uid_hash, unpack_uid
from harmoni.index.database import Connection, Row
from harmoni.index.packs import PackState
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Identity


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    DOUBTFUL = "doubtful"
    SENT = "sent"
    ASKED = "asked"
    PARKED = "parked"


class Urgency(IntEnum):
    """Which jobs go first; a lower number before a higher one."""

    COMMITMENT = 1
    """A peer waits for its commitment."""
    TODAY = 2
    BACKFILL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One copy on its way to one destination."""

    pack_id: PackId
    sequence: int
    study_instance_uid: str
    tries: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: bytes
    """Of the data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A job that somebody has to look at."""

    study_instance_uid: str
    sop_instance_uid: str
    tries: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much waits, and for how long."""

    by_state: dict[JobState, int]
    oldest_ms: int | None
    """When the oldest instance that is not committed was received."""
    latest_ms: int | None
    """Until when the job waits that waits longest."""


_OTHERS: Final = (Urgency.TODAY, Urgency.BACKFILL)
_ANY_TIME_MS: Final = 1 << 62

_SELECT: Final = (
    "SELECT pack_id, job.sequence, study.uid, tries, sop_class.uid, sop_uid, transfer_syntax.uid,"
    " dataset_sha256 FROM job JOIN instance ON instance.series_no = job.series_no"
    " AND instance.pack_no = job.pack_no AND instance.sequence = job.sequence"
    " JOIN pack ON pack.pack_no = job.pack_no JOIN study ON study.study_no = job.study_no"
    " JOIN sop_class USING (sop_class_no) JOIN transfer_syntax USING (transfer_syntax_no)"
)
# Commas and words of ours, with a mark for each value: studies that others have in hand.
_NOT_IN_HAND: Final = " AND study_no NOT IN (SELECT study_no FROM study WHERE uid IN ({marks}))"


def is_due(
    connection: Connection, destination: str, now_ms: int, in_hand: Collection[str] = ()
) -> bool:
    """Whether anything is to be sent now, of a study that nobody has in hand."""
    return _due_study(connection, destination, now_ms, in_hand) is not None


def lease(
    connection: Connection,
    destination: str,
    *,
    now_ms: int,
    until_ms: int,
    most: int,
    in_hand: Collection[str] = (),
) -> list[Job]:
    """Take the queued jobs of the study whose turn it is, oldest first; [] when nothing is due.

    Args:
        connection: of a write.
        destination: whose jobs.
        now_ms: the time.
        until_ms: when the lease runs out.
        most: how many at most.
        in_hand: the studies that are being sent; a study is sent by one at a time.
    """
    study_no = _due_study(connection, destination, now_ms, in_hand)
    if study_no is None:
        return []
    return _lease(connection, destination, study_no, now_ms=now_ms, until_ms=until_ms, most=most)


def lease_more(
    connection: Connection,
    destination: str,
    study_instance_uid: str,
    *,
    now_ms: int,
    until_ms: int,
    most: int,
) -> list[Job]:
    """Take what of a study is due, for who has it in hand already."""
    row = connection.execute(
        "SELECT study_no FROM study WHERE uid = ?", (pack_uid(study_instance_uid),)
    ).fetchone()
    if row is None:
        return []
    return _lease(connection, destination, int(row[0]), now_ms=now_ms, until_ms=until_ms, most=most)


def _due_study(
    connection: Connection, destination: str, now_ms: int, in_hand: Collection[str]
) -> int | None:
    excluded = _NOT_IN_HAND.format(marks=", ".join("?" * len(in_hand))) if in_hand else ""
    row = connection.execute(
        "SELECT study_no FROM job WHERE destination = ? AND state = ? AND due_at_ms <= ?"  # noqa: S608
        f" AND lease_until_ms <= ?{excluded} ORDER BY urgency, due_at_ms LIMIT 1",
        (destination, JobState.QUEUED, now_ms, now_ms, *map(pack_uid, in_hand)),
    ).fetchone()
    return None if row is None else int(row[0])


def _lease(
    connection: Connection,
    destination: str,
    study_no: int,
    *,
    now_ms: int,
    until_ms: int,
    most: int,
) -> list[Job]:
    rows = connection.execute(
        f"{_SELECT} WHERE job.study_no = ? AND destination = ? AND job.state = ?"
        " AND due_at_ms <= ? AND lease_until_ms <= ? ORDER BY pack_id, job.sequence LIMIT ?",
        (study_no, destination, JobState.QUEUED, now_ms, now_ms, most),
    )
    taken = _jobs(rows)
    _each(connection, destination, taken, "lease_until_ms = ?", until_ms)
    return taken


def renew(connection: Connection, destination: str, jobs: Sequence[Job], until_ms: int) -> None:
    """Keep leased jobs for longer."""
    _each(connection, destination, jobs, "lease_until_ms = ?", until_ms)


def release_all(connection: Connection, destination: str) -> None:
    """Let every lease go: the only sender has just started."""
    connection.execute(
        "UPDATE job SET lease_until_ms = 0 WHERE destination = ? AND lease_until_ms > 0",
        (destination,),
    )


def give_back(connection: Connection, destination: str, jobs: Sequence[Job]) -> None:
    """Let leases go; the jobs are due as before: the destination could not be reached."""
    _each(connection, destination, jobs, "lease_until_ms = ?", 0)


def sent(connection: Connection, destination: str, jobs: Sequence[Job], ask_at_ms: int) -> None:
    """The destination has answered success.

    Args:
        connection: of a write.
        destination: whose jobs.
        jobs: which.
        ask_at_ms: when its commitment is asked for, unless a later one of the study is sent.
    """
    change = f"state = '{JobState.SENT}', lease_until_ms = 0, reason = '', due_at_ms = ?"
    _each(connection, destination, jobs, change, ask_at_ms)


def again(
    connection: Connection, destination: str, job: Job, *, due_at_ms: int, reason: str
) -> None:
    """It is to be sent, once more and not before `due_at_ms`."""
    connection.execute(
        "UPDATE job SET state = ?, lease_until_ms = 0, tries = tries + 1, due_at_ms = ?,"  # noqa: S608
        f" reason = ? WHERE {_OF_JOB}",
        (JobState.QUEUED, due_at_ms, reason, *_key(destination, job)),
    )


def park(connection: Connection, destination: str, job: Job, reason: str) -> None:
    """It cannot be delivered as it is; of a durable write, since it is not tried again."""
    connection.execute(
        "UPDATE job SET state = ?, lease_until_ms = 0, tries = tries + 1, reason = ?"  # noqa: S608
        f" WHERE {_OF_JOB}",
        (JobState.PARKED, reason, *_key(destination, job)),
    )


def to_ask(connection: Connection, destination: str, *, now_ms: int, most: int) -> list[Job]:
    """What of one study its destination is to be asked about now; [] when nothing is due.

    A study is asked about when the last of what was sent is old enough, or at once when a peer
    waits for it; and again when a report did not come in time. Never while some of it is still to
    be sent and due.
    """
    study_no = _study_to_ask(connection, destination, now_ms)
    if study_no is None:
        return []
    rows = connection.execute(
        f"{_SELECT} WHERE job.study_no = ? AND destination = ? AND"
        " (job.state IN (?, ?) OR job.state = ? AND due_at_ms <= ?)"
        " ORDER BY pack_id, job.sequence LIMIT ?",
        (
            study_no,
            destination,
            JobState.SENT,
            JobState.DOUBTFUL,
            JobState.ASKED,
            now_ms,
            most,
        ),
    )
    return _jobs(rows)


def _study_to_ask(connection: Connection, destination: str, now_ms: int) -> int | None:
    """The study whose turn it is to be asked about: found by the index, however many jobs wait."""
    for state in (JobState.SENT, JobState.DOUBTFUL, JobState.ASKED):
        # What a peer waits for comes first, and need not be old, unless it was asked before.
        soon_ms = now_ms if state is JobState.ASKED else _ANY_TIME_MS
        for urgencies, due_ms in (((Urgency.COMMITMENT,) * 2, soon_ms), (_OTHERS, now_ms)):
            rows = connection.execute(
                "SELECT DISTINCT study_no FROM job WHERE destination = ? AND state = ?"
                " AND urgency BETWEEN ? AND ? AND due_at_ms <= ?",
                (destination, state, *urgencies, due_ms),
            )
            for (study_no,) in rows:
                if _may_be_asked(connection, destination, int(study_no), now_ms):
                    rows.close()
                    return int(study_no)
    return None


def _may_be_asked(connection: Connection, destination: str, study_no: int, now_ms: int) -> bool:
    """Whether nothing of a study is still to be sent, and the last that was sent is old enough."""
    row = connection.execute(
        "SELECT sum(state = ? AND due_at_ms <= ?), sum(state = ? AND due_at_ms > ?), min(urgency)"
        " FROM job WHERE destination = ? AND study_no = ?",
        (JobState.QUEUED, now_ms, JobState.SENT, now_ms, destination, study_no),
    ).fetchone()
    assert row is not None
    to_send, too_young, urgency = row
    return not to_send and (not too_young or urgency == Urgency.COMMITMENT)


def wake(connection: Connection, destination: str, now_ms: int) -> None:
    """Let everything that waits for its next try go now: the destination is back."""
    connection.execute(
        "UPDATE job SET due_at_ms = ? WHERE destination = ? AND state = ? AND due_at_ms > ?",
        (now_ms, destination, JobState.QUEUED, now_ms),
    )


def bring_forward(connection: Connection, destination: str, *, now_ms: int, longest_ms: int) -> int:
    """Let nothing wait for longer than anything may; how many would have.

    A time that is further away was told while the clock was ahead.

    Args:
        connection: of a write.
        destination: whose jobs.
        now_ms: the time.
        longest_ms: the longest that a job is ever told to wait.
    """
    latest_ms = now_ms + longest_ms
    return connection.execute(
        "UPDATE job SET due_at_ms = min(due_at_ms, ?), lease_until_ms = 0"
        " WHERE destination = ? AND (due_at_ms > ? OR lease_until_ms > ?)",
        (now_ms, destination, latest_ms, latest_ms),
    ).rowcount


def asked(
    connection: Connection, destination: str, jobs: Sequence[Job], *, again_at_ms: int
) -> None:
    """The destination has taken a request for their commitment; its report is awaited."""
    change = f"state = '{JobState.ASKED}', due_at_ms = ?"
    _each(connection, destination, jobs, change, again_at_ms)


def of_version(
    connection: Connection, destination: str, sop_instance_uid: str, identity: Identity
) -> list[Job]:
    """The jobs of every copy of one version."""
    rows = connection.execute(
        f"{_SELECT} WHERE instance.sop_hash = ? AND dataset_sha256 = ? AND destination = ?",
        (uid_hash(sop_instance_uid), identity.sha256, destination),
    )
    wanted = (sop_instance_uid, identity.transfer_syntax_uid)
    return [job for job in _jobs(rows) if (job.sop_instance_uid, job.transfer_syntax_uid) == wanted]


def hasten(connection: Connection, sop_instance_uids: Iterable[str]) -> None:
    """A peer waits for the commitment of these: they go first."""
    connection.executemany(
        "UPDATE job SET urgency = ? WHERE urgency > ? AND (pack_no, sequence) IN"
        " (SELECT pack_no, sequence FROM instance WHERE sop_hash = ?)",
        [
            (Urgency.COMMITMENT, Urgency.COMMITMENT, uid_hash(uid))
            for uid in dict.fromkeys(sop_instance_uids)
        ],
    )


def reasons(connection: Connection, sop_instance_uid: str) -> list[str]:
    """Why copies of an instance are parked; [] when none is."""
    rows = connection.execute(
        "SELECT reason FROM instance CROSS JOIN job USING (pack_no, sequence)"
        " WHERE sop_hash = ? AND state = ?",
        (uid_hash(sop_instance_uid), JobState.PARKED),
    )
    return [str(reason) for (reason,) in rows]


def open_in(connection: Connection, pack_id: PackId) -> int:
    """How many jobs of a pack's instances are not over."""
    [(count,)] = connection.execute(
        "SELECT count(*) FROM job JOIN pack USING (pack_no) WHERE pack_id = ?", (pack_id.value,)
    ).fetchall()
    return int(count)


def depth(connection: Connection) -> Depth:
    """How much waits."""
    rows = connection.execute("SELECT state, count(*) FROM job GROUP BY state")
    by_state = dict.fromkeys(JobState, 0) | {JobState(row[0]): int(row[1]) for row in rows}
    [(oldest_ms, latest_ms)] = connection.execute(
        "SELECT min(queued_at_ms), max(max(due_at_ms, lease_until_ms)) FROM job"
    ).fetchall()
    return Depth(by_state=by_state, oldest_ms=oldest_ms, latest_ms=latest_ms)


def parked(connection: Connection, most: int) -> list[Parked]:
    """The jobs that are parked, oldest first."""
    rows = connection.execute(
        "SELECT study.uid, sop_uid, tries, reason FROM job"
        " JOIN study USING (study_no) JOIN instance USING (pack_no, sequence)"
        " WHERE state = ? ORDER BY queued_at_ms LIMIT ?",
        (JobState.PARKED, most),
    )
    return [
        Parked(
            study_instance_uid=unpack_uid(study),
            sop_instance_uid=unpack_uid(uid),
            tries=int(tries),
            reason=str(reason),
        )
        for study, uid, tries, reason in rows
    ]


def retry(connection: Connection, now_ms: int) -> int:
    """Let every parked job and every job that waits for its next try go at once; how many.

    Of a durable write: it is an operator's decision.
    """
    return connection.execute(
        "UPDATE job SET state = ?, due_at_ms = ?, reason = '' WHERE state = ?"
        " OR (state = ? AND due_at_ms > ?)",
        (JobState.QUEUED, now_ms, JobState.PARKED, JobState.QUEUED, now_ms),
    ).rowcount


def unaccounted(connection: Connection, safe_copies: int) -> list[tuple[PackId, int]]:
    """Every copy here that is neither committed nor has a job: its pack and sequence.

    Reads the whole index; from a reader, so that nobody waits for it.

    Args:
        connection: from `Database.reader`.
        safe_copies: how many verified copies make a commitment.
    """
    rows = connection.execute(
        "SELECT pack_id, instance.sequence FROM instance JOIN pack USING (pack_no)"
        " WHERE pack.state <> ? AND NOT EXISTS (SELECT 1 FROM safe"
        " WHERE safe.sop_hash = instance.sop_hash"
        " AND safe.dataset_sha256 = instance.dataset_sha256"
        " AND safe.transfer_syntax_no = instance.transfer_syntax_no AND copies >= ?)"
        " AND NOT EXISTS (SELECT 1 FROM job WHERE job.pack_no = instance.pack_no"
        " AND job.sequence = instance.sequence)",
        (PackState.EVICTED, safe_copies),
    )
    return [(PackId(pack_id), int(sequence)) for pack_id, sequence in rows]


def reconcile(
    connection: Connection, destination: str, copies: Iterable[tuple[PackId, int]]
) -> None:
    """Give copies that are `unaccounted` for a doubtful job each.

    At start, and after a rebuild: whether they were sent is not known, so they ask before they are
    sent. One that got a job meanwhile is left as it is.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO job (destination, pack_no, sequence, study_no, series_no, state,"
        " urgency, queued_at_ms, due_at_ms) SELECT ?, pack_no, instance.sequence, study_no,"
        " series_no, ?, ?, received_at_ms, 0 FROM pack JOIN instance USING (pack_no)"
        " JOIN series USING (series_no) WHERE pack_id = ? AND instance.sequence = ?",
        [
            (destination, JobState.DOUBTFUL, Urgency.BACKFILL, pack_id.value, sequence)
            for pack_id, sequence in copies
        ],
    )


def take_over(source: Connection, target: Connection) -> None:
    """Let a rebuilt index go on with the jobs of the old one; those of unknown copies are dropped.

    Leases are not taken over: whoever has one writes to the old index no more.
    """
    rows = source.execute(
        "SELECT destination, job.state, urgency, queued_at_ms, due_at_ms, tries, reason, pack_id,"
        " sequence FROM job JOIN pack USING (pack_no)"
    )
    target.executemany(
        "INSERT OR IGNORE INTO job (destination, state, urgency, queued_at_ms, due_at_ms, tries,"
        " reason, pack_no, sequence, study_no, series_no) SELECT ?, ?, ?, ?, ?, ?, ?,"
        " instance.pack_no, instance.sequence, study_no, series_no FROM pack"
        " JOIN instance USING (pack_no) JOIN series USING (series_no)"
        " WHERE pack_id = ? AND instance.sequence = ?",
        rows.fetchall(),
    )


# A job is named by its pack's id: numbers of packs are others in a rebuilt index.
_OF_JOB: Final = (
    "pack_no = (SELECT pack_no FROM pack WHERE pack_id = ?) AND sequence = ? AND destination = ?"
)


def _key(destination: str, job: Job) -> tuple[str, int, str]:
    return job.pack_id.value, job.sequence, destination


def _each(
    connection: Connection, destination: str, jobs: Sequence[Job], change: str, value: int
) -> None:
    connection.executemany(
        f"UPDATE job SET {change} WHERE {_OF_JOB}",  # noqa: S608 - our own words
        [(value, *_key(destination, job)) for job in jobs],
    )


def _jobs(rows: Iterable[Row]) -> list[Job]:
    return [
        Job(
            pack_id=PackId(row[0]),
            sequence=row[1],
            study_instance_uid=unpack_uid(row[2]),
            tries=row[3],
            sop_class_uid=row[4],
            sop_instance_uid=unpack_uid(row[5]),
            transfer_syntax_uid=row[6],
            sha256=row[7],
        )
        for row in rows
    ]
