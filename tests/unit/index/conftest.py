import pytest

from harmoni.index.database import Database
from index_samples import KEY


@pytest.fixture
def database(tmp_path):
    opened = Database.create(tmp_path / "index.sqlite", KEY)
    yield opened
    opened.close()
