"""What `archive check` finds, each in a sentence that says what to do."""

import pytest

from harmoni import config
from harmoni.archive import operate, readiness
from harmoni.backends.filesystem import Filesystem
from harmoni.fleet import ca
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.role import certificate
from harmoni.testing import FakeClock

DAY_S = 86_400


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ready(tmp_path, clock):
    """Settings of an archive that has everything it needs."""
    operate.initialise(tmp_path / "dc1", "dc1")
    settings = config.load_archive(tmp_path / "dc1/archive.toml", ["archive.safe_copies=1"])
    operate.add_hospital(settings, hospital_id="h-1", name="One", recovery_recipient=None)
    authority = ca.create_authority("authority", clock.now_ms())
    issue(settings, authority, clock, SiteId("dc1"))
    Filesystem(tmp_path / "dc1/tls").replace("ca.crt", authority.cert_pem)
    return settings, authority


def issue(settings, authority, clock, owner):
    issued = ca.issue(authority, owner=owner, common_name="archive", now_ms=clock.now_ms())
    tls = Filesystem(settings.tls.certificate.parent)
    tls.replace("archive.crt", issued.cert_pem)
    tls.replace("archive.key", issued.key_pem)


def test_nothing_is_wrong_where_everything_is_there(ready, clock):
    assert readiness.check(ready[0], clock) == []


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (ca.NODE_DAYS - certificate.RENEW_DAYS - 1, None),
        (ca.NODE_DAYS - certificate.RENEW_DAYS + 1, "archive.crt ends in 29 days: move it"),
        (ca.NODE_DAYS + 1, "archive.crt has expired: move it"),
        (-366, "archive.crt does not hold yet: set this machine's clock"),
    ],
)
def test_a_certificate_that_ends_soon_is_told(ready, clock, days, words):
    clock.advance(days * DAY_S)
    problems = readiness.check(ready[0], clock)
    assert len(problems) == (words is not None)
    assert all(words in problem for problem in problems)


def test_the_certificate_of_somebody_else_is_told(ready, clock):
    settings, authority = ready
    issue(settings, authority, clock, HospitalId("h-1"))
    [problem] = readiness.check(settings, clock)
    assert "names urn:harmoni:hospital:h-1, not urn:harmoni:site:dc1" in problem
    assert operate.status(settings).problems[0].startswith("the certificate")


def test_a_missing_file_is_named_and_how_to_get_it(ready, clock):
    settings, _ = ready
    settings.tls.key.unlink()
    [problem] = readiness.check(settings, clock)
    assert problem.startswith(f"there is no {settings.tls.key}: issue one with `harmoni ca issue")
    assert "None" not in problem


def test_more_safe_copies_than_sites_are_told(ready, clock):
    settings = config.override(ready[0], "archive.safe_copies=2")
    [problem] = readiness.check(settings, clock)
    assert "set safe_copies = 1" in problem
    assert operate.status(settings).remark == problem


def test_a_hospital_file_with_a_mistake_is_told_beside_the_rest(ready, clock):
    settings, _ = ready
    (settings.archive.hospitals / "h-2.toml").write_text("[")
    [problem] = readiness.check(settings, clock)
    assert "h-2.toml is not TOML" in problem


def test_the_commented_configuration_says_how_many_copies_there_can_be():
    assert "with 2 no commitment is ever" in " ".join(config.template().replace("#", "").split())
