import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harmoni.dicom.pdu import AssociateRJ
from harmoni.model import errors
from harmoni.net.client import RejectedForGood, RejectedForNow
from harmoni.net.driver import AssociationEnded, Ending
from harmoni.policy import delivery
from harmoni.policy.delivery import DestinationTrouble, Step

FROM_0_TO_1 = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 0xFFFF))
def test_nothing_but_0000_is_delivered(status):
    assert (delivery.of_store_status(status).step is Step.DELIVERED) is (status == 0)


@pytest.mark.parametrize("status", [0xA700, 0xA702, 0xA7FF, 0x0110, 0x0213])
def test_what_the_centre_could_not_take_at_that_moment_is_sent_again(status):
    assert delivery.of_store_status(status).step is Step.AGAIN


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123, 0xBFFF, 0x0001, 0x0107, 0x0116])
def test_a_warning_is_parked_since_the_archive_keeps_every_bit(status):
    assert delivery.of_store_status(status).step is Step.PARKED


@pytest.mark.parametrize(
    "status",
    [
        *(0xA900, 0xA9FF, 0xC000, 0xC001, 0xCFFF),
        *(0x0111, 0x0117, 0x0118, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212),
    ],
)
def test_what_the_centre_refuses_for_what_it_is_is_parked(status):
    verdict = delivery.of_store_status(status)
    assert verdict.step is Step.PARKED
    assert "unknown" not in verdict.reason


@pytest.mark.parametrize("status", [0xFF00, 0xFE00, 0xA801, 0x0112, 0xD000, 0x1234])
def test_a_status_that_is_none_of_c_store_is_parked_as_unknown(status):
    verdict = delivery.of_store_status(status)
    assert (verdict.step, "unknown" in verdict.reason) == (Step.PARKED, True)


@given(st.integers(0, 0xFFFF))
def test_every_reason_names_the_number_that_came(number):
    assert delivery.of_store_status(number).reason.endswith(f"({number:04X})")
    assert delivery.of_commitment_failure(number).reason.endswith(f"({number:04X})")


@pytest.mark.parametrize(
    "error",
    [errors.StorageFailed("EIO"), errors.OutOfResources("full"), errors.Busy("locked")],
)
def test_what_may_succeed_later_is_sent_again(error):
    assert delivery.of_error(error).step is Step.AGAIN


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            errors.NotAccepted("..."),
            "the centre accepts no presentation context for it (HZ-2008 NotAccepted)",
        ),
        (errors.Damaged("..."), "our own copy cannot be read (HZ-2002 Damaged)"),
        (errors.NotHeld("..."), "our own copy cannot be read (HZ-2003 NotHeld)"),
        (errors.InvalidInput("..."), "it cannot be sent (HZ-2001 InvalidInput)"),
        (errors.LocalProtocolError("..."), "it cannot be sent (HZ-3001 LocalProtocolError)"),
    ],
)
def test_what_will_fail_again_is_parked_with_its_reason(error, reason):
    assert delivery.of_error(error) == delivery.Verdict(Step.PARKED, reason)


def test_no_reason_repeats_the_text_of_an_error():
    assert "DOE^JANE" not in delivery.of_error(errors.Damaged("DOE^JANE")).reason


@pytest.mark.parametrize("reason", [0x0110, 0x0112, 0x0213, 0x0131, 0x9999])
def test_what_the_centre_does_not_commit_to_is_sent_again(reason):
    assert delivery.of_commitment_failure(reason).step is Step.AGAIN


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_what_the_centre_never_will_commit_to_is_parked(reason):
    assert delivery.of_commitment_failure(reason).step is Step.PARKED


@pytest.mark.parametrize(
    "error",
    [
        errors.Unreachable("no route"),
        AssociationEnded(Ending.ABORTED, "they aborted"),
        RejectedForNow("CENTRE", AssociateRJ(2, 3, 1)),
    ],
)
def test_a_destination_that_is_not_there_is_waited_for(error):
    trouble = delivery.of_destination(error)
    assert trouble is DestinationTrouble.PASSING
    assert delivery.destination_pause_s(trouble, 3, 0.5) == delivery.pause_s(3, 0.5)


@pytest.mark.parametrize(
    "error",
    [
        RejectedForGood("CENTRE", AssociateRJ(1, 1, 3)),
        errors.Refused("suspended"),
        errors.ConfigurationError("no certificate"),
        errors.LocalProtocolError("that is no AE title"),
    ],
)
def test_a_destination_that_refuses_us_is_asked_once_a_minute(error):
    trouble = delivery.of_destination(error)
    assert trouble is DestinationTrouble.STANDING
    assert delivery.destination_pause_s(trouble, 0, 0.0) == 60.0


@given(st.integers(min_value=0), FROM_0_TO_1)
@example(10**30, 0.999)
@example(1024, 0.5)
def test_no_pause_is_longer_than_the_longest(tries, chance):
    assert 0 <= delivery.pause_s(tries, chance) < delivery.LONGEST_PAUSE_S


@given(st.integers(0, 9), FROM_0_TO_1)
def test_the_longest_pause_of_each_try_doubles(tries, chance):
    assert delivery.pause_s(tries, chance) == chance * 2**tries


@given(st.integers(10, 10**9), FROM_0_TO_1)
def test_after_ten_tries_a_pause_is_any_part_of_the_longest(tries, chance):
    assert delivery.pause_s(tries, chance) == chance * delivery.LONGEST_PAUSE_S


@given(st.integers(0, 2000), st.integers(0, 2000), FROM_0_TO_1)
def test_with_the_same_luck_no_later_pause_is_shorter(tries, more, chance):
    assert delivery.pause_s(tries, chance) <= delivery.pause_s(tries + more, chance)
