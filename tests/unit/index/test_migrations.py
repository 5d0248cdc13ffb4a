import re
import subprocess
import sys

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from harmoni.index import migrations, schema
from harmoni.index.database import Database
from harmoni.model.errors import ConfigurationError
from index_samples import KEY


def tables_of(connection: sqlalchemy.Connection) -> dict[str, set[str]]:
    """What stands between commas and line ends of each statement; its order says nothing."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {
        name: {re.sub(r"[\s)]", "", part) for part in re.split(r"[,\n]", sql)} - {""}
        for name, sql in rows
    }


def in_memory() -> sqlalchemy.Engine:
    return sqlalchemy.create_engine("sqlite://")


def test_all_revisions_make_what_the_schema_says():
    with in_memory().begin() as created, in_memory().begin() as migrated:
        migrations.create(created)
        migrations.migrate(migrated)
        assert tables_of(created) == tables_of(migrated)
        assert compare_metadata(MigrationContext.configure(migrated), schema.metadata) == []
        for connection in (created, migrated):
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            assert revision.scalar_one() == migrations.REVISION
            assert connection.exec_driver_sql("SELECT count(*) FROM flush").scalar_one() == 1


def test_a_database_of_the_first_revision_keeps_its_rows_and_its_grace():
    with in_memory().begin() as connection:
        migrations.migrate(connection, "0001")
        connection.exec_driver_sql(
            "INSERT INTO commitment (requester, transaction_uid, accepted_at_ms)"
            " VALUES ('GW', '1.2', 1000)"
        )
        connection.exec_driver_sql(
            "INSERT INTO pack (pack_id, kind, state, sealed_at_ms)"
            " VALUES ('a', 'instances', 'sealed', 1), ('b', 'instances', 'open', NULL)"
        )
        migrations.migrate(connection)
        grace = connection.exec_driver_sql("SELECT grace_until_ms FROM commitment").scalar_one()
        assert grace == 601_000
        rows = connection.exec_driver_sql("SELECT pack_id, compared FROM pack ORDER BY pack_id")
        assert [tuple(row) for row in rows] == [("a", 1), ("b", 0)]


def test_the_newest_revision_is_the_one_that_the_program_names():
    script = ScriptDirectory("src/harmoni/index/migrations")
    assert script.get_current_head() == migrations.REVISION


def test_a_database_left_empty_by_a_crash_is_made_whole(tmp_path):
    (tmp_path / "index.sqlite").touch()
    database = Database.open(tmp_path / "index.sqlite", KEY)
    database.flush()
    database.close()


def test_a_database_of_a_newer_program_is_refused(tmp_path):
    database = Database.create(tmp_path / "index.sqlite", KEY)
    with database.write() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Database.open(tmp_path / "index.sqlite", KEY)


def test_a_role_starts_without_alembic():
    """Of all that each of its processes loads it is a seventh."""
    loaded = "import sys, harmoni.archive.app, harmoni.gateway.app; print('alembic' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout
    assert told == "False\n"
