import pytest

from harmoni.dicom import uids
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import ContextResult, ProposedContext
from harmoni.dicom.presentation import Accept, Refuse
from harmoni.policy.access import MODALITY_RIGHTS, PACS_RIGHTS, Right
from harmoni.services import acceptance
from served_archive import CT, EXPLICIT, IMPLICIT, JPEG

JPIP = "1.2.840.10008.1.2.4.94"
PRINT = "1.2.840.10008.5.1.1.9"
RECEIVES = RoleSelection(sop_class_uid=CT, scu=False, scp=True)
BOTH = RoleSelection(sop_class_uid=CT, scu=True, scp=True)


def decide(abstract, *syntaxes, role=None, rights=PACS_RIGHTS, preferred=()):
    offer = acceptance.offer(rights, lambda _: preferred)
    return offer(ProposedContext(1, abstract, syntaxes), role)


def test_storage_takes_the_first_syntax_of_the_sender_that_can_be_stored():
    assert decide(CT, JPIP, JPEG, IMPLICIT) == Accept(JPEG)


def test_storage_in_no_syntax_that_can_be_stored_is_refused_for_its_syntaxes():
    assert decide(CT, JPIP) == Refuse(ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)


def test_a_receiver_gets_the_syntax_in_which_most_is_held():
    accepted = Accept(JPEG, requestor_scu=False, requestor_scp=True)
    assert decide(CT, IMPLICIT, EXPLICIT, JPEG, role=RECEIVES, preferred=[JPEG]) == accepted


@pytest.mark.parametrize("preferred", [[], [JPEG], [JPIP, JPEG]])
def test_a_receiver_gets_its_own_first_syntax_where_the_preferred_one_is_not_proposed(preferred):
    accepted = Accept(EXPLICIT, requestor_scu=False, requestor_scp=True)
    assert decide(CT, EXPLICIT, IMPLICIT, role=RECEIVES, preferred=preferred) == accepted


def test_a_mere_sender_is_not_given_the_preferred_syntax():
    assert decide(CT, IMPLICIT, JPEG, preferred=[JPEG]) == Accept(IMPLICIT)


@pytest.mark.parametrize(
    ("rights", "scu", "scp"),
    [
        ({Right.STORE, Right.GET}, True, True),
        ({Right.STORE}, True, False),
        ({Right.GET}, False, True),
    ],
)
def test_roles_are_those_proposed_and_allowed(rights, scu, scp):
    accepted = Accept(IMPLICIT, requestor_scu=scu, requestor_scp=scp)
    assert decide(CT, IMPLICIT, role=BOTH, rights=frozenset(rights)) == accepted


@pytest.mark.parametrize("role", [None, RECEIVES, BOTH])
def test_storage_without_a_right_for_any_role_is_refused(role):
    refused = Refuse(ContextResult.USER_REJECTION)
    assert decide(CT, IMPLICIT, role=role, rights=frozenset({Right.ECHO})) == refused


def test_a_class_that_is_not_served_is_refused_for_its_abstract_syntax():
    refused = Refuse(ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    assert decide(PRINT, IMPLICIT) == refused


@pytest.mark.parametrize("abstract", acceptance.RIGHT_OF_SERVICE)
def test_each_service_takes_its_own_right_and_no_other(abstract):
    right = acceptance.RIGHT_OF_SERVICE[abstract]
    assert decide(abstract, JPEG, EXPLICIT, IMPLICIT) == Accept(EXPLICIT)
    assert decide(abstract, IMPLICIT, rights=frozenset({right})) == Accept(IMPLICIT)
    others = frozenset(Right) - {right}
    assert decide(abstract, IMPLICIT, rights=others) == Refuse(ContextResult.USER_REJECTION)
    assert decide(abstract, JPEG) == Refuse(ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)


def test_a_modality_may_echo_store_and_commit_and_nothing_else():
    accepted = {
        abstract
        for abstract in acceptance.RIGHT_OF_SERVICE
        if isinstance(decide(abstract, IMPLICIT, rights=MODALITY_RIGHTS), Accept)
    }
    assert accepted == {uids.VERIFICATION, uids.STORAGE_COMMITMENT_PUSH}


def test_a_receiver_gets_the_most_held_of_the_syntaxes_that_it_proposed():
    accepted = decide(CT, IMPLICIT, EXPLICIT, role=RECEIVES, preferred=[JPEG, EXPLICIT, IMPLICIT])
    assert accepted == decide(CT, EXPLICIT, role=RECEIVES)
