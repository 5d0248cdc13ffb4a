import io
import shutil
import time

import pytest

from gateway_ends import ArchiveEnd, GatewayEnd
from harmoni.audit.event import Participant
from harmoni.demo import system
from harmoni.gateway.centre import Centre, Line
from harmoni.gateway.forwarder import Forwarder
from harmoni.gateway.house import House
from harmoni.gateway.standing import Standing
from harmoni.role.handlers import alarm_in
from harmoni.role.trail import AuditDoor, Trail
from harmoni.runtime import log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics
from harmoni.testing import FakeClock


@pytest.fixture(autouse=True)
def own_log():
    """A log that no other test has closed."""
    log.configure(level="info", stream=io.StringIO())


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A built centre and gateway, copied for each test: keys and certificates take a while."""
    folder = tmp_path_factory.mktemp("built")
    system.build(folder, hospitals=1, seal_after_s=1.0, settings=(), clock=SystemClock())
    return folder


@pytest.fixture
def centre(tmp_path, built):
    shutil.copytree(built, tmp_path / "demo")
    for path in (tmp_path / "demo").rglob("*.toml"):
        path.write_text(path.read_text().replace(str(built), str(tmp_path / "demo")))
    return system.build(
        tmp_path / "demo", hospitals=1, seal_after_s=1.0, settings=(), clock=SystemClock()
    )


@pytest.fixture
def archive(centre):
    end = ArchiveEnd(centre, FakeClock(now_ms=int(time.time() * 1000)))
    end.start()
    yield end
    end.stop()


@pytest.fixture
def gateway(centre):
    [house] = centre.houses
    clock = FakeClock(now_ms=int(time.time() * 1000))
    node = House(house.gateway, house.config_path, "w0", clock)
    node.note_complete()
    door = AuditDoor(node.open_spool, clock)

    trail = Trail(door, Participant(hospital="hospital-a"))
    way, line = Centre(house.gateway), Line()
    line.went_up()
    return GatewayEnd(
        house=node,
        centre=way,
        clock=clock,
        door=door,
        trail=trail,
        forwarder=Forwarder(
            house=node,
            centre=way,
            line=line,
            trail=trail,
            log=log.get(),
            metrics=Metrics(),
            alarm=alarm_in(log.get()),
            linger_s=0.0,
        ),
        standing=Standing(house=node, centre=way, line=line, log=log.get(), metrics=Metrics()),
    )
