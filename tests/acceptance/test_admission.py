"""Who is let in to the running archive, and how everybody else is refused and audited."""

import socket
import ssl
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pynetdicom import AE
from pynetdicom import sop_class as sop

from archive_role import CALLED, HOST, SUSPENDED, UNREADY, client_context
from harmoni.audit.event import Act, Outcome
from harmoni.fleet import ca
from harmoni.model.identifiers import HospitalId, SiteId
from tls_material import DAY_MS, now_ms, write_node

IMPLICIT = "1.2.840.10008.1.2"
WAIT_S = 20


def try_to_associate(role, context, *, called=CALLED, calling="PYNET"):
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.network_timeout = WAIT_S
    entity.add_requested_context(sop.Verification, [IMPLICIT])
    association = entity.associate(
        HOST, role.port, ae_title=called, tls_args=(context, None) if context else None
    )
    if association.is_established:
        association.release()
        return "accepted"
    if not association.is_rejected:
        return "no association"
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def refusals(role):
    return [
        event
        for event in role.audited()
        if event.act is Act.NODE_AUTHENTICATION and event.outcome is Outcome.SERIOUS_FAILURE
    ]


def assert_rejected_and_audited(role, context, answer, **options):
    calling = uuid.uuid4().hex[:16].upper()
    assert try_to_associate(role, context, calling=calling, **options) == answer, role.log()[-2000:]
    (event,) = [event for event in refusals(role) if event.who.calling_ae_title == calling]
    assert event.reason
    assert event.who.address == HOST
    return event


def test_a_hospital_of_the_centre_is_let_in(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    assert try_to_associate(archive_role, context) == "accepted"


def test_a_suspended_hospital_is_rejected(archive_role):
    context = client_context(archive_role.house(SUSPENDED).tls_files)
    event = assert_rejected_and_audited(archive_role, context, (1, 1, 3))
    assert event.who.hospital == SUSPENDED


def test_a_hospital_that_cannot_be_served_now_is_told_to_come_back(archive_role, tmp_path):
    files = issued(archive_role, tmp_path, "unready", HospitalId(UNREADY))
    assert try_to_associate(archive_role, client_context(files)) == (2, 3, 2)


def test_a_wrong_called_ae_title_is_rejected_as_such(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    assert_rejected_and_audited(archive_role, context, (1, 1, 7), called="OTHER")


def issued(role, folder, name, owner, *, signer=None, at_ms=None):
    made = ca.issue(
        signer or role.authority, owner=owner, common_name=name, now_ms=at_ms or now_ms()
    )
    return write_node(folder, name, made, role.authority.cert_pem)


def with_uris(role, folder, uris):
    """A certificate of the centre's authority that names what `fleet.ca` would never issue."""
    files = issued(role, folder, "odd", HospitalId("hospital-a"))
    authority = x509.load_pem_x509_certificate(role.authority.cert_pem)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    signer = serialization.load_pem_private_key(role.authority.key_pem, None)
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return files


def test_a_sites_certificate_is_no_hospitals(archive_role, tmp_path):
    files = issued(archive_role, tmp_path, "site", SiteId("dc1"))
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


def test_a_hospital_that_is_not_registered_is_rejected(archive_role, tmp_path):
    files = issued(archive_role, tmp_path, "stranger", HospitalId("hospital-z"))
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


@pytest.mark.parametrize(
    "uris",
    [
        ["urn:harmoni:hospital:hospital-a", "urn:harmoni:hospital:hospital-b"],
        ["urn:harmoni:hospital:hospital-a ", "urn:harmoni:hospital:"],
        ["urn:harmoni:hospital:HOSPITAL-A"],
        ["urn:harmoni:hospital:hospital-a/../hospital-b"],
        [],
    ],
)
def test_a_certificate_must_name_exactly_one_hospital(archive_role, tmp_path, uris):
    files = with_uris(archive_role, tmp_path, uris)
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


def alert(role, context):
    """The TLS alert that a handshake ends in."""
    with (
        pytest.raises(ssl.SSLError) as error,
        socket.create_connection((HOST, role.port), timeout=WAIT_S) as plain,
        context.wrap_socket(plain) as secured,
    ):
        # In TLS 1.3 the client hears of the refusal only when it reads.
        secured.recv(1)
    return error.value.reason


def assert_refused_and_audited(role, context, expected, why):
    """Refused by a TLS alert, and the audit trail says why; it says the same once a minute."""
    assert expected in alert(role, context)
    # The alert leaves before the event is written.
    ends_s, pause = time.monotonic() + WAIT_S, threading.Event()
    while f"TLS: {why}" not in {event.reason for event in refusals(role)}:
        assert time.monotonic() < ends_s, why
        pause.wait(0.05)


def test_a_foreign_authority_ends_in_an_alert(archive_role, tmp_path):
    stranger = ca.create_authority("HARMONI demo", now_ms())
    files = issued(archive_role, tmp_path, "foreign", HospitalId("hospital-a"), signer=stranger)
    assert_refused_and_audited(
        archive_role,
        client_context(files),
        "ALERT_UNKNOWN_CA",
        "certificate verify failed, unable to get local issuer certificate",
    )


def test_an_expired_certificate_ends_in_an_alert(archive_role, tmp_path):
    old = ca.issue(
        archive_role.authority,
        owner=HospitalId("hospital-a"),
        common_name="old",
        now_ms=now_ms() - 100 * DAY_MS,
        days=90,
    )
    files = write_node(tmp_path, "old", old, archive_role.authority.cert_pem)
    assert_refused_and_audited(
        archive_role,
        client_context(files),
        "ALERT_CERTIFICATE_EXPIRED",
        "certificate verify failed, certificate has expired",
    )


def test_no_certificate_ends_in_an_alert(archive_role):
    trusted = archive_role.house("hospital-a").tls_files.authorities
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = False
    assert_refused_and_audited(
        archive_role, context, "CERTIFICATE_REQUIRED", "peer did not return a certificate"
    )


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_tls_version_ends_in_an_alert(archive_role, version):
    context = client_context(archive_role.house("hospital-a").tls_files)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    assert_refused_and_audited(
        archive_role, context, "ALERT_PROTOCOL_VERSION", "unsupported protocol"
    )


def test_without_tls_there_is_no_association(archive_role):
    assert try_to_associate(archive_role, None) == "no association"


def test_a_hospital_may_speak_tls_1_2(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert try_to_associate(archive_role, context) == "accepted"
