"""An audit event survives the spool, and its codes are DICOM's."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from harmoni.audit.event import Act, AuditEvent, Outcome, Participant
from harmoni.model.errors import Damaged

texts = st.text(max_size=20)
participants = st.builds(
    Participant,
    hospital=texts,
    user=texts,
    calling_ae_title=texts,
    called_ae_title=texts,
    address=texts,
    certificate_sha256=texts,
)
events = st.builds(
    AuditEvent,
    act=st.sampled_from(Act),
    at_ms=st.integers(0, 4_102_444_800_000),
    action=st.sampled_from("CRUDE"),
    who=participants,
    other=participants,
    outcome=st.sampled_from(Outcome),
    reason=texts,
    study_uids=st.lists(texts, max_size=3).map(tuple),
    patient_ids=st.lists(texts, max_size=3).map(tuple),
    instances=st.dictionaries(texts, st.integers(0, 10_000), max_size=3),
    query=st.binary(max_size=40),
)


@given(events)
@settings(max_examples=100)
def test_property_decode_gives_back_what_was_encoded(event):
    assert AuditEvent.decode(event.encode()) == event


@given(st.binary(max_size=60) | st.recursive(st.none(), st.lists).map(repr).map(str.encode))
@settings(max_examples=200)
def test_arbitrary_bytes_are_an_event_or_damaged(data):
    with contextlib.suppress(Damaged):
        assert isinstance(AuditEvent.decode(data), AuditEvent)


@pytest.mark.parametrize(
    "change",
    [
        (b'"version":1', b'"version":2'),
        (b'"outcome":0', b'"outcome":3'),
        (b'"act":"query"', b'"act":"guess"'),
        (b'"action":"E"', b'"action":"X"'),
        (b'["1.2"]', b'{"1.2":1}'),
    ],
)
def test_values_outside_their_set_are_damaged(change):
    whole = AuditEvent(
        act=Act.QUERY, at_ms=0, who=Participant(hospital="hospital-a"), study_uids=("1.2",)
    ).encode()
    assert change[0] in whole
    with pytest.raises(Damaged):
        AuditEvent.decode(whole.replace(*change))


def test_the_json_is_what_the_reference_page_shows():
    event = AuditEvent(
        act=Act.INSTANCES_TRANSFERRED,
        at_ms=1_700_000_000_007,
        action="C",
        who=Participant(hospital="hospital-a", calling_ae_title="GW_A"),
        instances={"1.2": 3},
    )
    assert event.encode() == (
        b'{"act":"instances-transferred","action":"C","at":"2023-11-14T22:13:20.007Z",'
        b'"instances":{"1.2":3},"outcome":0,"version":1,'
        b'"who":{"calling_ae_title":"GW_A","hospital":"hospital-a"}}'
    )


@pytest.mark.parametrize(
    ("act", "event_id", "event_type"),
    [
        (Act.APPLICATION_START, codes.DCM.ApplicationActivity, codes.DCM.ApplicationStart),
        (Act.APPLICATION_STOP, codes.DCM.ApplicationActivity, codes.DCM.ApplicationStop),
        (Act.BEGIN_TRANSFERRING, codes.DCM.BeginTransferringDICOMInstances, None),
        (Act.INSTANCES_TRANSFERRED, codes.DCM.DICOMInstancesTransferred, None),
        (Act.QUERY, codes.DCM.Query, None),
        (Act.NODE_AUTHENTICATION, codes.DCM.SecurityAlert, codes.DCM.NodeAuthentication),
        (Act.RESTRICTED_FUNCTION, codes.DCM.SecurityAlert, codes.DCM.UseOfRestrictedFunction),
        (Act.SECURITY_CONFIGURATION, codes.DCM.SecurityAlert, codes.DCM.SecurityConfiguration),
        (Act.KEY_CHANGE, codes.DCM.SecurityAlert, codes.DCM.ObjectSecurityAttributesChanged),
    ],
)
def test_the_codes_are_those_of_the_dcm_scheme(act, event_id, event_type):
    assert act.event_id == event_id.value
    assert act.event_type == (event_type.value if event_type else "")
