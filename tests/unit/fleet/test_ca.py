from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from harmoni.fleet import ca
from harmoni.model.errors import ConfigurationError, InvalidInput
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.testing import FAKE_NOW_MS

HOSPITAL = HospitalId("h-7f3a")
NOW = datetime.fromtimestamp(FAKE_NOW_MS / 1000, tz=UTC)


@pytest.fixture(scope="module")
def authority():
    return ca.create_authority("HARMONI centre", FAKE_NOW_MS)


def issue(authority, **changes):
    arguments = {"owner": HOSPITAL, "common_name": "gateway 1", "now_ms": FAKE_NOW_MS}
    issued = ca.issue(authority, **{**arguments, **changes})
    return x509.load_pem_x509_certificate(issued.cert_pem), issued


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize(
    ("owner", "uri"),
    [
        (HOSPITAL, "urn:harmoni:hospital:h-7f3a"),
        (SiteId("dc1"), "urn:harmoni:site:dc1"),
    ],
)
def test_the_owner_stands_in_the_certificate_as_its_only_uri(authority, owner, uri):
    certificate, _ = issue(authority, owner=owner)
    names = extension(certificate, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]


def test_names_and_addresses_stand_beside_the_owner(authority):
    certificate, _ = issue(authority, dns_names=["gw.example"], ip_addresses=["10.0.0.7", "::1"])
    names = extension(certificate, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gw.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.7"), ip_address("::1")]


def test_a_node_serves_and_calls_for_90_days_and_signs_nobody(authority):
    certificate, _ = issue(authority)
    assert set(extension(certificate, x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert certificate.not_valid_after_utc == NOW + timedelta(days=90)
    assert certificate.not_valid_before_utc < NOW
    assert not extension(certificate, x509.BasicConstraints).value.ca
    assert not extension(certificate, x509.KeyUsage).value.key_cert_sign


def test_an_authority_signs_nodes_and_nothing_below_them(authority):
    certificate = x509.load_pem_x509_certificate(authority.cert_pem)
    assert extension(certificate, x509.BasicConstraints).value == x509.BasicConstraints(
        ca=True, path_length=0
    )
    assert extension(certificate, x509.KeyUsage).value.key_cert_sign
    assert not extension(certificate, x509.KeyUsage).value.digital_signature


def test_a_certificate_verifies_against_its_authority_and_no_other(authority):
    certificate, _ = issue(authority)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.cert_pem))
    other = ca.create_authority("HARMONI centre", FAKE_NOW_MS)
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(other.cert_pem))


def test_key_identifiers_link_the_node_to_its_authority(authority):
    certificate, _ = issue(authority)
    above = x509.load_pem_x509_certificate(authority.cert_pem)
    assert (
        extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier
        == extension(above, x509.SubjectKeyIdentifier).value.digest
    )


def test_every_certificate_has_a_key_and_a_serial_number_of_its_own(authority):
    (one, first), (two, second) = issue(authority), issue(authority)
    assert one.serial_number != two.serial_number
    assert first.key_pem != second.key_pem


def test_the_key_belongs_to_the_certificate_and_is_p_256(authority):
    certificate, issued = issue(authority)
    key = serialization.load_pem_private_key(issued.key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()


def test_private_keys_do_not_show_in_a_log(authority):
    _, issued = issue(authority)
    assert "PRIVATE" not in repr(issued) + repr(authority)


def test_a_certificate_never_outlives_its_authority(authority):
    later_ms = FAKE_NOW_MS + (ca.AUTHORITY_DAYS - 30) * 86_400_000
    with pytest.raises(ConfigurationError, match="create the next authority"):
        issue(authority, now_ms=later_ms)


@pytest.mark.parametrize(
    "changes",
    [
        {"common_name": ""},
        {"common_name": "x" * 65},
        {"ip_addresses": ["10.0.0"]},
        {"dns_names": ["ακτινολογικό"]},
    ],
)
def test_what_does_not_fit_into_a_certificate_is_named(authority, changes):
    with pytest.raises(InvalidInput):
        issue(authority, **changes)


def test_an_authority_with_another_authoritys_key_is_refused(authority):
    other = ca.create_authority("other", FAKE_NOW_MS)
    with pytest.raises(ConfigurationError, match="not the key of its certificate"):
        issue(ca.Authority(cert_pem=authority.cert_pem, key_pem=other.key_pem))


def test_broken_files_of_an_authority_are_refused(authority):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        issue(ca.Authority(cert_pem=b"no PEM", key_pem=authority.key_pem))


def test_a_revocation_list_names_the_revoked_and_is_signed(authority):
    certificate, _ = issue(authority)
    listed = x509.load_pem_x509_crl(
        ca.revocation_list(authority, serials=[certificate.serial_number], now_ms=FAKE_NOW_MS)
    )
    above = x509.load_pem_x509_certificate(authority.cert_pem)
    assert listed.is_signature_valid(above.public_key())
    assert [entry.serial_number for entry in listed] == [certificate.serial_number]
    assert listed.next_update_utc == NOW + timedelta(days=ca.REVOCATION_DAYS)
