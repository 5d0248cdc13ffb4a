"""The way to the centre: the gateway's connections to its archive, always by DICOM over TLS.

The gateway opens them all. The archive proves by its certificate that it is a site of the centre;
the gateway shows the hospital's.
"""

import threading
from collections.abc import Sequence
from typing import Final

from harmoni.config import GatewayConfig
from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection
from harmoni.dicom.pdu import ProposedContext
from harmoni.model.errors import ConfigurationError, Refused
from harmoni.net import client, tls
from harmoni.net.driver import Channel
from harmoni.policy.access import HOSPITAL_URI, SITE_URI, Peer

RELEASE_S: Final = 10.0
"""How long the centre may take to agree to the end of an association."""

_CONNECT_S: Final = 10.0
_WINDOW: Final = AsynchronousOperationsWindow(invoked=16, performed=16)


class Centre:
    """Opens associations to the centre.

    Args:
        config: the gateway's settings.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        section = config.centre
        self.peer = Peer(
            ae_title=section.ae_title, rights=frozenset(), host=section.host, port=section.port
        )
        """The archive as an application entity."""

    def open(
        self,
        contexts: Sequence[ProposedContext],
        *,
        roles: Sequence[RoleSelection] = (),
        window: bool = False,
        timeout_s: float = _CONNECT_S,
    ) -> Channel:
        """Open an association; the caller releases it.

        Args:
            contexts: what is proposed, 1 to 128 of them.
            roles: for the classes in which we would receive.
            window: ask for several operations at a time; for associations that only store.
            timeout_s: for connecting, once more for the TLS handshake, and for the answer.

        Raises:
            ConfigurationError: our own TLS files do not fit together, or name another hospital.
            Refused: its certificate names no site of the centre.
            HarmoniError: as `client.open_association`.
        """
        # The files are read for each: a certificate that was renewed is in use at once.
        files = tls_files(self._config)
        require_own(self._config)
        channel = client.open_association(
            host=self.peer.host,
            port=self.peer.port,
            tls=tls.client_context(files),
            called_ae_title=self.peer.ae_title,
            calling_ae_title=self._config.gateway.ae_title,
            contexts=contexts,
            roles=roles,
            window=_WINDOW if window else None,
            connect_timeout_s=timeout_s,
            answer_timeout_s=timeout_s,
        )
        certificate = channel.facts.certificate
        if certificate is None or not any(uri.startswith(SITE_URI) for uri in certificate.uris):
            channel.abort()
            raise Refused(
                f"the certificate of {self.peer.host} names no site of the centre: see that "
                "[centre] names the archive, and that its certificate has a URI "
                f"{SITE_URI}SITE"
            )
        return channel


class Line:
    """Whether the centre can be reached at present, as the standing association finds.

    The other threads of the process wait for it instead of trying by themselves, so that a centre
    that comes back is not met by everybody at once, and what waits goes on at once.
    """

    def __init__(self) -> None:
        self._up = threading.Event()

    @property
    def is_up(self) -> bool:
        """Whether the centre can be reached."""
        return self._up.is_set()

    def went_up(self) -> None:
        """The standing association is open."""
        self._up.set()

    def went_down(self) -> None:
        """The standing association ended, or could not be opened."""
        self._up.clear()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is up; whether it is."""
        return self._up.wait(timeout_s)


def require_own(config: GatewayConfig) -> None:
    """Make sure that the certificate names the gateway's own hospital.

    With another's, patients of this house would go into that hospital's archive, and that
    hospital's would be shown here.

    Raises:
        ConfigurationError: it does not, or cannot be read.
    """
    files, hospital = tls_files(config), config.gateway.hospital
    named = tls.own_certificate(files).uris
    if f"{HOSPITAL_URI}{hospital}" not in named:
        raise ConfigurationError(
            f"{files.certificate} names {', '.join(named) or 'nobody'}, and this is the gateway of"
            f" {hospital}: nothing is sent. If the certificate is wrong, issue one with `harmoni ca"
            f" issue --ca CA --hospital {hospital} --name {files.certificate.stem} --out"
            f" {files.certificate.parent}`"
        )


def tls_files(config: GatewayConfig) -> tls.TLSFiles:
    """The files of the hospital's identity towards the centre."""
    return tls.TLSFiles(
        certificate=config.tls.certificate,
        key=config.tls.key,
        authorities=config.tls.ca,
        revocations=config.tls.crl,
    )
