import pytest

from harmoni.dicom import presentation, uids
from harmoni.dicom.items import AsynchronousOperationsWindow, UserInformation
from harmoni.dicom.pdu import AssociateRQ, ProposedContext
from harmoni.policy.access import NODE_RIGHTS
from harmoni.role.worker import WINDOW, _window
from harmoni.services import acceptance

CT = "1.2.840.10008.5.1.4.1.1.2"


def granted(window, *classes):
    request = AssociateRQ(
        called_ae_title="HARMONI",
        calling_ae_title="GW_A",
        presentation_contexts=tuple(
            ProposedContext(2 * number + 1, each, (uids.IMPLICIT_VR_LITTLE_ENDIAN,))
            for number, each in enumerate(classes)
        ),
        user_information=UserInformation(window=window),
    )
    offer = acceptance.offer(NODE_RIGHTS, lambda _: ())
    return _window(request, presentation.negotiate(request, offer))


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (8, 8), (100, WINDOW), (0, WINDOW)])
def test_a_window_is_bounded_where_operations_only_store_or_commit(asked, given):
    window = AsynchronousOperationsWindow(invoked=asked, performed=asked)

    assert granted(window, CT, uids.STORAGE_COMMITMENT_PUSH) == AsynchronousOperationsWindow(
        invoked=given, performed=given
    )


@pytest.mark.parametrize(
    "service", [uids.STUDY_ROOT_FIND, uids.PATIENT_ROOT_GET, uids.STUDY_ROOT_MOVE]
)
def test_no_window_is_granted_where_an_operation_must_be_alone(service):
    window = AsynchronousOperationsWindow(invoked=8, performed=8)

    assert granted(window, CT, service) is None


def test_nobody_gets_a_window_that_was_not_proposed():
    assert granted(None, CT) is None
