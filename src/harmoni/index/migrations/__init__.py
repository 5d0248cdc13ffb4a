"""Alembic's revisions of the index schema, from the package itself: there is no ini file.

A new revision is a module in versions/, by hand; schema.py and `REVISION` change with it. A test
holds what the revisions make against what schema.py says.

Alembic itself is loaded where it is needed: it is a seventh of what each process of a role loads,
and hardly any start makes or migrates an index.
"""

from typing import Final

import sqlalchemy

from harmoni.index import schema

REVISION: Final = "0005"
"""The newest revision; a database has it after `Database.create` and `Database.open`."""


def create(connection: sqlalchemy.Connection) -> None:
    """Make every table of the present schema in an empty database.

    The short way (10 ms) to what all revisions one after the other make.
    """
    from harmoni.index.migrations import steps  # noqa: PLC0415 - see above

    schema.metadata.create_all(connection)
    connection.execute(sqlalchemy.insert(schema.flush).values(id=1, count=0))
    steps.stamp(connection, REVISION)


def migrate(connection: sqlalchemy.Connection, revision: str = REVISION) -> None:
    """Bring a database to a newer schema from whichever revision it has, or from none.

    Args:
        connection: in a transaction.
        revision: which schema; the present one.

    Raises:
        ConfigurationError: its revision is unknown: a newer program wrote it.
    """
    from harmoni.index.migrations import steps  # noqa: PLC0415 - see above

    steps.upgrade(connection, revision)
