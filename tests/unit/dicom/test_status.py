import pytest
from pynetdicom import status as oracle

from harmoni.dicom.dimse import CommandField
from harmoni.dicom.status import SERVICES, Category, Status, category, meaning


@pytest.mark.parametrize(
    "table",
    [
        oracle.GENERAL_STATUS,
        oracle.STORAGE_SERVICE_CLASS_STATUS,
        oracle.QR_FIND_SERVICE_CLASS_STATUS,
        oracle.QR_MOVE_SERVICE_CLASS_STATUS,
        oracle.QR_GET_SERVICE_CLASS_STATUS,
        oracle.STORAGE_COMMITMENT_SERVICE_CLASS_STATUS,
    ],
)
def test_every_code_known_to_pynetdicom_has_the_same_category(table):
    assert {code: kind.lower() for code, (kind, _) in table.items()} == {
        code: category(code).value for code in table
    }


def test_every_16_bit_code_has_a_category_and_unknown_ones_are_failures():
    assert all(isinstance(category(code), Category) for code in range(0x10000))
    assert category(0x7777) is Category.FAILURE


def test_every_status_that_we_send_has_a_text_in_some_service():
    explained = set().union(*SERVICES.values())
    families = {Status.UNABLE_TO_PROCESS}
    assert set(Status) - families <= explained


def test_a_code_of_a_family_gets_the_text_of_the_family():
    assert meaning(CommandField.C_STORE_RSP, 0xA712) == "refused: out of resources"
    assert meaning(CommandField.C_STORE_RSP, 0xCFFF) == "cannot understand"
    assert meaning(CommandField.C_FIND_RSP, 0xA950) == "identifier does not match SOP class"


def test_a_code_with_its_own_text_keeps_it_within_a_family():
    assert meaning(CommandField.C_MOVE_RSP, 0xA702) == "refused: unable to perform sub-operations"


def test_a_code_that_the_service_does_not_know_is_named_by_category_and_number():
    assert meaning(CommandField.C_GET_RSP, 0xA801) == "failure A801H"
    assert meaning(CommandField.N_CREATE_RSP, 0xBEEF) == "warning BEEFH"
