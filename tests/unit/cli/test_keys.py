"""The ceremony's commands: shares are proven, never overwritten, and give the identity back."""

import json
import os
import stat

import pytest

from harmoni.cli import app
from harmoni.sealing import age


@pytest.fixture
def identity():
    return age.generate_identity(random=os.urandom(32))


@pytest.fixture
def kept(tmp_path, identity):
    path = tmp_path / "recovery.txt"
    path.write_text(f"id hospital-a\nrecovery identity  {identity.to_string()}\n")
    return path


def keys(capsys, *arguments):
    code = app.main(["keys", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_three_files_of_five_give_back_the_identity_that_hospital_add_printed(
    capsys, tmp_path, identity, kept
):
    code, out, err = keys(capsys, "init", "--identity", kept, "--out", tmp_path / "s", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["combinations_proven"] == 10
    assert told["recipient"] == identity.recipient().to_string()
    assert "give the five shares to five people" in err

    three = told["shares"][1::2] + told["shares"][:1]
    code, out, _ = keys(capsys, "recover", "--out", tmp_path / "back.txt", *three, "--json")
    assert code == 0
    assert json.loads(out)["fingerprint"] == told["fingerprint"]
    assert (tmp_path / "back.txt").read_text() == f"{identity.to_string()}\n"
    assert stat.S_IMODE((tmp_path / "back.txt").stat().st_mode) == 0o600


def test_shares_are_readable_by_their_owner_alone_and_never_overwritten(capsys, tmp_path, kept):
    arguments = ("init", "--identity", kept, "--out", tmp_path / "s")
    assert keys(capsys, *arguments)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert sorted(path.name for path in before)[1:] == [f"share-{n}.txt" for n in range(1, 6)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in before} == {0o600}

    code, _, err = keys(capsys, *arguments)
    assert code == 2
    assert "choose another directory" in err
    assert {path: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


def test_an_identity_that_is_made_for_the_shares_stands_nowhere_else(capsys, tmp_path):
    code, out, err = keys(capsys, "init", "--out", tmp_path / "s")
    assert code == 0
    everything = out + err + "".join(path.read_text() for path in (tmp_path / "s").iterdir())
    assert "AGE-SECRET-KEY" not in everything
    assert "age1pq1" in (tmp_path / "s/recovery.recipient").read_text()


def test_a_share_is_shown_at_a_time_and_cleared_away(capsys, tmp_path, kept, monkeypatch, identity):
    screens = []
    monkeypatch.setattr("builtins.input", lambda _: screens.append(capsys.readouterr().out))
    assert app.main(["keys", "init", "--identity", str(kept), "--show"]) == 0
    assert screens.pop(0) == ""  # asked before anything is shown
    assert len(screens) == 5
    assert all("\033[2J" in screen for screen in screens)
    assert list(tmp_path.iterdir()) == [kept]
    capsys.readouterr()

    for number, screen in enumerate(screens[2:]):
        (tmp_path / f"{number}").write_text(screen.replace("\033[2J\033[3J\033[H", ""))
    typed = [tmp_path / f"{number}" for number in range(3)]
    code, out, _ = keys(capsys, "recover", *typed, "--json")
    assert code == 0
    assert json.loads(out)["recipient"] == identity.recipient().to_string()


def test_without_a_keyboard_not_even_the_first_share_is_shown(capsys, kept, monkeypatch):
    def ends(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", ends)
    code, out, err = keys(capsys, "init", "--identity", kept, "--show")
    assert code == 2
    assert out == ""
    assert "nobody is at the keyboard" in err


def test_a_rehearsal_writes_nothing(capsys, tmp_path, kept):
    keys(capsys, "init", "--identity", kept, "--out", tmp_path / "s")
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = keys(capsys, "recover", *(tmp_path / f"s/share-{n}.txt" for n in (5, 1, 3)))
    assert code == 0
    assert "fingerprint" in out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["init"], "give --out or --show"),
        (["init", "--show", "--out", "s"], "give --out or --show"),
        (["init", "--identity", "empty.txt", "--out", "s"], "holds 0 identities"),
        (["init", "--identity", "two.txt", "--out", "s"], "holds 2 identities"),
        (["recover", "--out", "x", "empty.txt", "two.txt"], "empty.txt: a share has 33 words"),
    ],
)
def test_wrong_use_is_told_and_makes_nothing(capsys, tmp_path, monkeypatch, arguments, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    two = (age.generate_identity(random=os.urandom(32)).to_string() for _ in range(2))
    (tmp_path / "two.txt").write_text("\n".join(two))
    code, out, err = keys(capsys, *arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "two.txt"]


def test_what_is_there_is_not_overwritten_by_a_recovery(capsys, tmp_path, kept):
    keys(capsys, "init", "--identity", kept, "--out", tmp_path / "s")
    three = [tmp_path / f"s/share-{n}.txt" for n in (1, 2, 3)]
    before = kept.read_bytes()
    assert keys(capsys, "recover", "--out", kept, *three)[0] == 2
    assert kept.read_bytes() == before


def test_nobody_at_the_keyboard_sees_no_share_twice(capsys, kept, monkeypatch):
    def nobody(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    code, _, err = keys(capsys, "init", "--identity", kept, "--show")
    assert code == 2
    assert "at a terminal" in err


@pytest.fixture
def archive(capsys, tmp_path):
    config = ["--config", str(tmp_path / "dc1/archive.toml")]
    assert app.main(["archive", "init", str(tmp_path / "dc1")]) == 0
    (tmp_path / "dc1/data/audit").mkdir()
    assert app.main(["hospital", "add", *config, "--name", "One", "--id", "h-1"]) == 0
    capsys.readouterr()
    return config


def test_rotate_puts_another_site_identity_in_force_each_time(capsys, archive):
    told = []
    for more in ([], ["--epochs"]):
        code, out, _ = keys(capsys, "rotate", *archive, "--hospital", "h-1", "--json", *more)
        assert code == 0
        told.append(json.loads(out))
    assert told[0]["recipient"] != told[1]["recipient"]
    assert app.main(["vault", "rebuild", *archive, "--hospital", "h-1"]) == 0


def test_a_hospital_that_is_none_has_no_keys_to_rotate(capsys, archive):
    code, _, err = keys(capsys, "rotate", *archive, "--hospital", "h-2")
    assert code == 1
    assert "no hospital h-2" in err


def test_a_hospital_without_keys_is_not_adopted(capsys, tmp_path, archive):
    code, _, err = keys(capsys, "adopt", *archive, "--hospital", "h-2", "--name", "Two")
    assert code == 1
    assert "put the copy of its keys at" in err
    assert not (tmp_path / "dc1/hospitals/h-2.toml").exists()


def test_adopting_what_is_in_force_changes_nothing(capsys, tmp_path, archive):
    before = {
        path: path.read_bytes()
        for path in (*tmp_path.rglob("custody/*"), *tmp_path.rglob("hospitals/*"))
    }
    code, out, _ = keys(capsys, "adopt", *archive, "--hospital", "h-1", "--name", "X", "--json")
    assert code == 0
    assert json.loads(out)["recipient"].startswith("age1pq1")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("command", [["archive", "check"], ["status"]])
def test_a_place_for_copies_that_is_not_mounted_is_told(capsys, tmp_path, archive, command):
    config = tmp_path / "dc1/archive.toml"
    text = config.read_text()
    assert "\ncopies = []\n" in text
    config.write_text(text.replace("\ncopies = []\n", '\ncopies = ["away"]\n'))
    app.main([*command, *archive])
    assert f"{tmp_path / 'dc1/away'} is not complete" in capsys.readouterr().out
