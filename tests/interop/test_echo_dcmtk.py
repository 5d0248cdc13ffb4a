"""DCMTK and our shell greet each other, with and without TLS, from either side."""

import socket
import subprocess
from contextlib import contextmanager, suppress

import pytest

import loopback
from harmoni.model.errors import Unreachable
from harmoni.net import tls

pytestmark = pytest.mark.peer


@pytest.fixture
def echoscu(peer):
    program = peer("/usr/bin/echoscu")

    def run(served, *options, files=None):
        secured = [] if files is None else tls_options(files)
        return subprocess.run(
            [program, *options, *secured, "-aet", "DCMTK", "127.0.0.1", str(served.port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def tls_options(files):
    return ["+tls", str(files.key), str(files.certificate), "+cf", str(files.authorities)]


def test_echoscu_is_answered_with_success(echoscu):
    with loopback.serving() as served:
        done = echoscu(served, "--repeat", "3")
        assert done.returncode == 0, done.stderr
        ended = served.line("association ended", outcome="released")
    assert (ended["messages_received"], ended["calling"]) == (3, "DCMTK")


@pytest.mark.parametrize("profile", ["--profile-bcp195", "--profile-bcp195-nd"])
def test_echoscu_over_tls_is_answered_with_success(echoscu, tls_material, profile):
    with loopback.serving(context=tls.ServerContext(tls_material.server)) as served:
        done = echoscu(served, profile, files=tls_material.client)
        assert done.returncode == 0, done.stderr
        served.line("association ended", outcome="released")


@pytest.mark.parametrize("name", ["expired", "foreign"])
def test_echoscu_with_a_bad_certificate_gets_no_association(echoscu, tls_material, name):
    with loopback.serving(context=tls.ServerContext(tls_material.server)) as served:
        done = echoscu(served, files=getattr(tls_material, name))
        assert done.returncode != 0
        served.line("association ended", outcome="handshake failed")


def test_echoscu_without_tls_gets_nothing_from_a_tls_port(echoscu, tls_material):
    with loopback.serving(context=tls.ServerContext(tls_material.server)) as served:
        assert echoscu(served, "-ta", "5").returncode != 0
        served.line("association ended", outcome="handshake failed")


def test_echoscu_reads_why_it_was_rejected(echoscu):
    rejected = loopback.server.Rejected(result=1, source=1, reason=7)
    with loopback.serving(decide=lambda *_: rejected) as served:
        done = echoscu(served)
        assert "Called AE Title Not Recognized" in done.stderr + done.stdout
        served.line("association ended", outcome="rejected")


def test_echoscu_that_aborts_is_noted_as_such(echoscu):
    with loopback.serving() as served:
        assert echoscu(served, "--abort").returncode == 0
        served.line("association ended", outcome="aborted")


@contextmanager
def storescp(program, tmp_path, *options):
    """Run DCMTK's storescp, and give what opens an association to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def open_to(**opening):
        """Open an association as soon as it listens."""
        for _ in range(500):
            try:
                return loopback.open_to(port, **opening)
            except Unreachable as error:
                if "refused" not in str(error):
                    raise
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"storescp ended with {process.wait(0.02)}")
        raise AssertionError(f"nothing listens at port {port}")

    with subprocess.Popen(
        [program, "--ignore", "-od", str(tmp_path), *options, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield open_to
        finally:
            process.terminate()


def test_we_echo_to_storescp(peer, tmp_path):
    with storescp(peer("/usr/bin/storescp"), tmp_path) as open_to:
        channel = open_to()
        assert loopback.echo(channel) == 0
        channel.release(10)
        assert channel.ended.kind == "released"


def test_we_store_to_storescp(peer, tmp_path):
    with storescp(peer("/usr/bin/storescp"), tmp_path) as open_to:
        channel = open_to()
        element = b"\x08\x00\x18\x00\x06\x00\x00\x001.2.3\x00"
        channel.send(channel.contexts[3], loopback.STORE, [element])
        assert channel.receive(10).command.status == 0
        channel.release(10)


def test_we_echo_to_storescp_over_tls(peer, tmp_path, tls_material):
    options = [*tls_options(tls_material.server), "--require-peer-cert"]
    with storescp(peer("/usr/bin/storescp"), tmp_path, *options) as open_to:
        channel = open_to(tls=tls.client_context(tls_material.client))
        assert channel.facts.certificate.uris == ("urn:harmoni:site:dc1",)
        assert loopback.echo(channel) == 0
        channel.release(10)
        assert channel.ended.kind == "released"
