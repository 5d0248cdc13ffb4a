"""Storage commitment transactions (PS3.4 Annex J) from request to answered report.

    accept ──▶ unresolved ──resolve──▶ unanswered ──answered──▶ kept as a record

A transaction is one requester's; two requesters may use the same Transaction UID. It lives in the
database alone: nothing in the store says that somebody asked. So each step here belongs into
`Database.write(durable=True)`, and the peer hears of it after that block has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.commitment_data import Reference
from harmoni.index import lookup
from harmoni.index.attributes import uid_hash
from harmoni.index.database import Connection, Row
from harmoni.index.lookup import Held
from harmoni.model.errors import AlreadyHeld, NotHeld
from harmoni.model.identifiers import PackId

_SELECT: Final = (
    "SELECT commitment_no, requester, transaction_uid, accepted_at_ms, grace_until_ms,"
    " resolved_at_ms, answered_at_ms FROM commitment"
)
_OLDEST_FIRST: Final = "ORDER BY accepted_at_ms, commitment_no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One request for storage commitment, and what came of it."""

    requester: str
    """Calling AE title; it has a meaning within its hospital only."""
    transaction_uid: str
    accepted_at_ms: int
    grace_until_ms: int
    """Until then what is unknown may still arrive; milliseconds since 1970."""
    references: tuple[Reference, ...]
    """In the order of the request. Once resolved, a reference without failure reason is committed;
    before, it means nothing yet."""
    resolved_at_ms: int | None = None
    answered_at_ms: int | None = None


_TABLES: Final = {
    "commitment": "commitment_no, requester, transaction_uid, accepted_at_ms, grace_until_ms,"
    " resolved_at_ms, answered_at_ms",
    "commitment_reference": "commitment_no, position, sop_class_uid, sop_instance_uid, sha256,"
    " version_syntax_uid, failure_reason",
}


def accept(connection: Connection, transaction: Transaction) -> None:
    """Take a new transaction in. The same one again, same references in any order, is no change.

    Args:
        connection: of a durable write.
        transaction: unresolved; its references carry no failure reason.

    Raises:
        AlreadyHeld: the requester used this Transaction UID for other references before (0131).
    """
    row = connection.execute(
        "SELECT commitment_no FROM commitment WHERE requester = ? AND transaction_uid = ?",
        (transaction.requester, transaction.transaction_uid),
    ).fetchone()
    if row is not None:
        before = _references(connection, int(row[0]))
        if _content(before) != _content(transaction.references):
            raise AlreadyHeld(
                f"transaction {transaction.transaction_uid} of {transaction.requester} was "
                "requested before with other references: use a new Transaction UID"
            )
        return
    [(number,)] = connection.execute(
        "INSERT INTO commitment (requester, transaction_uid, accepted_at_ms, grace_until_ms)"
        " VALUES (?, ?, ?, ?) RETURNING commitment_no",
        (
            transaction.requester,
            transaction.transaction_uid,
            transaction.accepted_at_ms,
            transaction.grace_until_ms,
        ),
    ).fetchall()
    connection.executemany(
        "INSERT INTO commitment_reference (commitment_no, position, sop_class_uid,"
        " sop_instance_uid, sha256, version_syntax_uid) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                number,
                position,
                item.sop_class_uid,
                item.sop_instance_uid,
                item.sha256,
                item.version_syntax_uid,
            )
            for position, item in enumerate(transaction.references)
        ],
    )


def unresolved_since(connection: Connection) -> dict[tuple[str, str], int]:
    """Every transaction that is not final yet, oldest first: its key, and when it was accepted.

    The key is requester and Transaction UID; times are milliseconds since 1970.
    """
    rows = connection.execute(
        "SELECT requester, transaction_uid, accepted_at_ms FROM commitment"
        " WHERE resolved_at_ms IS NULL ORDER BY accepted_at_ms, commitment_no"
    )
    return {(requester, uid): int(accepted_at_ms) for requester, uid, accepted_at_ms in rows}


def waiting_references(connection: Connection, requester: str) -> int:
    """How many references of a requester's transactions are not final yet."""
    [(count,)] = connection.execute(
        "SELECT count(*) FROM commitment JOIN commitment_reference USING (commitment_no)"
        " WHERE resolved_at_ms IS NULL AND requester = ?",
        (requester,),
    ).fetchall()
    return int(count)


def transaction(connection: Connection, requester: str, transaction_uid: str) -> Transaction | None:
    """One transaction with all its references, or None."""
    found = _transactions(
        connection,
        f"{_SELECT} WHERE requester = ? AND transaction_uid = ?",
        (requester, transaction_uid),
    )
    return found[0] if found else None


def pending(connection: Connection, requester: str) -> list[Transaction]:
    """A requester's transactions whose report is due: resolved and not answered, oldest first."""
    return _transactions(
        connection,
        f"{_SELECT} WHERE answered_at_ms IS NULL AND requester = ? AND resolved_at_ms IS NOT NULL"
        f" {_OLDEST_FIRST}",
        (requester,),
    )


def requesters(connection: Connection) -> list[str]:
    """The AE titles to which a report is due."""
    rows = connection.execute(
        "SELECT DISTINCT requester FROM commitment"
        " WHERE answered_at_ms IS NULL AND resolved_at_ms IS NOT NULL ORDER BY requester"
    )
    return [str(requester) for (requester,) in rows]


def copies(connection: Connection, transaction: Transaction) -> list[tuple[Reference, list[Held]]]:
    """Each reference with every copy that it means: all versions, or those with its hash.

    Whoever asks decides what is final: each version must be in a sealed pack, in as many places as
    the hospital's policy says.
    """
    return [
        (
            reference,
            [
                held
                for held in lookup.versions(connection, reference.sop_instance_uid)
                if reference.sha256 in (None, held.identity.sha256)
                and reference.version_syntax_uid in ("", held.identity.transfer_syntax_uid)
            ],
        )
        for reference in transaction.references
    ]


def resolve(connection: Connection, transaction: Transaction, at_ms: int) -> None:
    """Make every reference final: committed, or failed for the reason that it carries.

    A transaction that is resolved already stays as it is.

    Args:
        connection: of a durable write.
        transaction: as `unresolved` gave it, with failure reasons put in where they apply.
        at_ms: now.

    Raises:
        NotHeld: there is no such transaction.
    """
    row = _find(connection, transaction.requester, transaction.transaction_uid)
    if row[1] is not None:
        return
    connection.execute(
        "UPDATE commitment SET resolved_at_ms = ? WHERE commitment_no = ?", (at_ms, row[0])
    )
    connection.executemany(
        "UPDATE commitment_reference SET failure_reason = ?"
        " WHERE commitment_no = ? AND position = ?",
        [
            (reference.failure_reason, row[0], position)
            for position, reference in enumerate(transaction.references)
            if reference.failure_reason is not None
        ],
    )


def answered(connection: Connection, requester: str, transaction_uid: str, at_ms: int) -> None:
    """Note that the requester answered the report with success; it is not sent again.

    Args:
        connection: of a durable write.
        requester: its calling AE title.
        transaction_uid: of the transaction.
        at_ms: now.

    Raises:
        NotHeld: there is no such transaction.
    """
    row = _find(connection, requester, transaction_uid)
    connection.execute(
        "UPDATE commitment SET answered_at_ms = coalesce(answered_at_ms, ?)"
        " WHERE commitment_no = ?",
        (at_ms, row[0]),
    )


def is_waited_for(connection: Connection, pack_id: PackId) -> bool:
    """Whether a transaction that is not final names an instance of a pack."""
    rows = connection.execute(
        "SELECT DISTINCT sop_instance_uid FROM commitment JOIN commitment_reference"
        " USING (commitment_no) WHERE resolved_at_ms IS NULL"
    ).fetchall()
    hashes = {uid_hash(uid) for (uid,) in rows}
    if not hashes:
        return False
    members = connection.execute(
        "SELECT sop_hash FROM instance JOIN pack USING (pack_no) WHERE pack_id = ?",
        (pack_id.value,),
    )
    return any(sop_hash in hashes for (sop_hash,) in members)


def take_over(source: Connection, target: Connection) -> None:
    """Copy every transaction, its answer included, from one database to another that has none."""
    for table, columns in _TABLES.items():
        marks = ", ".join("?" * len(columns.split(",")))
        target.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 - our own names
            source.execute(f"SELECT {columns} FROM {table}").fetchall(),  # noqa: S608
        )


def _find(connection: Connection, requester: str, transaction_uid: str) -> Row:
    row = connection.execute(
        "SELECT commitment_no, resolved_at_ms FROM commitment"
        " WHERE requester = ? AND transaction_uid = ?",
        (requester, transaction_uid),
    ).fetchone()
    if row is None:
        raise NotHeld(f"there is no transaction {transaction_uid} of {requester}: accept it first")
    return row


def _transactions(
    connection: Connection, sql: str, parameters: Sequence[object]
) -> list[Transaction]:
    rows = connection.execute(sql, parameters).fetchall()
    return [
        Transaction(
            requester=row[1],
            transaction_uid=row[2],
            accepted_at_ms=row[3],
            grace_until_ms=row[4],
            references=_references(connection, row[0]),
            resolved_at_ms=row[5],
            answered_at_ms=row[6],
        )
        for row in rows
    ]


def _references(connection: Connection, number: int) -> tuple[Reference, ...]:
    rows = connection.execute(
        "SELECT sop_class_uid, sop_instance_uid, sha256, failure_reason, version_syntax_uid"
        " FROM commitment_reference WHERE commitment_no = ? ORDER BY position",
        (number,),
    )
    return tuple(
        Reference(
            sop_class_uid=row[0],
            sop_instance_uid=row[1],
            sha256=row[2],
            failure_reason=row[3],
            version_syntax_uid=row[4],
        )
        for row in rows
    )


def _content(references: Sequence[Reference]) -> list[tuple[str, str, bytes, str]]:
    """What a request asks for, whatever its order."""
    return sorted(
        (item.sop_instance_uid, item.sop_class_uid, item.sha256 or b"", item.version_syntax_uid)
        for item in references
    )
