"""docs/reference/metrics.md names what the keeper gives, and nothing else."""

import re
from pathlib import Path

from harmoni import config
from harmoni.archive import operate
from harmoni.archive.keeper import Keeper
from harmoni.archive.site import ArchiveSite
from harmoni.runtime import log
from harmoni.runtime.metrics import Metrics
from harmoni.testing import FakeClock

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"


def test_the_page_names_every_number_of_the_keeper(tmp_path):
    operate.initialise(tmp_path, "dc1")
    settings = config.load_archive(tmp_path / "archive.toml")
    metrics = Metrics()
    keeper = Keeper(ArchiveSite(settings, "keeper", FakeClock()), log.get(), metrics)
    page = PAGE.read_text(encoding="utf-8")

    given = re.findall(r"^# TYPE (\S+)", metrics.render().decode(), re.MULTILINE)

    assert set(re.findall(r"`(harmoni_\w+)`", page)) == set(given)
    assert f"200 `{keeper.health().text}`" in page
