"""Negotiation of presentation contexts, roles and the operations window (PS3.7 D.3.3, PS3.8 7.1.1).

Pure: what is offered comes in as a function, what holds afterwards comes out as a value. Both
sides use it: the acceptor to answer, the requestor to learn what the answer means.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection, malformed
from harmoni.dicom.pdu import (
    AnsweredContext,
    AssociateAC,
    AssociateRQ,
    ContextResult,
    ProposedContext,
)


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that holds on this association.

    Attributes:
        as_scu: we may invoke operations of this SOP class.
        as_scp: we may be asked to perform them.
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scu: bool
    as_scp: bool


@dataclass(frozen=True, slots=True)
class Accept:
    """The acceptor's decision to take a context.

    Attributes:
        transfer_syntax: one of the proposed ones.
        requestor_scu: let the requestor be SCU of this class (we are its SCP); the usual case.
        requestor_scp: let the requestor be SCP of this class (we are its SCU): C-GET, reports.
            It holds only if the requestor proposed it, unless `assume_roles`.
        assume_roles: the roles hold though the requestor sent no role selection for the class
            (a peer known to leave the item out); what it proposed in an item still binds.
    """

    transfer_syntax: str
    requestor_scu: bool = True
    requestor_scp: bool = False
    assume_roles: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """The acceptor's decision against a context; the others are not touched by it."""

    result: ContextResult


Decision = Accept | Refuse
Offer = Callable[[ProposedContext, RoleSelection | None], Decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What the acceptor answers, and what holds with that answer.

    Attributes:
        contexts: the accepted ones by id, with our roles.
        answers: one per proposed context, in the order of the request.
        roles: one per class for which roles were proposed and a context was accepted.
    """

    contexts: Mapping[int, AcceptedContext]
    answers: tuple[AnsweredContext, ...]
    roles: tuple[RoleSelection, ...]


def negotiate(request: AssociateRQ, offer: Offer) -> Negotiated:
    """Answer a request as the acceptor (PS3.8 9.3.3.2, PS3.7 D.3.3.4).

    Roles are proposed and answered per SOP class, decided per context: of several accepted contexts
    of one class, the class gets the roles on which all their decisions agree. A context whose
    decision names a transfer syntax that was not proposed is refused with result 4. Without a role
    the context would be of no use, so it is refused with result 1.

    Args:
        request: as it came.
        offer: decides one context; gets the roles proposed for its class, or None.
    """
    proposed_roles = {role.sop_class_uid: role for role in request.user_information.roles}
    decisions: dict[int, Decision] = {}
    granted: dict[str, tuple[bool, bool]] = {}
    for context in request.presentation_contexts:
        role = proposed_roles.get(context.abstract_syntax)
        decision = offer(context, role)
        if isinstance(decision, Accept):
            decision = _checked(decision, context, role)
        decisions[context.id] = decision
        if isinstance(decision, Accept):
            scu, scp = granted.get(context.abstract_syntax, (True, True))
            granted[context.abstract_syntax] = (
                scu and decision.requestor_scu,
                scp and decision.requestor_scp,
            )
    contexts: dict[int, AcceptedContext] = {}
    answers: list[AnsweredContext] = []
    for context in request.presentation_contexts:
        decision = decisions[context.id]
        scu, scp = granted.get(context.abstract_syntax, (False, False))
        if isinstance(decision, Accept) and not (scu or scp):
            decision = Refuse(ContextResult.USER_REJECTION)
        match decision:
            case Accept(transfer_syntax=uid):
                answers.append(AnsweredContext(context.id, ContextResult.ACCEPTANCE, uid))
                contexts[context.id] = AcceptedContext(
                    context.id, context.abstract_syntax, uid, as_scu=scp, as_scp=scu
                )
            case Refuse(result=result):
                # The item must be there though it means nothing; peers parse what they proposed.
                answers.append(AnsweredContext(context.id, result, context.transfer_syntaxes[0]))
    roles = tuple(
        RoleSelection(sop_class_uid=uid, scu=scu, scp=scp)
        for uid, (scu, scp) in granted.items()
        if uid in proposed_roles and (scu or scp)
    )
    return Negotiated(contexts=contexts, answers=tuple(answers), roles=roles)


def _checked(decision: Accept, context: ProposedContext, role: RoleSelection | None) -> Decision:
    """The decision, cut to what the requestor proposed."""
    if decision.transfer_syntax not in context.transfer_syntaxes:
        return Refuse(ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    if role is None:
        if decision.assume_roles:
            return decision
        scu, scp = True, False
    else:
        scu, scp = role.scu, role.scp
    return Accept(
        decision.transfer_syntax,
        requestor_scu=decision.requestor_scu and scu,
        requestor_scp=decision.requestor_scp and scp,
    )


def accepted_contexts(
    request: AssociateRQ, answer: AssociateAC, *, assume_roles: bool = False
) -> dict[int, AcceptedContext]:
    """What holds for the requestor after an answer (PS3.7 D.3.3.4.1).

    Without a role selection item for the class in the answer the requestor is SCU and not SCP.

    Args:
        request: what we sent.
        answer: what came back.
        assume_roles: take the proposed roles as granted where the answer says nothing about the
            class (a peer known to leave the item out).

    Raises:
        RemoteProtocolError: the answer accepts a context or a syntax that was not proposed.
    """
    proposed_roles = {role.sop_class_uid: role for role in request.user_information.roles}
    granted_roles = {role.sop_class_uid: role for role in answer.user_information.roles}
    proposed = {context.id: context for context in request.presentation_contexts}
    contexts: dict[int, AcceptedContext] = {}
    for answered in answer.presentation_contexts:
        if answered.result != ContextResult.ACCEPTANCE:
            continue
        context = proposed.get(answered.id)
        if context is None or answered.transfer_syntax not in context.transfer_syntaxes:
            raise malformed(
                f"context {answered.id} with {answered.transfer_syntax} was never proposed"
            )
        wanted = proposed_roles.get(context.abstract_syntax)
        granted = granted_roles.get(context.abstract_syntax)
        if granted is None and assume_roles:
            granted = wanted
        if wanted is None or granted is None:
            scu, scp = True, False
        else:
            scu, scp = granted.scu and wanted.scu, granted.scp and wanted.scp
        contexts[answered.id] = AcceptedContext(
            answered.id, context.abstract_syntax, answered.transfer_syntax, as_scu=scu, as_scp=scp
        )
    return contexts


def grant_window(
    proposed: AsynchronousOperationsWindow | None, *, invoked: int, performed: int
) -> AsynchronousOperationsWindow | None:
    """Answer a proposed asynchronous operations window as the acceptor (PS3.7 D.3.3.3).

    Args:
        proposed: the requestor's item; None means 1 and 1 and is answered by no item.
        invoked: how many operations of the requestor we let be outstanding, 1 or more.
        performed: how many operations of ours we would have outstanding, 1 or more.

    Returns:
        The item of the answer: never more than proposed, and never 0 (unlimited).
    """
    if proposed is None:
        return None
    return AsynchronousOperationsWindow(
        invoked=min(proposed.invoked or invoked, invoked),
        performed=min(proposed.performed or performed, performed),
    )
