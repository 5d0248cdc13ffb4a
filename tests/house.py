"""A hospital's holding in a temporary directory, and data sets to put into it."""

import os
from dataclasses import dataclass
from pathlib import Path

from harmoni.backends.filesystem import Filesystem
from harmoni.dicom import uids
from harmoni.holdings.chunks import ChunkPool
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.holding import Holding, Site
from harmoni.holdings.open_packs import PackLimits
from harmoni.holdings.record import Announced
from harmoni.index import lookup
from harmoni.index.lookup import Held
from harmoni.index.scrubbing import Due
from harmoni.model.identifiers import HospitalId, SiteId, WriterId
from harmoni.model.instance import Origin
from harmoni.sealing import age
from harmoni.testing import FakeClock

HOSPITAL = HospitalId("hospital-a")
CT = "1.2.840.10008.5.1.4.1.1.2"
PALETTE = "1.2.840.10008.5.1.4.39.1"
STUDY = "1.2.826.0.1.3680043.10.1.1"
SERIES = f"{STUDY}.2"
PLANTED_NAME = "PLANTED^PATIENT"
EVERY_PACK = Due(scrubbed_before_ms=1 << 60, sealed_before_ms=1 << 60)


def uid(number: int) -> str:
    return f"{SERIES}.{number}"


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    if vr in {b"OB", b"OW", b"UN", b"SQ"}:
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def data_set(
    number: int = 1,
    *,
    study: str | None = STUDY,
    series: str = SERIES,
    sop_class: str = CT,
    pixels: bytes = b"\x55\xaa" * 500,
    name: str = PLANTED_NAME,
    before_study: bytes = b"",
) -> bytes:
    """A small data set; `before_study` stands where a sender may put a long private element."""
    parts = [
        element(0x0008_0016, b"UI", sop_class.encode()),
        element(0x0008_0018, b"UI", uid(number).encode()),
        element(0x0008_0020, b"DA", b"20261124"),
        element(0x0008_0060, b"CS", b"CT"),
    ]
    if before_study:
        parts.append(element(0x0009_1001, b"OB", before_study))
    parts += [
        element(0x0010_0010, b"PN", name.encode()),
        element(0x0010_0020, b"LO", b"4711"),
    ]
    if study is not None:
        parts += [
            element(0x0020_000D, b"UI", study.encode()),
            element(0x0020_000E, b"UI", series.encode()),
        ]
    parts += [
        element(0x0020_0013, b"IS", str(number).encode()),
        element(0x7FE0_0010, b"OW", pixels),
    ]
    return b"".join(parts)


@dataclass
class House:
    """One hospital's holding, and what a test does to it."""

    site: Site
    holding: Holding

    @property
    def clock(self) -> FakeClock:
        assert isinstance(self.site.clock, FakeClock)
        return self.site.clock

    @property
    def root(self) -> Path:
        return self.site.files.path("")

    def begin(self, number: int = 1, *, sop_class: str = CT, calling: str = "CT_A"):
        return self.holding.recorder.begin(
            Announced(
                sop_class_uid=sop_class,
                sop_instance_uid=uid(number),
                transfer_syntax=uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN),
                origin=Origin(
                    calling_ae_title=calling,
                    called_ae_title="HARMONI",
                    address="192.0.2.7",
                    verdict=(("certificate", "match"),),
                ),
            )
        )

    def store(self, data: bytes, number: int = 1, *, step: int = 1 << 17, **kwargs) -> None:
        incoming = self.begin(number, **kwargs)
        try:
            pour(incoming, data, step)
        except BaseException:
            incoming.abandon()
            raise
        incoming.finish()

    def versions(self, number: int = 1) -> list[Held]:
        with self.holding.index.reader() as connection:
            return lookup.versions(connection, uid(number))

    def recall(self, held: Held) -> bytes:
        return b"".join(self.holding.recall(held))

    def seal(self):
        """Let go of every pack and finish them all."""
        self.holding.recorder.packs.retire_all()
        return self.finish()

    def finish(self):
        finished, failures = self.holding.sealer.finish_free()
        assert failures == {}
        return finished

    def commit_elsewhere(
        self, held: list[Held], *, by: str, copies: int = 1, study: str = STUDY
    ) -> None:
        """The report has come in which another place answers for instances, and is recorded."""
        self.holding.events.record(
            "commitment",
            {
                "by": by,
                "copies": copies,
                "places": ["dc1", "dc2"][:copies],
                "instances": [
                    {
                        "sop_instance_uid": each.sop_instance_uid,
                        "sha256": each.identity.sha256.hex(),
                        "transfer_syntax": each.identity.transfer_syntax_uid,
                    }
                    for each in held
                ],
                "transaction": "1.2",
            },
            subject=study,
        )

    def again(self, writer: str = "dc1-n1-w1") -> "House":
        """The same hospital as another process sees it."""
        site = make_site(self.root, self.site.clock, self.site.custody_key, writer)
        return House(site, Holding(site, HOSPITAL))

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def pour(incoming, data: bytes, step: int = 1 << 17) -> None:
    """Give a data set to an incoming instance as an association does."""
    rest = memoryview(data)
    while rest:
        room = incoming.reserve(min(step, len(rest)))
        count = min(len(room), len(rest))
        room[:count] = rest[:count]
        incoming.commit(count)
        rest = rest[count:]


def make_site(root: Path, clock, custody_key: bytes, writer: str, **changes) -> Site:
    values = {
        "files": Filesystem(root),
        "site": SiteId("dc1"),
        "site_number": 1,
        "writer": WriterId(writer),
        "custody_key": custody_key,
        "clock": clock,
        "chunks": ChunkPool(48 << 20),
        "limits": PackLimits(),
        "policy": CommitmentPolicy(safe_copies=1, places=("dc1",)),
    }
    return Site(**(values | changes))


def make_house(root: Path, *, hospital: HospitalId = HOSPITAL, **changes) -> House:
    """A new hospital below an existing directory."""
    site = make_site(root, FakeClock(), os.urandom(32), "dc1-n1-w0", **changes)
    recovery = age.generate_identity(random=os.urandom(32)).recipient()
    return House(site, Holding.create(site, hospital, recovery))
