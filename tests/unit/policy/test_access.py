from dataclasses import replace
from ipaddress import ip_network

import pytest

from harmoni.model.errors import ConfigurationError
from harmoni.model.identifiers import HospitalId
from harmoni.policy import access
from harmoni.policy.access import Binding, Cause, Factor, Facts, Refusal, Right

A = HospitalId("hospital-a")
B = HospitalId("hospital-b")

PACS = access.Peer(
    ae_title="PACS_A",
    rights=access.PACS_RIGHTS,
    addresses=(ip_network("10.1.0.0/16"),),
    host="10.1.0.9",
    port=104,
)
CT = access.Peer(ae_title="CT_A", rights=access.MODALITY_RIGHTS, host="10.1.0.10", port=104)
ENTRY_A = access.HospitalEntry(hospital=A, node_rights=access.NODE_RIGHTS, peers=(PACS, CT))
ENTRY_B = access.HospitalEntry(hospital=B, node_rights=access.NODE_RIGHTS)
CENTRE = access.Registry(called_ae_titles=frozenset({"HARMONI"}), hospitals=(ENTRY_A, ENTRY_B))
HOUSE = replace(CENTRE, hospitals=(ENTRY_A,), house=A)
GATEWAY = Facts(
    address="192.0.2.1",
    local_port=2762,
    calling_ae_title="GW_A",
    called_ae_title="HARMONI",
    certificate_uris=("urn:harmoni:hospital:hospital-a",),
)
CLEAR = replace(GATEWAY, certificate_uris=None, calling_ae_title="PACS_A", address="10.1.2.3")


def bound(facts: Facts, registry: access.Registry = CENTRE) -> Binding:
    outcome = access.bind(facts, registry)
    assert isinstance(outcome, Binding)
    return outcome


def refused(facts: Facts, registry: access.Registry = CENTRE) -> Refusal:
    outcome = access.bind(facts, registry)
    assert isinstance(outcome, Refusal)
    return outcome


def with_entry(registry: access.Registry, **changes: object) -> access.Registry:
    return replace(
        registry, hospitals=(replace(registry.hospitals[0], **changes), *registry.hospitals[1:])
    )


def test_a_certificate_binds_to_the_hospital_that_it_names():
    binding = bound(GATEWAY)
    assert (binding.hospital, binding.own_node) == (A, True)
    assert binding.rights == access.NODE_RIGHTS
    assert (Factor.CERTIFICATE, "match") in binding.verdicts


def test_what_was_not_granted_is_denied():
    binding = bound(GATEWAY, with_entry(CENTRE, node_rights=frozenset()))
    assert not any(binding.may(right) for right in Right)


def test_a_wrong_called_ae_title_is_answered_1_1_7():
    refusal = refused(replace(GATEWAY, called_ae_title="OTHER"))
    assert (refusal.result, refusal.source, refusal.reason) == (1, 1, 7)
    assert refusal.cause is Cause.WRONG_CALLED_AE_TITLE


@pytest.mark.parametrize(
    ("uris", "cause"),
    [
        (None, Cause.NO_CERTIFICATE),
        ((), Cause.UNKNOWN_CERTIFICATE),
        (("urn:harmoni:hospital:nowhere",), Cause.UNKNOWN_CERTIFICATE),
        (("urn:harmoni:hospital:Not/An:Id",), Cause.UNKNOWN_CERTIFICATE),
        (("urn:harmoni:site:dc1",), Cause.UNKNOWN_CERTIFICATE),
        (
            ("urn:harmoni:hospital:hospital-a", "urn:harmoni:hospital:hospital-b"),
            Cause.UNKNOWN_CERTIFICATE,
        ),
    ],
)
def test_a_certificate_that_names_no_single_hospital_of_ours_is_answered_1_1_3(uris, cause):
    refusal = refused(replace(GATEWAY, certificate_uris=uris))
    assert (refusal.result, refusal.source, refusal.reason) == (1, 1, 3)
    assert (refusal.cause, refusal.hospital) == (cause, None)


def test_a_suspended_hospital_is_refused_and_named_for_its_audit_trail():
    refusal = refused(GATEWAY, with_entry(CENTRE, suspended=True))
    assert (refusal.cause, refusal.hospital, refusal.reason) == (Cause.SUSPENDED, A, 3)


def test_a_node_outside_the_allowed_networks_is_refused():
    registry = with_entry(CENTRE, addresses=(ip_network("198.51.100.0/24"),))
    refusal = refused(GATEWAY, registry)
    assert refusal.cause is Cause.MISMATCH
    assert (Factor.ADDRESS, "mismatch") in refusal.verdicts
    assert bound(replace(GATEWAY, address="198.51.100.7"), registry)


def test_a_node_that_calls_itself_something_else_is_refused():
    registry = with_entry(CENTRE, calling_ae_titles=frozenset({"GW_ONE"}))
    assert (Factor.CALLING_AE_TITLE, "mismatch") in refused(GATEWAY, registry).verdicts
    assert bound(replace(GATEWAY, calling_ae_title="GW_ONE"), registry)


@pytest.mark.parametrize("title", ["GW_\xc1", "GW\nA", "GW\0A"])
def test_a_calling_ae_title_that_is_none_is_refused(title):
    refusal = refused(replace(GATEWAY, calling_ae_title=title))
    assert (refusal.result, refusal.source, refusal.reason) == (1, 1, 3)
    assert (refusal.cause, refusal.hospital) == (Cause.UNKNOWN_PEER, A)


def test_a_tolerated_mismatch_is_recorded_and_lets_in():
    registry = with_entry(
        CENTRE,
        addresses=(ip_network("198.51.100.0/24"),),
        tolerated=frozenset({Factor.ADDRESS}),
    )
    assert (Factor.ADDRESS, "mismatch") in bound(GATEWAY, registry).verdicts


def test_a_wrong_local_port_is_refused():
    registry = replace(CENTRE, local_ports=frozenset({104}))
    assert (Factor.LOCAL_PORT, "mismatch") in refused(GATEWAY, registry).verdicts


def test_without_expectation_a_factor_is_unobservable():
    assert (Factor.ADDRESS, "unobservable") in bound(GATEWAY).verdicts


def test_in_the_house_the_peer_is_known_by_its_ae_title_and_address():
    binding = bound(CLEAR, HOUSE)
    assert (binding.hospital, binding.rights, binding.own_node) == (A, access.PACS_RIGHTS, False)
    assert refused(replace(CLEAR, address="10.2.0.1"), HOUSE).cause is Cause.MISMATCH


def test_in_the_house_an_unknown_calling_ae_title_is_refused():
    assert refused(replace(CLEAR, calling_ae_title="EVIL"), HOUSE).cause is Cause.UNKNOWN_PEER


def test_in_the_house_another_hospitals_certificate_is_refused():
    registry = replace(HOUSE, hospitals=CENTRE.hospitals)
    facts = replace(GATEWAY, certificate_uris=("urn:harmoni:hospital:hospital-b",))
    assert refused(facts, registry).cause is Cause.UNKNOWN_CERTIFICATE


def test_an_ipv4_address_in_ipv6_clothes_is_the_same_address():
    assert bound(replace(CLEAR, address="::ffff:10.1.2.3"), HOUSE)


def test_an_address_that_cannot_be_read_fits_no_network():
    assert refused(replace(CLEAR, address="fe80::1%eth0/"), HOUSE).cause is Cause.MISMATCH


def test_a_destination_needs_registration_right_and_host():
    assert ENTRY_A.destination("PACS_A") == PACS
    assert ENTRY_A.destination("CT_A") is None
    assert ENTRY_A.destination("PACS_B") is None
    homeless = replace(ENTRY_A, peers=(replace(PACS, host=""),))
    assert homeless.destination("PACS_A") is None


def test_two_peers_of_one_name_are_a_configuration_error():
    with pytest.raises(ConfigurationError, match="two peers called 'CT_A'"):
        access.HospitalEntry(hospital=A, peers=(CT, CT))
