"""What Alembic does for an index: stamp a new one, bring an old one up to date."""

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from harmoni.model.errors import ConfigurationError


def stamp(connection: sqlalchemy.Connection, revision: str) -> None:
    """Note which schema a database was made with."""
    script = ScriptDirectory.from_config(_configuration(connection))
    MigrationContext.configure(connection).stamp(script, revision)


def upgrade(connection: sqlalchemy.Connection, revision: str) -> None:
    """Run every revision up to one; raises ConfigurationError, as `migrate`."""
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
