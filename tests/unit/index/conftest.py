import shutil

import pytest

from harmoni.index.database import Database
from index_samples import KEY


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of an empty database: copying it takes less time than making one."""
    path = tmp_path_factory.mktemp("empty") / "index.sqlite"
    Database.create(path, KEY).close()
    return path


@pytest.fixture(scope="session")
def new_database(tmp_path_factory, empty_database):
    """A function that opens a new, empty database; whoever calls it closes it."""

    def new() -> Database:
        path = tmp_path_factory.mktemp("index") / "index.sqlite"
        shutil.copy(empty_database, path)
        return Database.open(path, KEY)

    return new


@pytest.fixture
def database(new_database):
    opened = new_database()
    yield opened
    opened.close()
