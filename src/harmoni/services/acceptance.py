"""Which presentation contexts a peer gets, by its rights (PS3.8 9.3.3.2, PS3.7 D.3.3.4).

Every context is decided by itself: contexts for the same class with different syntaxes are all
accepted, so a sender that proposes one per (class, syntax) can send whatever it holds.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from harmoni.dicom import uids
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import ContextResult, ProposedContext
from harmoni.dicom.presentation import Accept, Decision, Offer, Refuse
from harmoni.policy.access import Right, Rights

RIGHT_OF_SERVICE: Final = {
    uids.VERIFICATION: Right.ECHO,
    uids.STORAGE_COMMITMENT_PUSH: Right.COMMIT,
    uids.PATIENT_ROOT_FIND: Right.QUERY,
    uids.STUDY_ROOT_FIND: Right.QUERY,
    uids.PATIENT_ROOT_MOVE: Right.MOVE,
    uids.STUDY_ROOT_MOVE: Right.MOVE,
    uids.PATIENT_ROOT_GET: Right.GET,
    uids.STUDY_ROOT_GET: Right.GET,
}
"""The right that each service other than storage takes. What is not here is not served."""

SERVICE_SYNTAXES: Final = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
"""Transfer syntaxes of those services; the requestor's order decides."""

PreferredSyntaxes = Callable[[str], Sequence[str]]
"""For a storage class, the syntaxes in which its instances are held here, most held first."""


def offer(rights: Rights, preferred_syntaxes: PreferredSyntaxes) -> Offer:
    """Make the decision for `presentation.negotiate` that fits a peer's rights.

    A storage class is accepted with the roles that are both proposed and allowed: requestor as
    SCU with the right to store, as SCP (it receives, in a C-GET) with the right to get.

    Args:
        rights: what the peer was granted.
        preferred_syntaxes: chooses among several syntaxes in one context where the requestor
            receives. Where it only sends, the first one in its order that we take is chosen.
    """

    def decide(context: ProposedContext, role: RoleSelection | None) -> Decision:
        if uids.is_storage_class(context.abstract_syntax):
            return _decide_storage(context, role, rights, preferred_syntaxes)
        right = RIGHT_OF_SERVICE.get(context.abstract_syntax)
        if right is None:
            return Refuse(ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
        if right not in rights:
            return Refuse(ContextResult.USER_REJECTION)
        return _accept(_first(context, SERVICE_SYNTAXES))

    return decide


def _decide_storage(
    context: ProposedContext,
    role: RoleSelection | None,
    rights: Rights,
    preferred_syntaxes: PreferredSyntaxes,
) -> Decision:
    receives = role is not None and role.scp and Right.GET in rights
    sends = (role is None or role.scu) and Right.STORE in rights
    if not (receives or sends):
        return Refuse(ContextResult.USER_REJECTION)
    acceptable = [
        uid for uid in context.transfer_syntaxes if uids.storage_transfer_syntax(uid) is not None
    ]
    chosen = acceptable[0] if acceptable else None
    if receives and len(acceptable) > 1:
        held = preferred_syntaxes(context.abstract_syntax)
        chosen = next((uid for uid in held if uid in acceptable), chosen)
    return _accept(chosen, requestor_scu=sends, requestor_scp=receives)


def _first(context: ProposedContext, acceptable: Collection[str]) -> str | None:
    return next((uid for uid in context.transfer_syntaxes if uid in acceptable), None)


def _accept(
    transfer_syntax: str | None, *, requestor_scu: bool = True, requestor_scp: bool = False
) -> Decision:
    if transfer_syntax is None:
        return Refuse(ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    return Accept(transfer_syntax, requestor_scu=requestor_scu, requestor_scp=requestor_scp)
