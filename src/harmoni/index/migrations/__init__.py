"""Alembic's revisions of the index schema, from the package itself: there is no ini file.

A new revision is a module in versions/, by hand; schema.py and `REVISION` change with it. A test
holds what the revisions make against what schema.py says.
"""

from typing import Final

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from harmoni.index import schema
from harmoni.model.errors import ConfigurationError

REVISION: Final = "0005"
"""The newest revision; a database has it after `Database.create` and `Database.open`."""


def create(connection: sqlalchemy.Connection) -> None:
    """Make every table of the present schema in an empty database.

    The short way (10 ms) to what all revisions one after the other make.
    """
    schema.metadata.create_all(connection)
    connection.execute(sqlalchemy.insert(schema.flush).values(id=1, count=0))
    script = ScriptDirectory.from_config(_configuration(connection))
    MigrationContext.configure(connection).stamp(script, REVISION)


def migrate(connection: sqlalchemy.Connection, revision: str = REVISION) -> None:
    """Bring a database to a newer schema from whichever revision it has, or from none.

    Args:
        connection: in a transaction.
        revision: which schema; the present one.

    Raises:
        ConfigurationError: its revision is unknown: a newer program wrote it.
    """
    try:
        command.upgrade(_configuration(connection), revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the index has a schema that this version does not know ({error}): run the newer "
            "version, or rebuild the index"
        ) from error


def _configuration(connection: sqlalchemy.Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", "harmoni.index:migrations")
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    return configuration
