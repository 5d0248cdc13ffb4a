"""Every error leaves by one line on stderr and the exit code of its kind."""

import re

import pytest

from harmoni.cli import app
from harmoni.cli.reference import every_error
from harmoni.model import errors


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
    ],
)
def test_wrong_use_is_one_line_and_exit_2(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("harmoni: ")
    assert err.count("\n") == 1


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
