"""Bind an association to one hospital and to the rights of its peer, or refuse it with a reason.

The hospital comes first: a certificate names it, or, in the hospital's own house, the listener
does. An AE title means nothing without its hospital. Whatever is not granted is denied.

Every factor of identity gets a verdict: `match`, `mismatch`, or `unobservable` when there is
nothing to compare with. A mismatch refuses the association unless the policy of that peer tolerates
it; then it is only recorded, in the origin of everything that the association brings.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from harmoni.model.errors import ConfigurationError, InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.model.instance import Verdict

HOSPITAL_URI: Final = "urn:harmoni:hospital:"
"""Prefix of the subjectAltName URI by which a certificate names its hospital."""

SITE_URI: Final = "urn:harmoni:site:"
"""Likewise the prefix of the URI that names a site of the centre."""

Network = IPv4Network | IPv6Network


class Right(StrEnum):
    """One thing that a peer may do; what it was not granted it may not."""

    ECHO = "echo"
    STORE = "store"
    COMMIT = "commit"
    QUERY = "query"
    BROWSE = "browse"
    """Ask queries without a single selective key."""
    MOVE = "move"
    GET = "get"
    DESTINATION = "destination"
    """Be the destination of a C-MOVE."""


Rights = frozenset[Right]

MODALITY_RIGHTS: Final[Rights] = frozenset({Right.ECHO, Right.STORE, Right.COMMIT})
"""The default for a modality that stands beside a PACS."""
PACS_RIGHTS: Final[Rights] = frozenset(Right)
"""The default for a PACS."""
NODE_RIGHTS: Final[Rights] = frozenset(Right) - {Right.DESTINATION}
"""What a hospital's own node, known by its certificate, needs at the centre."""


class Factor(StrEnum):
    """One thing by which a peer can be known."""

    CERTIFICATE = "certificate"
    ADDRESS = "address"
    CALLING_AE_TITLE = "calling-ae-title"
    CALLED_AE_TITLE = "called-ae-title"
    LOCAL_PORT = "local-port"


class Cause(StrEnum):
    """Why an association was refused, as a word of a closed list for metrics and audit."""

    WRONG_CALLED_AE_TITLE = "wrong-called-ae-title"
    NO_CERTIFICATE = "no-certificate"
    UNKNOWN_CERTIFICATE = "unknown-certificate"
    SUSPENDED = "suspended"
    UNKNOWN_PEER = "unknown-peer"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One application entity of a hospital, known by its AE title within that hospital."""

    ae_title: str
    rights: Rights
    addresses: tuple[Network, ...] = ()
    """Where it calls from; empty: anywhere."""
    tolerated: frozenset[Factor] = frozenset()
    """Factors whose mismatch is recorded but does not refuse."""
    host: str = ""
    """Where it is called: storage of a C-MOVE, reports of a commitment. Empty: it never is."""
    port: int = 0
    assume_roles: bool = False
    """Whether it is taken to agree to the roles that we propose, though it does not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HospitalEntry:
    """What the registry knows of one hospital."""

    hospital: HospitalId
    suspended: bool = False
    node_rights: Rights = frozenset()
    """Rights of any node that shows the hospital's certificate and is not one of `peers`."""
    calling_ae_titles: frozenset[str] = frozenset()
    """AE titles that such a node may call itself; empty: any."""
    addresses: tuple[Network, ...] = ()
    """Networks that such a node may call from; empty: any."""
    tolerated: frozenset[Factor] = frozenset()
    """Factors of such a node whose mismatch is recorded but does not refuse."""
    peers: tuple[Peer, ...] = ()

    def __post_init__(self) -> None:
        titles = [peer.ae_title for peer in self.peers]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ConfigurationError(
                f"hospital {self.hospital} has two peers called {twice[0]!r}: rename one of them"
            )

    def peer(self, ae_title: str) -> Peer | None:
        """The peer of that AE title, or None."""
        return next((peer for peer in self.peers if peer.ae_title == ae_title), None)

    def destination(self, ae_title: str) -> Peer | None:
        """The peer to which a C-MOVE may send, or None: not registered, or without the right."""
        peer = self.peer(ae_title)
        if peer is None or Right.DESTINATION not in peer.rights or not peer.host:
            return None
        return peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All hospitals of one role, and by what names the role is called."""

    called_ae_titles: frozenset[str]
    hospitals: tuple[HospitalEntry, ...]
    house: HospitalId | None = None
    """The hospital whose peers may call without a certificate; None: nobody may."""
    local_ports: frozenset[int] = frozenset()
    """Ports on which peers are expected to call; empty: any."""

    def hospital(self, hospital: HospitalId) -> HospitalEntry | None:
        """The entry of a hospital, or None when it is not registered."""
        return next((entry for entry in self.hospitals if entry.hospital == hospital), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was observed of a peer before its first message."""

    address: str
    """IP address in text form."""
    local_port: int
    calling_ae_title: str
    called_ae_title: str
    certificate_uris: tuple[str, ...] | None
    """subjectAltName URIs of its verified certificate; None: it called in clear text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The association belongs to this hospital, and the peer may do this much."""

    hospital: HospitalId
    calling_ae_title: str
    rights: Rights
    verdicts: tuple[tuple[Factor, Verdict], ...]
    own_node: bool
    """It showed the hospital's certificate and is not one of the named peers."""

    def may(self, right: Right) -> bool:
        """Whether the peer was granted a right."""
        return right in self.rights


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The association is rejected with these three numbers (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int
    cause: Cause
    why: str
    """For the log: what did not fit, and what the operator may do."""
    hospital: HospitalId | None = None
    """The hospital as far as it is known, for its audit trail."""
    verdicts: tuple[tuple[Factor, Verdict], ...] = ()


@dataclass(slots=True)
class _Verdicts:
    """The verdicts in the order in which they were reached."""

    reached: list[tuple[Factor, Verdict]] = field(default_factory=list)

    def record(self, factor: Factor, verdict: Verdict) -> bool:
        self.reached.append((factor, verdict))
        return verdict != "mismatch"

    def compare(self, factor: Factor, *, expected: bool, fits: bool) -> bool:
        """Record a factor; `expected` says whether there is anything to compare with."""
        verdict: Verdict = "unobservable" if not expected else "match" if fits else "mismatch"
        return self.record(factor, verdict)

    def frozen(self) -> tuple[tuple[Factor, Verdict], ...]:
        return tuple(self.reached)


def bind(facts: Facts, registry: Registry) -> Binding | Refusal:
    """Decide to which hospital an association belongs and what its peer may do.

    In this order: the called AE title, the hospital, whether it is suspended, the peer, and then
    every other factor of identity. A wrong called AE title is answered with 1/1/7 (called AE title
    not recognized), everything else with 1/1/3 (calling AE title not recognized), so that a
    stranger learns nothing about which hospitals there are.

    Args:
        facts: what was observed.
        registry: what is expected.
    """
    verdicts = _Verdicts()
    if not verdicts.compare(
        Factor.CALLED_AE_TITLE,
        expected=True,
        fits=facts.called_ae_title in registry.called_ae_titles,
    ):
        return _refuse(
            Cause.WRONG_CALLED_AE_TITLE,
            f"called AE title {facts.called_ae_title!r} is not ours: correct the peer's setting",
            verdicts,
            reason=7,
        )
    entry = _hospital(facts, registry, verdicts)
    if isinstance(entry, Refusal):
        return entry
    if entry.suspended:
        return _refuse(
            Cause.SUSPENDED,
            f"hospital {entry.hospital} is suspended: lift the suspension to let it in",
            verdicts,
            hospital=entry.hospital,
        )
    return _peer(facts, registry, entry, verdicts)


def _hospital(facts: Facts, registry: Registry, verdicts: _Verdicts) -> HospitalEntry | Refusal:
    if facts.certificate_uris is None:
        verdicts.record(Factor.CERTIFICATE, "unobservable")
        house = None if registry.house is None else registry.hospital(registry.house)
        if house is None:
            return _refuse(
                Cause.NO_CERTIFICATE,
                f"{facts.address} showed no certificate: here a certificate names the hospital",
                verdicts,
            )
        return house
    named = _named_hospitals(facts.certificate_uris)
    entry = registry.hospital(named[0]) if len(named) == 1 else None
    known = entry is not None and registry.house in (None, entry.hospital)
    verdicts.compare(Factor.CERTIFICATE, expected=True, fits=known)
    if entry is None or not known:
        return _refuse(
            Cause.UNKNOWN_CERTIFICATE,
            f"the certificate of {facts.address} names {[str(name) for name in named]}, and not"
            " exactly one hospital registered here: register it, or issue another certificate",
            verdicts,
        )
    return entry


def _named_hospitals(uris: Iterable[str]) -> list[HospitalId]:
    named: set[HospitalId] = set()
    for uri in uris:
        if uri.startswith(HOSPITAL_URI):
            try:
                named.add(HospitalId(uri.removeprefix(HOSPITAL_URI)))
            except InvalidInput:
                return []
    return sorted(named)


def _peer(
    facts: Facts, registry: Registry, entry: HospitalEntry, verdicts: _Verdicts
) -> Binding | Refusal:
    title = facts.calling_ae_title
    if not (title.isascii() and title.isprintable()):
        verdicts.record(Factor.CALLING_AE_TITLE, "mismatch")
        return _refuse(
            Cause.UNKNOWN_PEER,
            f"{title!r} from {facts.address} is no AE title: printable ASCII only (PS3.5 6.2)",
            verdicts,
            hospital=entry.hospital,
        )
    peer = entry.peer(title)
    certified = facts.certificate_uris is not None
    if peer is not None:
        rights, tolerated, networks = peer.rights, peer.tolerated, peer.addresses
        titles = frozenset({peer.ae_title})
    elif certified:
        rights, tolerated, networks = entry.node_rights, entry.tolerated, entry.addresses
        titles = entry.calling_ae_titles
    else:
        verdicts.record(Factor.CALLING_AE_TITLE, "mismatch")
        return _refuse(
            Cause.UNKNOWN_PEER,
            f"calling AE title {facts.calling_ae_title!r} from {facts.address} is no peer of"
            f" hospital {entry.hospital}: register it",
            verdicts,
            hospital=entry.hospital,
        )
    verdicts.compare(
        Factor.CALLING_AE_TITLE, expected=bool(titles), fits=facts.calling_ae_title in titles
    )
    verdicts.compare(
        Factor.ADDRESS, expected=bool(networks), fits=_is_within(facts.address, networks)
    )
    verdicts.compare(
        Factor.LOCAL_PORT,
        expected=bool(registry.local_ports),
        fits=facts.local_port in registry.local_ports,
    )
    wrong = [
        factor.value
        for factor, verdict in verdicts.reached
        if verdict == "mismatch" and factor not in tolerated
    ]
    if wrong:
        return _refuse(
            Cause.MISMATCH,
            f"{facts.calling_ae_title!r} from {facts.address} to port {facts.local_port} does not"
            f" fit what hospital {entry.hospital} registered: {', '.join(wrong)}",
            verdicts,
            hospital=entry.hospital,
        )
    return Binding(
        hospital=entry.hospital,
        calling_ae_title=facts.calling_ae_title,
        rights=rights,
        verdicts=verdicts.frozen(),
        own_node=certified and peer is None,
    )


def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks; IPv4 in IPv6 clothes counts as IPv4."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def _refuse(
    cause: Cause,
    why: str,
    verdicts: _Verdicts,
    *,
    reason: int = 3,
    hospital: HospitalId | None = None,
) -> Refusal:
    return Refusal(
        result=1,
        source=1,
        reason=reason,
        cause=cause,
        why=why,
        hospital=hospital,
        verdicts=verdicts.frozen(),
    )
