from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from association_pairs import CT, EXPLICIT, IMPLICIT, OURS, REQUEST, VERIFICATION
from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection
from harmoni.dicom.pdu import AnsweredContext, AssociateAC, ContextResult, ProposedContext
from harmoni.dicom.presentation import (
    Accept,
    AcceptedContext,
    Refuse,
    accepted_contexts,
    grant_window,
    negotiate,
)
from harmoni.model.errors import RemoteProtocolError


def _request(*contexts: ProposedContext, roles: tuple[RoleSelection, ...] = ()):
    return replace(
        REQUEST, presentation_contexts=contexts, user_information=replace(OURS, roles=roles)
    )


def _role(*, scu: bool, scp: bool) -> RoleSelection:
    return RoleSelection(sop_class_uid=CT, scu=scu, scp=scp)


def _answer(negotiated) -> AssociateAC:
    return AssociateAC(
        called_ae_title="B",
        calling_ae_title="A",
        presentation_contexts=negotiated.answers,
        user_information=replace(OURS, roles=negotiated.roles),
    )


ONE = ProposedContext(1, CT, (IMPLICIT, EXPLICIT))


def test_without_a_role_item_the_requestor_is_scu_and_we_are_scp():
    negotiated = negotiate(_request(ONE), lambda *_: Accept(EXPLICIT, requestor_scp=True))
    assert negotiated.contexts == {1: AcceptedContext(1, CT, EXPLICIT, as_scu=False, as_scp=True)}
    assert negotiated.roles == ()
    assert negotiated.answers == (AnsweredContext(1, 0, EXPLICIT),)


def test_a_refused_context_does_not_touch_the_others():
    two = ProposedContext(3, VERIFICATION, (IMPLICIT,))

    def offer(context, role):
        if context.id == 1:
            return Refuse(ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
        return Accept(IMPLICIT)

    negotiated = negotiate(_request(ONE, two), offer)
    assert [answer.result for answer in negotiated.answers] == [3, 0]
    assert set(negotiated.contexts) == {3}


def test_a_syntax_that_was_not_proposed_is_refused_with_result_4():
    negotiated = negotiate(_request(ONE), lambda *_: Accept("1.2.840.10008.1.2.2"))
    assert negotiated.answers[0].result == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    assert negotiated.contexts == {}


def test_a_role_is_granted_only_if_proposed_and_decided():
    roles = (_role(scu=False, scp=True),)
    negotiated = negotiate(_request(ONE, roles=roles), lambda *_: Accept(IMPLICIT))
    assert negotiated.answers[0].result == ContextResult.USER_REJECTION

    both = lambda *_: Accept(IMPLICIT, requestor_scu=True, requestor_scp=True)  # noqa: E731
    negotiated = negotiate(_request(ONE, roles=roles), both)
    assert negotiated.roles == roles
    assert negotiated.contexts[1].as_scu
    assert not negotiated.contexts[1].as_scp


def test_a_class_gets_only_the_roles_on_which_all_its_contexts_agree():
    two = ProposedContext(3, CT, (EXPLICIT,))
    roles = (_role(scu=True, scp=True),)

    def offer(context, role):
        assert role == roles[0]
        return Accept(context.transfer_syntaxes[0], requestor_scp=context.id == 1)

    negotiated = negotiate(_request(ONE, two, roles=roles), offer)
    assert negotiated.roles == (_role(scu=True, scp=False),)
    assert not any(context.as_scu for context in negotiated.contexts.values())


def test_assumed_roles_hold_without_an_item_and_are_not_answered():
    accept = Accept(IMPLICIT, requestor_scu=False, requestor_scp=True, assume_roles=True)
    negotiated = negotiate(_request(ONE), lambda *_: accept)
    assert negotiated.contexts[1].as_scu
    assert negotiated.roles == ()


def test_the_requestor_is_only_scu_when_the_answer_has_no_role_item():
    request = _request(ONE, roles=(_role(scu=False, scp=True),))
    answer = replace(_answer(negotiate(_request(ONE), lambda *_: Accept(IMPLICIT))))
    context = accepted_contexts(request, answer)[1]
    assert (context.as_scu, context.as_scp) == (True, False)
    context = accepted_contexts(request, answer, assume_roles=True)[1]
    assert (context.as_scu, context.as_scp) == (False, True)


def test_an_answer_cannot_grant_a_role_that_was_not_proposed():
    request = _request(ONE, roles=(_role(scu=True, scp=False),))
    negotiated = negotiate(request, lambda *_: Accept(IMPLICIT))
    answer = replace(
        _answer(negotiated), user_information=replace(OURS, roles=(_role(scu=True, scp=True),))
    )
    assert not accepted_contexts(request, answer)[1].as_scp


@pytest.mark.parametrize(
    "answered", [AnsweredContext(5, 0, IMPLICIT), AnsweredContext(1, 0, "1.2.3")]
)
def test_an_answer_that_accepts_what_was_not_proposed_is_the_peers_fault(answered):
    answer = replace(
        _answer(negotiate(_request(ONE), lambda *_: Accept(IMPLICIT))),
        presentation_contexts=(answered,),
    )
    with pytest.raises(RemoteProtocolError, match="never proposed"):
        accepted_contexts(_request(ONE), answer)


@given(
    proposed=st.none() | st.tuples(st.booleans(), st.booleans()),
    decided=st.tuples(st.booleans(), st.booleans()),
)
def test_both_sides_derive_complementary_roles(proposed, decided):
    roles = () if proposed is None else (_role(scu=proposed[0], scp=proposed[1]),)
    request = _request(ONE, roles=roles)
    accept = Accept(IMPLICIT, requestor_scu=decided[0], requestor_scp=decided[1])
    negotiated = negotiate(request, lambda *_: accept)
    theirs = accepted_contexts(request, _answer(negotiated))
    ours = [(context.as_scp, context.as_scu) for context in negotiated.contexts.values()]
    assert ours == [(context.as_scu, context.as_scp) for context in theirs.values()]


@pytest.mark.parametrize(
    ("proposed", "granted"), [((0, 0), (8, 2)), ((4, 1), (4, 1)), ((99, 99), (8, 2))]
)
def test_the_window_is_never_more_than_proposed_and_never_unlimited(proposed, granted):
    window = AsynchronousOperationsWindow(invoked=proposed[0], performed=proposed[1])
    answer = grant_window(window, invoked=8, performed=2)
    assert answer == AsynchronousOperationsWindow(invoked=granted[0], performed=granted[1])


def test_no_window_is_answered_when_none_is_proposed():
    assert grant_window(None, invoked=8, performed=8) is None
