"""What every test shares: how hard hypothesis looks, and other vendors' tools."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pynetdicom.association import Association

import archive_role as role
import doors
import tls_material as material
from good_neighbour import good_neighbour

# How fast data is drawn says how busy the machine is, not whether the code is right.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=100, **_PATIENT)
settings.register_profile("ci", max_examples=100, derandomize=True, **_PATIENT)
settings.register_profile("deep", max_examples=2000, **_PATIENT)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """Give the path of another vendor's tool, such as `peer("/usr/bin/echoscu")`.

    A tool that is not installed fails the test where CI is set; elsewhere the test is skipped
    and says so, since a developer's machine may do without.
    """

    def require(path: str) -> str:
        if Path(path).is_file() and os.access(path, os.X_OK):
            return path
        reason = f"{path} is not installed: run `make peers`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def tls_material(tmp_path_factory: pytest.TempPathFactory) -> material.TLSMaterial:
    """Certificates of a server, a client, an expired and a foreign node (tests/tls_material.py)."""
    return material.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def archive_role(tmp_path_factory: pytest.TempPathFactory) -> Iterator[role.ArchiveRole]:
    """Run the real archive role for the whole session (tests/archive_role.py)."""
    with role.running(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture(scope="session")
def archive_door(archive_role: role.ArchiveRole) -> doors.Door:
    """Give the archive's port, which speaks TLS (tests/doors.py)."""
    return doors.of_archive(archive_role)


@pytest.fixture(scope="session")
def gateway_door(archive_role: role.ArchiveRole) -> Iterator[doors.Door]:
    """Run a gateway beside the archive for the whole session; its port, in clear text."""
    with doors.of_gateway(archive_role) as door:
        yield door


@pytest.fixture(params=["archive", "gateway"])
def door(request: pytest.FixtureRequest) -> doors.Door:
    """Give either port that speaks DICOM: whatever it proves holds for both."""
    return request.getfixturevalue(f"{request.param}_door")


@pytest.fixture
def neighbour(door: doors.Door) -> Iterator[Association]:
    """Let another association of the same role work on, whatever the test does."""
    with good_neighbour(door) as association:
        yield association
