"""PDUs both ways, held against pynetdicom's own classes as an independent reader and writer."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle

from association_pairs import CT, EXPLICIT, IMPLICIT, OURS, REQUEST, refusal
from harmoni.dicom import items, pdu
from harmoni.dicom.uids import APPLICATION_CONTEXT
from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

_UIDS = st.from_regex(r"[1-9](\.(0|[1-9][0-9]{0,8})){1,5}", fullmatch=True)
_TITLES = st.from_regex(r"[A-Z0-9_]([A-Z0-9_ ]{0,14}[A-Z0-9_])?", fullmatch=True)
_SMALL = st.integers(0, 0xFFFF)
_BYTES = st.binary(max_size=40)


def _tuples(strategy):
    return st.lists(strategy, max_size=3).map(tuple)


_INFORMATION = st.builds(
    items.UserInformation,
    max_length=st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=_UIDS,
    implementation_version_name=st.none() | _TITLES,
    window=st.none()
    | st.builds(items.AsynchronousOperationsWindow, invoked=_SMALL, performed=_SMALL),
    roles=_tuples(
        st.builds(items.RoleSelection, sop_class_uid=_UIDS, scu=st.booleans(), scp=st.booleans())
    ),
    extended=_tuples(st.builds(items.SopClassExtended, sop_class_uid=_UIDS, information=_BYTES)),
    common_extended=_tuples(
        st.builds(
            items.SopClassCommonExtended,
            sop_class_uid=_UIDS,
            service_class_uid=_UIDS,
            related_sop_class_uids=_tuples(_UIDS),
        )
    ),
    user_identity=st.none()
    | st.builds(
        items.UserIdentity,
        kind=st.integers(1, 5),
        response_requested=st.booleans(),
        primary=_BYTES,
        secondary=_BYTES,
    ),
    user_identity_response=st.none()
    | st.builds(items.UserIdentityResponse, server_response=_BYTES),
)
_IDS = st.lists(st.integers(0, 127).map(lambda n: 2 * n + 1), max_size=5, unique=True)
_REQUESTS = _IDS.flatmap(
    lambda ids: st.builds(
        pdu.AssociateRQ,
        called_ae_title=_TITLES,
        calling_ae_title=_TITLES,
        presentation_contexts=st.tuples(
            *(
                st.builds(
                    pdu.ProposedContext,
                    st.just(number),
                    _UIDS,
                    st.lists(_UIDS, min_size=1, max_size=3).map(tuple),
                )
                for number in ids
            )
        ),
        user_information=_INFORMATION,
        application_context=_UIDS,
    )
)
_ANSWERS = _IDS.flatmap(
    lambda ids: st.builds(
        pdu.AssociateAC,
        called_ae_title=_TITLES,
        calling_ae_title=_TITLES,
        presentation_contexts=st.tuples(
            *(
                st.builds(pdu.AnsweredContext, st.just(number), st.just(0), _UIDS)
                | st.builds(pdu.AnsweredContext, st.just(number), st.integers(1, 4))
                for number in ids
            )
        ),
        user_information=_INFORMATION,
    )
)
_BYTE = st.integers(0, 255)
_CONTROL = st.one_of(
    st.builds(pdu.AssociateRJ, _BYTE, _BYTE, _BYTE),
    st.builds(pdu.Abort, _BYTE, _BYTE),
    st.just(pdu.ReleaseRQ()),
    st.just(pdu.ReleaseRP()),
    st.builds(
        pdu.DataTF,
        st.lists(
            st.builds(pdu.PresentationDataValue, _BYTE, st.booleans(), st.booleans(), _BYTES),
            min_size=1,
            max_size=4,
        ).map(tuple),
    ),
)


def _decoded(encoded: bytes) -> pdu.Pdu:
    pdu_type, length = pdu.HEADER.unpack_from(encoded)
    assert length == len(encoded) - pdu.HEADER.size
    return pdu.decode(pdu_type, encoded[pdu.HEADER.size :])


@given(_REQUESTS | _ANSWERS | _CONTROL)
def test_what_is_encoded_decodes_to_the_same_value(value):
    assert _decoded(pdu.encode(value)) == value


@settings(max_examples=200)
@given(pdu_type=st.integers(0, 9), body=st.binary(max_size=300))
def test_arbitrary_bodies_give_a_pdu_or_the_named_error(pdu_type, body):
    assert refusal(lambda: pdu.decode(pdu_type, body)) in (None, 1, 6)


@settings(max_examples=60)
@given(value=_REQUESTS | _ANSWERS, at=st.integers(0, 1 << 16), byte=_BYTE)
@example(value=REQUEST, at=70, byte=0xFF)
def test_a_damaged_byte_gives_a_pdu_or_the_named_error(value, at, byte):
    encoded = bytearray(pdu.encode(value))
    encoded[pdu.HEADER.size + at % (len(encoded) - pdu.HEADER.size)] = byte
    assert refusal(lambda: _decoded(bytes(encoded))) in (None, 6)


def _full_information() -> items.UserInformation:
    return items.UserInformation(
        max_length=16384,
        implementation_class_uid="1.2.826.0.1",
        implementation_version_name="SOMEBODY_1",
        window=items.AsynchronousOperationsWindow(invoked=5, performed=7),
        roles=(items.RoleSelection(sop_class_uid=CT, scu=True, scp=True),),
        extended=(items.SopClassExtended(sop_class_uid=CT, information=b"\x02\x00\x03"),),
        common_extended=(
            items.SopClassCommonExtended(
                sop_class_uid=CT,
                service_class_uid="1.2.840.10008.4.2",
                related_sop_class_uids=("1.2.3", "1.2.4"),
            ),
        ),
        user_identity=items.UserIdentity(
            kind=2, response_requested=True, primary=b"doctor", secondary=b"secret"
        ),
    )


FULL_REQUEST = replace(REQUEST, user_information=_full_information())
FULL_ANSWER = pdu.AssociateAC(
    called_ae_title="ARCHIVE",
    calling_ae_title="MODALITY",
    presentation_contexts=(
        pdu.AnsweredContext(1, 0, EXPLICIT),
        pdu.AnsweredContext(3, 3),
    ),
    user_information=replace(
        OURS, user_identity_response=items.UserIdentityResponse(server_response=b"ticket")
    ),
)


def test_pynetdicom_reads_our_request_as_we_meant_it():
    theirs = oracle.A_ASSOCIATE_RQ()
    theirs.decode(pdu.encode(FULL_REQUEST))
    primitive = theirs.to_primitive()
    assert (primitive.called_ae_title, primitive.calling_ae_title) == ("ARCHIVE", "MODALITY")
    assert primitive.application_context_name == APPLICATION_CONTEXT
    contexts = primitive.presentation_context_definition_list
    assert [(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax)) for c in contexts] == [
        (c.id, c.abstract_syntax, c.transfer_syntaxes) for c in FULL_REQUEST.presentation_contexts
    ]
    user = theirs.user_information
    assert user.maximum_length == 16384
    assert user.implementation_class_uid == "1.2.826.0.1"
    assert user.implementation_version_name == "SOMEBODY_1"
    assert user.async_ops_window.maximum_number_operations_invoked == 5
    assert user.async_ops_window.maximum_number_operations_performed == 7
    assert [(r.uid, r.scu, r.scp) for r in user.role_selection.values()] == [(CT, 1, 1)]
    assert [(e.uid, e.app_info) for e in user.ext_neg] == [(CT, b"\x02\x00\x03")]
    (common,) = user.common_ext_neg
    assert common.sop_class_uid == CT
    assert common.service_class_uid == "1.2.840.10008.4.2"
    assert common.related_general_sop_class_identification == ["1.2.3", "1.2.4"]
    identity = user.user_identity
    assert identity.user_identity_type == 2
    assert identity.positive_response_requested
    assert (identity.primary_field, identity.secondary_field) == (b"doctor", b"secret")


def test_pynetdicom_reads_our_answer_as_we_meant_it():
    theirs = oracle.A_ASSOCIATE_AC()
    theirs.decode(pdu.encode(FULL_ANSWER))
    assert [(c.context_id, c.result) for c in theirs.presentation_context] == [(1, 0), (3, 3)]
    assert theirs.presentation_context[0].transfer_syntax == EXPLICIT
    assert theirs.user_information.user_identity.server_response == b"ticket"


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (oracle.A_ASSOCIATE_RQ, FULL_REQUEST),
        (
            oracle.A_ASSOCIATE_AC,
            replace(FULL_ANSWER, presentation_contexts=(pdu.AnsweredContext(1, 0, EXPLICIT),)),
        ),
        (oracle.A_ASSOCIATE_RJ, pdu.AssociateRJ(1, 1, 7)),
        (oracle.A_RELEASE_RQ, pdu.ReleaseRQ()),
        (oracle.A_RELEASE_RP, pdu.ReleaseRP()),
        (oracle.A_ABORT_RQ, pdu.Abort(2, 6)),
        (
            oracle.P_DATA_TF,
            pdu.DataTF((pdu.PresentationDataValue(1, True, True, b"\0\0\0\0"),)),
        ),
    ],
)
def test_we_read_what_pynetdicom_writes_again(cls, value):
    theirs = cls()
    theirs.decode(pdu.encode(value))
    assert _decoded(theirs.encode()) == value


def test_unknown_items_are_skipped_and_not_kept():
    encoded = pdu.encode(REQUEST)
    unknown = bytes.fromhex("7F 00 0003 AABBCC")
    user_at = encoded.rindex(bytes.fromhex("51 00 0004")) - 4
    sub_items = encoded[user_at + 4 :] + unknown
    user = bytes.fromhex("50 00") + len(sub_items).to_bytes(2, "big") + sub_items
    body = encoded[6:user_at] + unknown + user
    assert pdu.decode(1, body) == REQUEST


def test_128_contexts_are_read():
    contexts = tuple(pdu.ProposedContext(2 * n + 1, CT, (IMPLICIT,)) for n in range(128))
    request = replace(REQUEST, presentation_contexts=contexts)
    assert _decoded(pdu.encode(request)) == request


@pytest.mark.parametrize("number", [0, 2, 254])
def test_an_even_context_id_is_refused(number):
    encoded = pdu.encode(REQUEST)
    body = encoded[6:].replace(
        bytes.fromhex("20 00") + encoded[6 + 72 + 23 : 6 + 72 + 25] + b"\x01",
        bytes.fromhex("20 00") + encoded[6 + 72 + 23 : 6 + 72 + 25] + bytes([number]),
    )
    assert body != encoded[6:]
    with pytest.raises(RemoteProtocolError, match="odd"):
        pdu.decode(1, body)


def test_a_context_id_that_comes_twice_is_refused():
    contexts = (pdu.ProposedContext(1, CT, (IMPLICIT,)), pdu.ProposedContext(3, CT, (IMPLICIT,)))
    body = bytearray(pdu.encode(replace(REQUEST, presentation_contexts=contexts))[6:])
    at = body.index(bytes.fromhex("03000000 3000"))
    body[at] = 1
    with pytest.raises(RemoteProtocolError, match="twice"):
        pdu.decode(1, body)
    answer = replace(FULL_ANSWER, presentation_contexts=(pdu.AnsweredContext(1, 0, IMPLICIT),) * 2)
    with pytest.raises(RemoteProtocolError, match="twice"):
        pdu.decode(2, pdu.encode(answer)[6:])


@pytest.mark.parametrize(
    "value",
    [
        replace(REQUEST, called_ae_title="A TITLE OF MANY LETTERS"),
        replace(REQUEST, calling_ae_title="ΨΩΔ"),
        replace(REQUEST, presentation_contexts=(pdu.ProposedContext(2, CT, (IMPLICIT,)),)),
        replace(REQUEST, presentation_contexts=(pdu.ProposedContext(1, "", (IMPLICIT,)),)),
        replace(REQUEST, presentation_contexts=(pdu.ProposedContext(1, "1" * 65, (IMPLICIT,)),)),
        replace(
            REQUEST,
            user_information=replace(
                OURS,
                extended=(items.SopClassExtended(sop_class_uid=CT, information=bytes(65536)),),
            ),
        ),
        replace(
            REQUEST,
            user_information=replace(
                OURS,
                user_identity=items.UserIdentity(
                    kind=4, response_requested=False, primary=bytes(65536)
                ),
            ),
        ),
    ],
)
def test_what_does_not_fit_its_field_is_our_callers_fault(value):
    with pytest.raises(LocalProtocolError):
        pdu.encode(value)


@pytest.mark.parametrize(
    ("pdu_type", "body"),
    [
        (1, bytes(67)),  # shorter than its fixed part
        (3, bytes(3)),  # a rejection of 3 bytes
        (4, b""),  # no value
        (4, bytes(5)),  # a value without a whole header
        (4, bytes.fromhex("00000001 0103")),  # a value shorter than its own header
        (4, bytes.fromhex("00000003 0103")),  # a value longer than its PDU
    ],
)
def test_a_pdu_that_breaks_its_own_lengths_is_malformed(pdu_type, body):
    assert refusal(lambda: pdu.decode(pdu_type, body)) == 6


def _with_context(kind: str, context: str) -> bytes:
    items_hex = f"1000 0001 31 {kind} {len(bytes.fromhex(context)):04X} {context}"
    return bytes(68) + bytes.fromhex(items_hex)


@pytest.mark.parametrize(
    ("pdu_type", "kind", "context"),
    [
        (1, "2000", "010000"),  # cut short
        (1, "2000", "01000000 4000000131"),  # no abstract syntax
        (1, "2000", "01000000 3000000131"),  # no transfer syntax
        (1, "2000", "01000000 3000000131 3000000132 4000000131"),  # two abstract syntaxes
        (2, "2100", "01000000"),  # accepted without a transfer syntax
        (2, "2100", "02000000 4000000131"),  # an even id
    ],
)
def test_a_context_that_breaks_its_own_rules_is_malformed(pdu_type, kind, context):
    assert refusal(lambda: pdu.decode(pdu_type, _with_context(kind, context))) == 6


def test_a_rejected_context_may_say_anything_about_its_transfer_syntax():
    answer = pdu.decode(2, _with_context("2100", "01000400 40000002 0A0A"))
    assert answer.presentation_contexts == (pdu.AnsweredContext(1, 4),)


def test_a_request_without_application_context_is_malformed():
    with pytest.raises(RemoteProtocolError, match="application context"):
        pdu.decode(1, bytes(68))


def test_a_passcode_is_in_no_text():
    identity = FULL_REQUEST.user_information.user_identity
    assert "doctor" not in repr(FULL_REQUEST)
    assert "secret" not in repr(FULL_REQUEST)
    assert "ticket" not in repr(FULL_ANSWER)
    assert "kind=2" in repr(identity)
