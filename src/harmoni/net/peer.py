"""What a connection shows of the peer at its other end, before it says a word of DICOM."""

import ipaddress
import socket
import ssl
from dataclasses import dataclass

from harmoni.net import tls


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the connection itself shows of a peer.

    Attributes:
        address: the peer's IP address.
        port: the peer's port.
        local_port: ours.
        certificate: of a TLS connection; None on a plain one.
    """

    address: str
    port: int
    local_port: int
    certificate: tls.CertificateFacts | None


def observe(connection: socket.socket, address: str, port: int) -> PeerFacts:
    """Look at a connection, after its TLS handshake if it has one.

    Args:
        connection: connected.
        address: the peer's; IPv4 within IPv6 comes out as plain IPv4, as registries have it.
        port: the peer's.

    Raises:
        InvalidInput: the peer's certificate cannot be read.
    """
    return PeerFacts(
        address=plain_address(address),
        port=port,
        local_port=connection.getsockname()[1],
        certificate=(
            tls.peer_certificate(connection) if isinstance(connection, ssl.SSLSocket) else None
        ),
    )


def plain_address(address: str) -> str:
    """Give an IPv4 address that came in the clothes of IPv6 (::ffff:a.b.c.d) as it is."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
