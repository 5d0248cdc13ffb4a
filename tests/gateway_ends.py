"""A gateway and its archive in one process: the real parts, driven step by step by the test."""

from dataclasses import dataclass

import pytest

import house as houses
from harmoni.archive import app as archive_app
from harmoni.archive.site import ArchiveSite
from harmoni.dicom import uids
from harmoni.gateway import standing
from harmoni.gateway.centre import Centre
from harmoni.gateway.forwarder import Forwarder
from harmoni.gateway.house import House
from harmoni.gateway.standing import Standing
from harmoni.gateway.through import Asker, ThroughFinding, ThroughRetrieving
from harmoni.holdings.record import Announced
from harmoni.index import jobs, lookup
from harmoni.model.instance import Origin
from harmoni.net import server, tls
from harmoni.role.handlers import alarm_in
from harmoni.role.keeper import Keeper
from harmoni.role.trail import AuditDoor, Trail
from harmoni.role.worker import Worker
from harmoni.runtime import log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics
from harmoni.testing import FakeClock


def store(holding, number, data=None, *, calling="CT_A"):
    """Take an instance of tests/house.py in, as a worker does."""
    incoming = holding.recorder.begin(
        Announced(
            sop_class_uid=houses.CT,
            sop_instance_uid=houses.uid(number),
            transfer_syntax=uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN),
            origin=Origin(
                calling_ae_title=calling,
                called_ae_title="GW_A",
                address="192.0.2.7",
                verdict=(("certificate", "match"),),
            ),
        )
    )
    houses.pour(incoming, houses.data_set(number) if data is None else data)
    incoming.finish()


class ArchiveEnd:
    """The archive in this process: a worker that serves, and a keeper that a test turns."""

    def __init__(self, centre, clock):
        self.config, self.clock = centre.archive, clock
        self.site = ArchiveSite(centre.archive, "w0", clock)
        self.keeper = Keeper(ArchiveSite(centre.archive, "keeper", clock), log.get(), Metrics())
        self.door = AuditDoor(self.site.open_spool, clock)
        self.serving = None

    @property
    def holding(self):
        return self.site.holding(next(iter(self.site.hospitals)))

    def start(self):
        worker = Worker(
            self.site, self.door, log.get(), archive_app.acts(self.config, log.get()), Metrics()
        )
        listen = self.config.listen
        context = tls.ServerContext(archive_app.tls_files(self.config))
        self.serving = server.Server(
            sockets=[(server.listen(listen.host, listen.port), context)],
            decide=worker.decide,
            serve=worker.serve,
            limits=server.ServerLimits(),
            clock=SystemClock(),
            log=log.get(),
            metrics=Metrics(),
        )
        self.serving.start()

    def stop(self):
        if self.serving is not None:
            self.serving.drain(5)
            self.serving = None

    def seal(self):
        """Let go of every pack and finish it; decide commitments."""
        self.holding.recorder.packs.retire_all()
        self.keeper.tick()


@dataclass
class GatewayEnd:
    """The gateway in this process."""

    house: House
    centre: Centre
    clock: FakeClock
    door: AuditDoor
    trail: Trail
    forwarder: Forwarder
    standing: Standing

    @property
    def holding(self):
        return self.house.own

    def store(self, *numbers, **how):
        for number in numbers:
            store(self.holding, number, **how)

    def seal(self):
        self.holding.recorder.packs.retire_all()
        _, failures = self.holding.sealer.finish_free()
        assert failures == {}
        list(self.holding.conflicts.compare(60))

    def states(self):
        with self.holding.index.reader() as connection:
            depth = jobs.depth(connection).by_state
        return {state.value: count for state, count in depth.items() if count}

    def versions(self, number):
        with self.holding.index.reader() as connection:
            return lookup.versions(connection, houses.uid(number))

    def commit(self, archive):
        """Everything that is sent becomes committed."""
        self.clock.advance(self.house.config.gateway.commit_after_s)
        with_centre = self.centre.open(standing._CONTEXTS)
        self.standing.turn(with_centre)
        archive.seal()
        for _ in range(20):
            self.standing.turn(with_centre)
            if "asked" not in self.states():
                break
        with_centre.release(5)

    def deliver(self, archive):
        """Send and commit everything."""
        while self.forwarder.round():
            pass
        self.commit(archive)

    def asker(self, **changes):
        config = self.house.config
        if changes:
            section = config.centre.model_copy(update=changes)
            self.house.config = config.model_copy(update={"centre": section})
        return Asker(self.house, self.centre, self.door, log.get(), Metrics())

    def finding(self, asker):
        return ThroughFinding(asker, self.holding, self.trail, 100)

    def retrieving(self, asker):
        [entry] = self.house.registry.hospitals
        return ThroughRetrieving(
            asker=asker,
            holding=self.holding,
            entry=entry,
            connect=lambda *_: pytest.fail("nobody is connected to"),
            trail=self.trail,
            alarm=alarm_in(log.get()),
        )
