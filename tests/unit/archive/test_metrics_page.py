"""docs/reference/metrics.md names what workers and keeper count, and nothing else."""

import re
from pathlib import Path

from harmoni import config
from harmoni.archive import app, operate
from harmoni.archive.site import ArchiveSite
from harmoni.net.acceptor import ServerLimits
from harmoni.net.server import Server
from harmoni.role.keeper import Keeper
from harmoni.role.trail import AuditDoor
from harmoni.role.worker import Worker
from harmoni.runtime import log
from harmoni.runtime.metrics import Metrics
from harmoni.testing import FakeClock

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"


def test_the_page_names_every_number(tmp_path):
    operate.initialise(tmp_path, "dc1")
    settings = config.load_archive(tmp_path / "archive.toml")
    metrics = Metrics()
    archive = ArchiveSite(settings, "keeper", FakeClock())
    keeper = Keeper(archive, log.get(), metrics)
    with AuditDoor(archive.open_spool, archive.clock) as door:
        Worker(archive, door, log.get(), app.acts(settings, log.get()), metrics)
    serving = Server(
        sockets=[],
        decide=lambda *_: None,
        serve=lambda _: None,
        limits=ServerLimits(),
        clock=archive.clock,
        log=log.get(),
        metrics=metrics,
    )
    serving.start()
    serving.drain(1)
    page = PAGE.read_text(encoding="utf-8")

    given = re.findall(r"^# TYPE (\S+)", metrics.render().decode(), re.MULTILINE)

    assert set(re.findall(r"`(harmoni_\w+)`", page)) == set(given)
    assert f"200 `{keeper.health().text}`" in page
