"""docs/reference/metrics.md names what the processes of both roles count, and nothing else."""

import re
from pathlib import Path

from harmoni import config
from harmoni.archive import app, operate
from harmoni.archive.site import ArchiveSite
from harmoni.gateway import operate as gateway
from harmoni.gateway.backlog import Backlog
from harmoni.gateway.centre import Line
from harmoni.gateway.forwarder import Forwarder
from harmoni.gateway.house import House
from harmoni.gateway.standing import Standing
from harmoni.gateway.through import Asker
from harmoni.net.acceptor import ServerLimits
from harmoni.net.server import Server
from harmoni.role.keeper import Keeper
from harmoni.role.trail import AuditDoor
from harmoni.role.worker import Worker
from harmoni.runtime import log
from harmoni.runtime.metrics import Metrics
from harmoni.sealing import age
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
    _of_a_gateway(tmp_path / "gw", metrics)
    page = PAGE.read_text(encoding="utf-8")

    given = re.findall(r"^# TYPE (\S+)(?<!_created) ", metrics.render().decode(), re.MULTILINE)

    assert set(re.findall(r"`(harmoni_\w+)`", page)) == set(given)
    assert f"200 `{keeper.health().text}`" in page


def _of_a_gateway(directory, metrics):
    """What a gateway counts besides."""
    recipient = age.generate_identity(random=bytes(32)).recipient().to_string()
    gateway.initialise(
        directory, hospital_id="h-1", ae_title="GW", site="gw", recovery_recipient=recipient
    )
    path = directory / "gateway.toml"
    house = House(config.load_gateway(path), path, "test", FakeClock())
    Asker(house, None, None, log.get(), metrics)
    Backlog(house, metrics)
    Standing(house=house, centre=None, line=Line(), log=log.get(), metrics=metrics)
    Forwarder(
        house=house,
        centre=None,
        line=Line(),
        trail=None,
        log=log.get(),
        metrics=metrics,
        alarm=None,
    )
