"""TLS as PS3.15 B.12 wants it: BCP 195, mutual authentication, nothing older than TLS 1.2.

TLS 1.2 with exactly four ECDHE AES-GCM suites, and TLS 1.3 with OpenSSL's three. Both ends show a
certificate. There is no renegotiation, no compression, and servers issue no session tickets, so
that every connection proves its certificate anew against today's files.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from harmoni.model.errors import ConfigurationError, InvalidInput

TLS_1_2_SUITES: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
# Level 2 refuses keys and signatures of less than 112 bits, whatever the system's default is.
_CIPHERS: Final = ":".join((*TLS_1_2_SUITES, "@SECLEVEL=2"))


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files that make one end of a TLS connection.

    Attributes:
        certificate: this node's certificate, PEM, followed by any intermediate ones.
        key: its private key, PEM without a password.
        authorities: the certificates of the authorities whose peers are believed, PEM.
        revocations: a certificate revocation list of those authorities, PEM; None = not asked for.
    """

    certificate: Path
    key: Path
    authorities: Path
    revocations: Path | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a peer's verified certificate says.

    Attributes:
        subject: the distinguished name (RFC 4514), for people.
        uris: the SAN URIs; one of them names the hospital or the site.
        serial: the serial number, hexadecimal.
        not_before_ms: from when on it holds, in milliseconds UTC since 1970.
        not_after_ms: when it ends, in milliseconds UTC since 1970.
        fingerprint: SHA-256 of the whole certificate, hexadecimal.
    """

    subject: str
    uris: tuple[str, ...]
    serial: str
    not_before_ms: int
    not_after_ms: int
    fingerprint: str


class ServerContext:
    """A server's context that can be renewed while associations run.

    Connections made before a reload keep what they agreed on.

    Args:
        files: read now and at every reload.

    Raises:
        ConfigurationError: a file is missing, broken, or the key is another certificate's.
    """

    def __init__(self, files: TLSFiles) -> None:
        self._files = files
        self._current = server_context(files)

    @property
    def current(self) -> ssl.SSLContext:
        """The context for the next connection."""
        return self._current

    def reload(self) -> None:
        """Read the files again; the next connection uses them.

        Raises:
            ConfigurationError: the files do not fit together; the old ones stay in use.
        """
        self._current = server_context(self._files)


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """Build the context of a server that demands a certificate of every client.

    Raises:
        ConfigurationError: a file is missing, broken, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _configure(context, files)
    return context


def client_context(files: TLSFiles, *, check_hostname: bool = True) -> ssl.SSLContext:
    """Build the context of a client that shows its certificate and checks the server's.

    Args:
        files: this node's certificate and key, and whom to believe.
        check_hostname: whether the server's certificate must name the host that was called.
            Without it the caller itself must look at what the certificate says.

    Raises:
        ConfigurationError: a file is missing, broken, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    _configure(context, files)
    return context


def peer_certificate(connection: ssl.SSLSocket | ssl.SSLObject) -> CertificateFacts:
    """Read what the peer's certificate says; call it after the handshake.

    The bytes are read by `cryptography`, since ssl's own dictionary loses kinds of names.

    Raises:
        InvalidInput: the certificate, though verified, cannot be read, or there is none.
    """
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise InvalidInput("the peer showed no certificate: give it one of a known authority")
    return certificate_facts(der)


def certificate_facts(der: bytes) -> CertificateFacts:
    """Read a certificate from its DER bytes.

    Raises:
        InvalidInput: they are not a certificate that can be read.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        uris = _uris(certificate)
        subject = certificate.subject.rfc4514_string()
    except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension) as error:
        raise InvalidInput(
            f"the peer's certificate cannot be read ({error}): issue it anew"
        ) from error
    return CertificateFacts(
        subject=subject,
        uris=uris,
        serial=f"{certificate.serial_number:x}",
        not_before_ms=int(certificate.not_valid_before_utc.timestamp()) * 1000,
        not_after_ms=int(certificate.not_valid_after_utc.timestamp()) * 1000,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def own_certificate(files: TLSFiles) -> CertificateFacts:
    """Read what this node's own certificate says, the first of its file.

    Raises:
        ConfigurationError: the file is missing or holds none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{files.certificate} holds no certificate ({error}): issue one with harmoni ca issue"
        ) from error
    return certificate_facts(certificate.public_bytes(serialization.Encoding.DER))


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.UniformResourceIdentifier))


def _configure(context: ssl.SSLContext, files: TLSFiles) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        context.load_verify_locations(cafile=files.authorities)
        if files.revocations is not None:
            context.load_verify_locations(cafile=files.revocations)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(_why(files, error)) from error


def _why(files: TLSFiles, error: Exception) -> str:
    paths = [files.certificate, files.key, files.authorities]
    if files.revocations is not None:
        paths.append(files.revocations)
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        return (
            f"there is no {' and no '.join(missing)}: issue certificate, key and authority with "
            "harmoni ca issue, or name the right files"
        )
    return (
        f"the TLS files {', '.join(map(str, paths))} do not work together ({error}): check that "
        "each is PEM and that the key belongs to the certificate"
    )


def _no_password() -> str:
    # Called only for an encrypted key: otherwise OpenSSL would ask at the terminal and wait.
    raise ValueError("the private key is encrypted: store it without a password, mode 0600")
