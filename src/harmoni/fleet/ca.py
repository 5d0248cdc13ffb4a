"""The centre's own certificate authority: what makes a node a node of one hospital or site.

The SAN URI `urn:harmoni:hospital:ID` or `urn:harmoni:site:ID` is the whole of a node's identity;
names and addresses beside it let a client see that it reached the machine it called. Everything is
ECDSA P-256 with SHA-256 (RFC 5480, RFC 5280). Time is an argument, and nothing is written here:
the caller writes certificates anywhere and private keys with mode 0600.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harmoni.model.errors import ConfigurationError, InvalidInput
from harmoni.model.identifiers import HospitalId, SiteId

HOSPITAL_URI: Final = "urn:harmoni:hospital:"
SITE_URI: Final = "urn:harmoni:site:"

AUTHORITY_DAYS: Final = 3653
NODE_DAYS: Final = 90
REVOCATION_DAYS: Final = 7
# RFC 1123 2.1, RFC 1035 2.3.4.
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST_HOST: Final = 253
# A node whose clock is a little late must not find its new certificate not valid yet.
_BACKDATED: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its self-signed certificate and its private key.

    Attributes:
        cert_pem: the certificate, PEM; public, every node trusts it.
        key_pem: the private key, PKCS #8 PEM without a password; with it one can be anybody.
    """

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A node's certificate and its private key.

    Attributes:
        cert_pem: the certificate, PEM.
        key_pem: the private key, PKCS #8 PEM without a password; to be written with mode 0600.
    """

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


def owner_uri(owner: HospitalId | SiteId) -> str:
    """Give the SAN URI that names a hospital or a site."""
    match owner:
        case HospitalId():
            return f"{HOSPITAL_URI}{owner}"
        case SiteId():
            return f"{SITE_URI}{owner}"


def create_authority(name: str, now_ms: int) -> Authority:
    """Create an authority that signs nodes and nothing below them (path length 0).

    Args:
        name: its common name, 1 to 64 characters.
        now_ms: the wall time in milliseconds; the authority holds for ten years from then.

    Raises:
        InvalidInput: the name does not fit into a certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key, now_ms, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(cert_pem=_pem(certificate), key_pem=_key_pem(key))


def issue(
    authority: Authority,
    *,
    owner: HospitalId | SiteId,
    common_name: str,
    now_ms: int,
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    days: int = NODE_DAYS,
) -> Issued:
    """Issue a certificate with a fresh key, good as client and as server.

    Args:
        authority: who signs.
        owner: the one hospital or site that the node belongs to.
        common_name: for people, 1 to 64 characters; nothing is decided by it.
        now_ms: the wall time in milliseconds.
        dns_names: the host names that clients reach the node by.
        ip_addresses: the same for addresses, IPv4 or IPv6.
        days: how long it holds, 1 to `AUTHORITY_DAYS`.

    Raises:
        InvalidInput: a name, an address or a number of days does not fit into a certificate.
        ConfigurationError: the authority's files are broken, or it ends before the certificate.
    """
    if not 1 <= days <= AUTHORITY_DAYS:
        raise InvalidInput(f"a certificate cannot hold {days} days: choose 1 to {AUTHORITY_DAYS}")
    issuer, issuer_key = _open(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(common_name), issuer.subject, key, now_ms, days)
    if _time(now_ms) + timedelta(days=days) > issuer.not_valid_after_utc:
        raise ConfigurationError(
            f"the authority ends at {issuer.not_valid_after_utc:%Y-%m-%d}, before a certificate "
            f"of {days} days would: create the next authority and distribute it first"
        )
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            _alternative_names(owner_uri(owner), dns_names, ip_addresses), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return Issued(cert_pem=_pem(certificate), key_pem=_key_pem(key))


def revocation_list(
    authority: Authority, *, serials: Iterable[int], now_ms: int, days: int = REVOCATION_DAYS
) -> bytes:
    """Sign the list of revoked certificates (RFC 5280 5), PEM.

    A node that is given a list refuses everybody once the list is over: the caller signs a new
    one in time, even if nothing was revoked.

    Args:
        authority: who signs.
        serials: the serial numbers of the certificates that no longer count.
        now_ms: the wall time in milliseconds.
        days: until when the next list is there.

    Raises:
        ConfigurationError: the authority's files are broken.
    """
    issuer, issuer_key = _open(authority)
    now = _time(now_ms)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - _BACKDATED)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(now_ms), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _open(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.cert_pem)
        key = serialization.load_pem_private_key(authority.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the authority's files cannot be read ({error}): restore them from their copy"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ConfigurationError(
            "the authority's key is not the key of its certificate: restore both from one copy"
        )
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now_ms: int,
    days: int,
) -> x509.CertificateBuilder:
    now = _time(now_ms)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, tz=UTC)


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise InvalidInput(f"{common_name!r} is no common name: {error}; choose another") from error


def _alternative_names(
    uri: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
) -> x509.SubjectAlternativeName:
    for name in dns_names:
        if len(name) > _LONGEST_HOST or _HOST.fullmatch(name) is None:
            raise InvalidInput(
                f"{name!r} is not a host name: write letters, digits and '-' between dots, such as "
                "archive.example; an address goes into --ip"
            )
    try:
        return x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(uri),
                *(x509.DNSName(name) for name in dns_names),
                *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses),
            ]
        )
    except ValueError as error:
        raise InvalidInput(f"a node's name or address is not one: {error}; correct it") from error


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
