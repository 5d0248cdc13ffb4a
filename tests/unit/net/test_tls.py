"""Handshakes in memory: two ends, four buffers, no socket."""

import shutil
import ssl
import warnings

import pytest
from cryptography.hazmat.primitives import serialization

import tls_material as material
from harmoni.fleet import ca
from harmoni.model.errors import ConfigurationError, InvalidInput
from harmoni.net import tls


def handshake(server_context, client_context, *, host="127.0.0.1"):
    """Drive both ends to the end and one byte each way; raise the SSLError of who fails first."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [client, server]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    # In TLS 1.3 a client learns only with the first read that its certificate was refused.
    server.write(b"s")
    client.write(b"c")
    assert (client.read(1), server.read(1)) == (b"s", b"c")
    return server, client


@pytest.fixture(scope="module")
def server_context(tls_material):
    return tls.server_context(tls_material.server)


def loose_client(files=None):
    """A client that would agree to anything, as an old device does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_learn_each_others_certificate(tls_material, server_context, version):
    client_context = tls.client_context(tls_material.client)
    client_context.maximum_version = client_context.minimum_version = version
    server, client = handshake(server_context, client_context)
    assert server.version() == version.name.replace("_", ".")
    assert tls.peer_certificate(server).uris == ("urn:harmoni:hospital:h-7f3a",)
    assert tls.peer_certificate(client).uris == ("urn:harmoni:site:dc1",)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_before_1_2_are_refused(tls_material, server_context, version):
    context = loose_client(tls_material.client)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is the point
        context.minimum_version = context.maximum_version = version
    with pytest.raises(
        ssl.SSLError, match=r"(?i)unsupported.protocol|protocol.version|no_protocols"
    ):
        handshake(server_context, context)


@pytest.mark.parametrize("suite", tls.TLS_1_2_SUITES[::2])
def test_each_suite_that_fits_the_key_is_agreed_on(tls_material, server_context, suite):
    context = loose_client(tls_material.client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    server, _ = handshake(server_context, context)
    cipher = server.cipher()
    assert cipher is not None
    assert cipher[0] == suite


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "DHE-RSA-AES256-GCM-SHA384",
        "AES256-GCM-SHA384",
        "AES128-SHA",
    ],
)
def test_foreign_suites_are_refused(tls_material, server_context, suite):
    context = loose_client(tls_material.client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)no.shared.cipher"):
        handshake(server_context, context)


def test_exactly_seven_suites_are_offered(server_context):
    names = {cipher["name"] for cipher in server_context.get_ciphers()}
    assert names == {
        *tls.TLS_1_2_SUITES,
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_certificate_is_refused(server_context, version):
    context = loose_client()
    context.maximum_version = version
    with pytest.raises(ssl.SSLError, match=r"(?i)did.not.return.a.certificate"):
        handshake(server_context, context)


@pytest.mark.parametrize(
    ("name", "why"), [("foreign", "certificate verify failed"), ("expired", "has expired")]
)
def test_a_client_with_a_bad_certificate_is_refused(tls_material, server_context, name, why):
    with pytest.raises(ssl.SSLError, match=why):
        handshake(server_context, loose_client(getattr(tls_material, name)))


@pytest.mark.parametrize("name", ["foreign", "expired"])
def test_a_server_with_a_bad_certificate_is_refused(tls_material, name):
    server_context = tls.server_context(getattr(tls_material, name))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context, tls.client_context(tls_material.client))


def test_a_server_under_another_name_is_refused(tls_material, server_context):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)mismatch"):
        handshake(server_context, tls.client_context(tls_material.client), host="127.0.0.2")


def test_the_name_is_not_asked_for_where_the_caller_looks_itself(tls_material, server_context):
    context = tls.client_context(tls_material.client, check_hostname=False)
    _, client = handshake(server_context, context, host="elsewhere.example")
    assert tls.peer_certificate(client).uris == ("urn:harmoni:site:dc1",)


@pytest.fixture
def revocable(tls_material, tmp_path):
    """A server that reads a revocation list, and the serial number of the client."""
    files = tls_material.server
    revocations = tmp_path / "revoked.crl"
    der = ssl.PEM_cert_to_DER_cert(tls_material.client.certificate.read_text())
    serial = int(tls.certificate_facts(der).serial, 16)

    def revoke(*serials):
        revocations.write_bytes(
            ca.revocation_list(tls_material.authority, serials=serials, now_ms=material.now_ms())
        )

    revoke()
    context = tls.ServerContext(
        tls.TLSFiles(files.certificate, files.key, files.authorities, revocations)
    )
    return context, serial, revoke


def test_a_revoked_client_is_refused_after_a_reload(tls_material, revocable):
    context, serial, revoke = revocable
    handshake(context.current, tls.client_context(tls_material.client))
    revoke(serial)
    context.reload()
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(context.current, tls.client_context(tls_material.client))


def test_a_renewed_certificate_is_shown_after_a_reload(tls_material, tmp_path):
    files = tls.TLSFiles(tmp_path / "crt", tmp_path / "key", tls_material.server.authorities)
    shutil.copy(tls_material.server.certificate, files.certificate)
    shutil.copy(tls_material.server.key, files.key)
    context = tls.ServerContext(files)
    shutil.copy(tls_material.client.certificate, files.certificate)
    shutil.copy(tls_material.client.key, files.key)
    context.reload()
    _, client = handshake(context.current, tls.client_context(tls_material.client))
    assert tls.peer_certificate(client).uris == ("urn:harmoni:hospital:h-7f3a",)


def test_a_reload_of_broken_files_keeps_the_old_ones(tls_material, tmp_path):
    files = tls.TLSFiles(tmp_path / "crt", tmp_path / "key", tls_material.server.authorities)
    shutil.copy(tls_material.server.certificate, files.certificate)
    shutil.copy(tls_material.server.key, files.key)
    context = tls.ServerContext(files)
    files.certificate.write_text("half a fi")
    with pytest.raises(ConfigurationError, match="check that each is PEM"):
        context.reload()
    handshake(context.current, tls.client_context(tls_material.client))


def test_a_key_of_another_certificate_is_refused(tls_material):
    files = tls_material.server
    with pytest.raises(ConfigurationError, match="do not work together"):
        tls.server_context(
            tls.TLSFiles(files.certificate, tls_material.client.key, files.authorities)
        )


def test_an_encrypted_key_is_refused_without_asking_at_the_terminal(tls_material, tmp_path):
    files = tls_material.server
    key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigurationError, match="without a password"):
        tls.server_context(tls.TLSFiles(files.certificate, encrypted, files.authorities))


def test_no_session_outlives_its_connection(tls_material, server_context):
    context = tls.client_context(tls_material.client)
    _, client = handshake(server_context, context)
    assert client.session is None or not client.session.has_ticket


def test_facts_name_the_certificate_exactly(tls_material):
    der = ssl.PEM_cert_to_DER_cert(tls_material.client.certificate.read_text())
    facts = tls.certificate_facts(der)
    assert facts.subject == "CN=client"
    assert len(facts.fingerprint) == 64
    assert facts.not_after_ms > material.now_ms() + 89 * material.DAY_MS


def test_a_certificate_without_other_names_has_no_uris(tls_material):
    der = ssl.PEM_cert_to_DER_cert(tls_material.client.authorities.read_text())
    assert tls.certificate_facts(der).uris == ()


def test_bytes_that_are_no_certificate_are_named():
    with pytest.raises(InvalidInput, match="cannot be read"):
        tls.certificate_facts(b"\x30\x03\x02\x01\x01")


def test_a_peer_that_showed_none_has_no_facts(tls_material):
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    unverified.load_cert_chain(tls_material.server.certificate, tls_material.server.key)
    server, _ = handshake(unverified, loose_client())
    with pytest.raises(InvalidInput, match="no certificate"):
        tls.peer_certificate(server)
