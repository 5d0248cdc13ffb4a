"""The authority's commands write what TLS and policy can use, and never overwrite."""

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from harmoni.cli import app


@pytest.fixture
def authority(tmp_path, capsys):
    assert app.main(["ca", "init", str(tmp_path / "ca")]) == 0
    capsys.readouterr()
    return tmp_path / "ca"


def issue(capsys, authority, *arguments):
    out = authority.parent / "out"
    code = app.main(
        ["ca", "issue", "--ca", str(authority), "--out", str(out), "--json", *arguments]
    )
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


@pytest.mark.parametrize(
    ("owner", "uri"),
    [
        (["--hospital", "hospital-a"], "urn:harmoni:hospital:hospital-a"),
        (["--site", "dc1"], "urn:harmoni:site:dc1"),
    ],
)
def test_issue_names_its_owner_and_its_hosts(capsys, authority, owner, uri):
    code, made = issue(capsys, authority, *owner, "--host", "localhost", "--ip", "127.0.0.1")
    assert code == 0
    certificate = x509.load_pem_x509_certificate(Path(made["certificate"]).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    root = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(root)


def test_issue_leaves_what_a_configuration_names(capsys, authority):
    _, made = issue(capsys, authority, "--site", "dc1", "--name", "archive")
    folder = authority.parent / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "archive.crt",
        "archive.key",
        "ca.crt",
    ]
    assert Path(made["authority"]).read_bytes() == (authority / "ca.crt").read_bytes()


def test_keys_are_readable_by_their_owner_alone(capsys, authority):
    _, made = issue(capsys, authority, "--site", "dc1")
    for path in (Path(made["key"]), authority / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(capsys, authority):
    before = (authority / "ca.key").read_bytes()
    assert app.main(["ca", "init", str(authority)]) == 2
    assert (authority / "ca.key").read_bytes() == before
    assert issue(capsys, authority, "--site", "dc1")[0] == 0
    assert issue(capsys, authority, "--site", "dc1")[0] == 2


@pytest.mark.parametrize("owner", [[], ["--site", "dc1", "--hospital", "hospital-a"]])
def test_a_certificate_has_exactly_one_owner(capsys, authority, owner):
    code, err = issue(capsys, authority, *owner)
    assert code == 2
    assert "either --hospital or --site" in err


def test_a_directory_without_an_authority_is_named(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    code, err = issue(capsys, tmp_path / "empty", "--site", "dc1")
    assert code == 2
    assert "make one with harmoni ca init" in err
