"""Our tables of UIDs against pydicom's dictionary."""

import uuid

import pytest
from pydicom.uid import UID, UID_dictionary

from harmoni.dicom import uids

# Named storage, and yet never sent over a network.
NOT_OVER_A_NETWORK = {"1.2.840.10008.1.3.10"}
# Under the storage root without the word storage in their (empty, retired) names.
NAMELESS = {"1.2.840.10008.5.1.4.1.1.12.77", "1.2.840.10008.5.1.4.1.1.40"}

REFUSED_SYNTAXES = {
    "1.2.840.10008.1.2.4.94",  # JPIP Referenced
    "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.204",  # JPIP HTJ2K Referenced
    "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation
    "1.2.840.10008.1.2.6.2",  # XML Encoding
    "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110-20 Progressive
    "1.2.840.10008.1.2.7.2",  # SMPTE ST 2110-20 Interlaced
    "1.2.840.10008.1.2.7.3",  # SMPTE ST 2110-30
    "1.2.840.10008.1.20",  # Papyrus 3
}


def registered(kind: str) -> dict[str, str]:
    return {uid: entry[0] for uid, entry in UID_dictionary.items() if kind in entry[1]}


def test_every_storage_class_of_the_dictionary_is_accepted_and_no_other_class() -> None:
    classes = registered("SOP Class")
    storage = {
        uid for uid, name in classes.items() if "Storage" in name and "Commitment" not in name
    }
    assert len(storage) > 200
    accepted = {uid for uid in classes if uids.is_storage_class(uid)}
    assert accepted == (storage - NOT_OVER_A_NETWORK) | NAMELESS


@pytest.mark.parametrize("kind", ["Transfer Syntax", "Application Context"])
def test_uids_of_other_kinds_are_no_storage_classes(kind: str) -> None:
    assert not any(uids.is_storage_class(uid) for uid in registered(kind))


@pytest.mark.parametrize(
    ("uid", "accepted"),
    [
        ("1.3.12.2.1107.5.9.1", True),  # Siemens' private one
        ("1.2.840.10008.5.1.4.1.1.999.1", True),  # of a later edition
        ("1.2.840.100089", True),  # not below the standard's root
        ("1.2.840.10008", False),
        ("1.2.840.10008.5.1.4.1.1", False),
        ("1.2.840.10008.5.1.4.1.2.2.1", False),
        ("1.2.840.10008.99", False),
        ("", False),
        ("1 2", False),
        ("1" * 65, False),
    ],
)
def test_storage_classes_are_open_where_the_standard_grows(uid: str, *, accepted: bool) -> None:
    assert uids.is_storage_class(uid) is accepted


def test_transfer_syntaxes_of_the_dictionary_are_accepted_but_for_the_refused_ones() -> None:
    known = registered("Transfer Syntax").keys()
    accepted = {uid for uid in known if uids.storage_transfer_syntax(uid) is not None}
    assert known - accepted == REFUSED_SYNTAXES


def test_encodings_equal_those_of_pydicom() -> None:
    compared = 0
    for syntax in uids.storage_transfer_syntaxes():
        uid = UID(syntax.uid)
        if uid.is_private or syntax.uid not in UID_dictionary:
            continue
        ours = (syntax.explicit_vr, syntax.little_endian, syntax.deflated)
        assert ours == (not uid.is_implicit_VR, uid.is_little_endian, uid.is_deflated)
        # pydicom counts deflated among encapsulated ones; its pixel data are native (PS3.5 A.5).
        assert syntax.encapsulated == (uid.is_encapsulated and not uid.is_deflated)
        compared += 1
    assert compared == len(registered("Transfer Syntax")) - len(REFUSED_SYNTAXES)


def test_private_syntaxes_are_accepted_by_registration_only() -> None:
    ge = uids.storage_transfer_syntax("1.2.840.113619.5.2")
    assert ge is not None
    assert not ge.explicit_vr
    assert uids.storage_transfer_syntax("1.2.3.4") is None


def test_service_uids_are_registered_under_the_names_of_their_constants() -> None:
    expected = {
        uids.VERIFICATION: "Verification",
        uids.STORAGE_COMMITMENT_PUSH: "StorageCommitmentPushModel",
        uids.STORAGE_COMMITMENT_PUSH_INSTANCE: "StorageCommitmentPushModelInstance",
        uids.PATIENT_ROOT_FIND: "PatientRootQueryRetrieveInformationModelFind",
        uids.PATIENT_ROOT_MOVE: "PatientRootQueryRetrieveInformationModelMove",
        uids.PATIENT_ROOT_GET: "PatientRootQueryRetrieveInformationModelGet",
        uids.STUDY_ROOT_FIND: "StudyRootQueryRetrieveInformationModelFind",
        uids.STUDY_ROOT_MOVE: "StudyRootQueryRetrieveInformationModelMove",
        uids.STUDY_ROOT_GET: "StudyRootQueryRetrieveInformationModelGet",
        uids.IMPLICIT_VR_LITTLE_ENDIAN: "ImplicitVRLittleEndian",
        uids.EXPLICIT_VR_LITTLE_ENDIAN: "ExplicitVRLittleEndian",
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "DeflatedExplicitVRLittleEndian",
        uids.EXPLICIT_VR_BIG_ENDIAN: "ExplicitVRBigEndian",
        uids.APPLICATION_CONTEXT: "DICOMApplicationContext",
    }
    assert {uid: UID_dictionary[uid][4] for uid in expected} == expected


def test_our_own_uids_lie_under_one_uuid() -> None:
    number = int(uids.HARMONI_ROOT.removeprefix("2.25."))
    assert uuid.UUID(int=number).version == 4
    for uid in (uids.IMPLEMENTATION_CLASS_UID, uids.PRIVATE_INFORMATION_CREATOR_UID):
        assert uid.startswith(uids.HARMONI_ROOT + ".")
        assert uids.is_valid_uid(uid)
    assert len(uids.IMPLEMENTATION_VERSION_NAME) <= 16


@pytest.mark.parametrize("uid", ["1", "0", "1.0.2", "2.25.1", "1." * 31 + "12"])
def test_uids_by_the_rules_are_valid(uid: str) -> None:
    assert uids.is_valid_uid(uid)
    assert uids.is_acceptable_uid(uid)


@pytest.mark.parametrize("uid", ["01.2", "1.02", "1..2", "1.2.", ".1", "1.2a"])
def test_uids_that_devices_really_send_are_acceptable_though_invalid(uid: str) -> None:
    assert not uids.is_valid_uid(uid)
    assert uids.is_acceptable_uid(uid)


@pytest.mark.parametrize("uid", ["", "1.2\n", "1.2\0", "1 2", "é", "1" * 65])
def test_what_cannot_be_kept_is_not_acceptable(uid: str) -> None:
    assert not uids.is_valid_uid(uid)
    assert not uids.is_acceptable_uid(uid)
