"""Every error leaves by one line on stderr and the exit code of its kind."""

import errno
import re

import pytest

from harmoni.cli import app
from harmoni.cli.reference import every_error
from harmoni.model import errors

ISSUE = ["ca", "issue", "--ca", "ca", "--out", "out", "--hospital", "h-1"]
ADD = ["hospital", "add", "--config", "dc1/archive.toml"]
FIND = ["study", "find", "--config", "dc1/archive.toml", "--hospital", "h-1"]


def run(capsys, *arguments):
    code = app.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Damaged, 1),
        (errors.NotHeld, 1),
        (errors.ConfigurationError, 2),
        (errors.InvalidInput, 2),
        (errors.AlreadyHeld, 2),
        (errors.Unreachable, 3),
        (errors.StorageFailed, 3),
        (errors.RemoteProtocolError, 3),
        (errors.Refused, 4),
        (errors.Permanent, 4),
        (errors.LocalProtocolError, 70),
        (errors.HarmoniError, 70),
    ],
)
def test_a_kind_of_error_has_its_exit_code(kind, code):
    assert app.exit_code(kind) == code


def test_every_error_but_the_roots_has_a_code_of_its_own():
    kinds = [kind for kind in every_error() if "code" in vars(kind)]
    codes = [kind.code for kind in kinds]
    assert sorted(codes) == sorted(set(codes))
    assert all(re.fullmatch(r"HZ-[0-3]\d{3}", code) for code in codes)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["archive", "check"],
        ["archive", "check", "--config", "nowhere.toml"],
        ["archive", "check", "--frobnicate"],
        ["hospital", "list", "--config", "nowhere.toml"],
        ["ca", "issue", "--ca", ".", "--out", "."],
        ["demo", "--sites", "2"],
        ["demo", "--hospitals", "0"],
        ["demo", "--set", "nonsense"],
        ["demo", "--dir", "strange", "--serve"],
        ["archive", "init", "/proc/x"],
        ["archive", "init", "strange/file/x"],
        ["archive", "init", "new", "--site", "NOT A SITE"],
        ["archive", "init", "dc1"],
        ["archive", "check", "--config", "strange/file"],
        ["status", "--config", "strange"],
        ["ca", "init", "strange/file/x"],
        ["ca", "init", "ca"],
        [*ISSUE, "--days", "-5"],
        [*ISSUE, "--days", "0"],
        [*ISSUE, "--days", "9999999"],
        [*ISSUE, "--days", "99999999999999999999"],
        [*ISSUE, "--name", "../../evil"],
        [*ISSUE, "--name", ""],
        [*ISSUE, "--host", "a b"],
        [*ISSUE, "--host", ""],
        [*ISSUE, "--host", "-a.example"],
        [*ISSUE, "--ip", "1.2.3"],
        [*ADD, "--name", ""],
        [*ADD, "--name", "A" * 201],
        [*ADD, "--name", "A", "--id", "../x"],
        [*ADD, "--name", "A", "--recovery-recipient", "age1x"],
        [*FIND, "--study-date", "2024-01-02"],
        [*FIND, "--study-date", "20241301"],
        [*FIND, "--study-uid", "abc"],
        ["study", "show", "abc", "--config", "dc1/archive.toml", "--hospital", "h-1"],
    ],
)
def test_wrong_use_is_one_line_and_exit_2_and_makes_nothing(capsys, centre, monkeypatch, arguments):
    monkeypatch.chdir(centre)
    before = there(centre)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("harmoni: ")
    assert err.count("\n") == 1
    assert there(centre) == before


def there(directory):
    """Every name below, without the audit trail, where what was refused may stand, and without
    the files that a database has beside it while it is open.
    """
    passing = (".spool", "-wal", "-shm")
    return {path for path in directory.rglob("*") if not path.name.endswith(passing)}


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    """An authority, an archive and a hospital, and a directory that is nobody's."""
    place = tmp_path_factory.mktemp("centre")
    (place / "strange").mkdir()
    (place / "strange/file").write_bytes(bytes(range(256)))
    config = ["--config", str(place / "dc1/archive.toml")]
    assert app.main(["ca", "init", str(place / "ca")]) == 0
    assert app.main(["archive", "init", str(place / "dc1")]) == 0
    (place / "dc1/data/audit").mkdir()
    assert app.main(["hospital", "add", *config, "--name", "One", "--id", "h-1"]) == 0
    return place


def test_a_date_that_is_none_is_told_by_the_option_and_the_form_it_wants(
    capsys, centre, monkeypatch
):
    monkeypatch.chdir(centre)
    _, _, err = run(capsys, *FIND, "--study-date", "2024-01-02")
    assert "--study-date 2024-01-02" in err
    assert "YYYYMMDD" in err


@pytest.mark.parametrize("date", ["20240102", "20240102-", "-20240102", "20240101-20240131"])
def test_a_date_or_a_range_of_dates_is_taken(capsys, centre, monkeypatch, date):
    monkeypatch.chdir(centre)
    assert run(capsys, *FIND, "--study-date", date)[:2] == (0, "no study matches\n")


def test_what_is_there_is_named_with_its_directory_and_what_to_do(capsys, centre):
    _, _, init = run(capsys, "archive", "init", centre / "dc1")
    assert f"{centre / 'dc1'} holds an archive's" in init
    assert "choose another directory" in init
    _, _, authority = run(capsys, "ca", "init", centre / "ca")
    assert f"{centre / 'ca/ca.key'} exists" in authority
    assert "choose another directory" in authority


def test_what_the_system_refuses_is_no_fault_of_ours(capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", "data/x")

    monkeypatch.setattr(app, "app", refuse)
    code, _, err = run(capsys, "status")
    assert code == 3
    assert err.startswith("harmoni: cannot use data/x: Permission denied; ")


def test_debug_adds_the_traceback(capsys, tmp_path):
    _, _, plain = run(capsys, "archive", "check", "--config", tmp_path / "nowhere.toml")
    _, _, debug = run(capsys, "--debug", "archive", "check", "--config", tmp_path / "nowhere.toml")
    assert "Traceback" not in plain
    assert "Traceback" in debug
    assert debug.endswith(plain)


def test_an_unexpected_exception_is_our_fault(capsys, monkeypatch):
    def fail(*_: object, **__: object) -> object:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(app, "app", fail)
    code, _, err = run(capsys, "status")
    assert code == 70
    assert err.startswith("harmoni: ZeroDivisionError: division by zero; this is a fault of")
    assert err.count("\n") == 1


def test_version_is_printed(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"harmoni \S+\n", out)


def test_wrong_use_names_the_help_of_that_very_command(capsys):
    assert app.main(["vault", "scrub"]) == 2
    assert "See harmoni vault scrub --help." in capsys.readouterr().err
