"""Certificates for tests, issued once a session by the centre's own authority."""

import time
from dataclasses import dataclass
from pathlib import Path

from harmoni.fleet import ca
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.net.tls import TLSFiles

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TLSMaterial:
    """Files of an authority and of nodes of it; `foreign` is of another authority."""

    authority: ca.Authority
    directory: Path
    server: TLSFiles
    client: TLSFiles
    expired: TLSFiles
    foreign: TLSFiles


def now_ms() -> int:
    """Give the real time, since OpenSSL judges certificates by it."""
    return time.time_ns() // 1_000_000


def write_node(directory: Path, name: str, issued: ca.Issued, authority_pem: bytes) -> TLSFiles:
    """Write a node's files as a caller of `fleet.ca` must: the key readable by its owner only."""
    files = TLSFiles(
        certificate=directory / f"{name}.crt",
        key=directory / f"{name}.key",
        authorities=directory / f"{name}-trusts.crt",
    )
    files.certificate.write_bytes(issued.cert_pem)
    files.key.touch(mode=0o600)
    files.key.write_bytes(issued.key_pem)
    files.authorities.write_bytes(authority_pem)
    return files


def create(directory: Path) -> TLSMaterial:
    """Issue everything into an empty directory."""
    now = now_ms()
    authority = ca.create_authority("HARMONI test authority", now - 400 * DAY_MS)
    stranger = ca.create_authority("HARMONI test authority", now)

    def node(name, signer, owner, *, issued_ms=now):
        issued = ca.issue(
            signer,
            owner=owner,
            common_name=name,
            dns_names=["localhost"],
            ip_addresses=["127.0.0.1"],
            now_ms=issued_ms,
        )
        return write_node(directory, name, issued, authority.cert_pem)

    return TLSMaterial(
        authority=authority,
        directory=directory,
        server=node("server", authority, SiteId("dc1")),
        client=node("client", authority, HospitalId("h-7f3a")),
        expired=node("expired", authority, HospitalId("h-7f3a"), issued_ms=now - 200 * DAY_MS),
        foreign=node("foreign", stranger, HospitalId("h-7f3a")),
    )
