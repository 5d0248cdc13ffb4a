import io
import os
import signal

import pytest
import structlog

from harmoni import config
from harmoni.archive import operate
from harmoni.archive.site import ArchiveSite
from harmoni.backends.filesystem import Filesystem
from harmoni.config.sections import LimitsSection
from harmoni.model.errors import Busy, ConfigurationError
from harmoni.model.identifiers import HospitalId
from harmoni.role import process
from harmoni.role.signals import Signals
from harmoni.runtime import log
from harmoni.sealing import age
from harmoni.testing import FakeClock
from harmoni.vault.layout import Layout


def test_the_supervisor_waits_longer_than_a_worker_may_drain():
    assert process.grace_s(LimitsSection(drain_s=45.0)) == 55.0


def test_a_peer_that_was_aborted_keeps_a_thread_no_longer_than_a_silent_one():
    limits = LimitsSection()
    assert limits.artim_s == limits.handshake_s == 10.0


@pytest.fixture
def archive(tmp_path):
    """What a process has open, of an archive with the hospital h-1."""
    operate.initialise(tmp_path / "dc1", "dc1")
    loaded = config.load_archive(tmp_path / "dc1/archive.toml")
    write(loaded, "h-1")
    return ArchiveSite(loaded, "w0", FakeClock())


def write(loaded, hospital_id, **values):
    entry = config.HospitalConfig(
        id=hospital_id, name="A", recovery_recipient="age1pq1" + "q" * 40, **values
    )
    files = Filesystem(loaded.archive.hospitals)
    files.replace(f"{hospital_id}.toml", config.render(entry).encode())


def spoil(loaded, hospital_id):
    (loaded.archive.hospitals / f"{hospital_id}.toml").write_bytes(b"\xff[")


def registered(archive):
    return [str(each.hospital) for each in archive.registry.hospitals]


@pytest.fixture
def signals(archive):
    """What the process does on signals, put back afterwards."""
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    log.configure(level="info", stream=io.StringIO())

    def reload_tls():
        raise ConfigurationError("the key is another certificate's")

    with Signals(archive, log.get(), reload_tls) as signals:
        yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def after(signals, *numbers):
    """The lines that are logged when a process gets signals, the last of them one that ends it."""
    for number in (*numbers, signal.SIGTERM):
        os.kill(os.getpid(), number)
    with structlog.testing.capture_logs() as lines:
        signals.wait()
    return lines


def test_a_reload_of_files_with_a_mistake_is_logged_and_ends_nothing(signals, archive):
    spoil(archive.config, "h-1")
    write(archive.config, "h-2")

    lines = after(signals, signal.SIGHUP)

    assert [line["event"] for line in lines] == [
        "not reloaded",
        "hospital's file not taken",
        "reloaded",
    ]
    assert "h-1.toml is not TOML" in lines[1]["why"]
    assert lines[2]["what"] == ["hospitals"]
    assert registered(archive) == ["h-1", "h-2"]


def test_a_new_hospital_is_in_force_without_a_signal(signals, archive):
    write(archive.config, "h-2")

    with structlog.testing.capture_logs() as lines:
        signals._look()
        signals._look()

    assert [line["event"] for line in lines] == ["hospitals read"]
    assert registered(archive) == ["h-1", "h-2"]


def test_a_changed_hospital_is_in_force_without_a_signal(signals, archive):
    write(archive.config, "h-1", suspended=True)

    signals._look()

    assert archive.registry.hospitals[0].suspended


def test_a_mistake_is_said_once_and_harms_no_other_hospital(signals, archive):
    spoil(archive.config, "h-1")

    with structlog.testing.capture_logs() as lines:
        signals._look()
        signals._look()

    assert [line["event"] for line in lines] == ["hospital's file not taken", "hospitals read"]
    assert registered(archive) == ["h-1"]


def test_a_directory_that_went_away_is_said_once_and_what_was_read_stays(signals, archive):
    directory = archive.config.archive.hospitals
    directory.rename(directory.with_name("away"))

    with structlog.testing.capture_logs() as lines:
        signals._look()
        signals._look()

    assert [line["event"] for line in lines] == ["hospitals not read"]
    assert registered(archive) == ["h-1"]


def test_a_process_that_starts_leaves_out_the_hospital_whose_file_is_wrong(archive):
    write(archive.config, "h-2")
    spoil(archive.config, "h-1")

    started = ArchiveSite(archive.config, "w1", FakeClock())

    assert registered(started) == ["h-2"]
    assert "h-1.toml is not TOML" in started.problems[0]


def test_a_second_role_on_the_same_data_directory_is_refused(archive):
    second = ArchiveSite(archive.config, "serve", FakeClock())
    with (
        archive.lock_for_serving(),
        pytest.raises(Busy, match=r"another `harmoni archive serve` runs on .*/data: end it"),
    ):
        second.lock_for_serving()

    second.lock_for_serving().close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_process_ends_when_one_of_its_duties_does(signals):
    def fail():
        raise OSError("a fault of ours")

    signals.start_thread("keep", fail).join()

    signals.wait()


def test_a_recovery_recipient_that_somebody_put_into_the_store_opens_no_hospital(archive):
    operate.add_hospital(archive.config, hospital_id="h-2", name="B", recovery_recipient=None)
    archive.reload()
    hospital = HospitalId("h-2")
    stranger = age.generate_identity(random=os.urandom(age.SEED_BYTES)).recipient()
    name = Layout(hospital).recovery_recipient
    right = archive.files.read(name)
    archive.files.replace(name, f"{stranger.to_string()}\n".encode())
    with pytest.raises(ConfigurationError, match="not the recovery_recipient"):
        archive.holding(hospital)

    archive.files.replace(name, right)
    assert archive.holding(hospital).hospital == hospital
