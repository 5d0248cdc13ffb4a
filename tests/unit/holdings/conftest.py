import pytest

import house as houses


@pytest.fixture
def house(tmp_path):
    return houses.make_house(tmp_path)
