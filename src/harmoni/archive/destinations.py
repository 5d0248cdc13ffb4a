"""Where the archive sends by C-MOVE: a hospital's own nodes, by TLS, each proving whose it is."""

from collections.abc import Sequence
from typing import Final

from harmoni.dicom.pdu import ProposedContext
from harmoni.model.errors import Refused
from harmoni.model.identifiers import HospitalId
from harmoni.net import client, tls
from harmoni.net.driver import Channel
from harmoni.policy.access import HOSPITAL_URI, Peer
from harmoni.role.handlers import Connect

_CONNECT_TIMEOUT_S: Final = 10.0


def connect_to(hospital: HospitalId, *, ae_title: str, tls_files: tls.TLSFiles) -> Connect:
    """Make the way to one hospital's destinations, and to no other's.

    Args:
        hospital: whose nodes.
        ae_title: how we call ourselves there.
        tls_files: our certificate.
    """

    def connect(destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        """Open an association.

        Raises:
            Refused: the destination's certificate does not name the hospital.
            Unreachable: it does not answer.
        """
        channel = client.open_association(
            host=destination.host,
            port=destination.port,
            # The certificate names a hospital, not a host: the name is checked below.
            tls=tls.client_context(tls_files, check_hostname=False),
            called_ae_title=destination.ae_title,
            calling_ae_title=ae_title,
            contexts=contexts,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
        )
        certificate = channel.facts.certificate
        wanted = f"{HOSPITAL_URI}{hospital}"
        if certificate is None or wanted not in certificate.uris:
            channel.abort()
            raise Refused(
                f"the certificate of {destination.ae_title} does not name hospital {hospital}: "
                f"issue it one with the URI {wanted}"
            )
        return channel

    return connect
