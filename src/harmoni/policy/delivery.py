"""Decide what becomes of an instance after an attempt to deliver it to the centre.

Three kinds of answer are told apart. What the centre, or our own copy, says about one instance
delivers it, has it sent again, or parks it until somebody has looked. What concerns the destination
as a whole settles no instance: that is mended once for all of them, so they wait. And what the
centre could not commit to is sent again, unless it never will.

Reasons name numbers and kinds, never a text from outside: they stand in logs, and hold no patient
data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from harmoni.model.errors import Damaged, HarmoniError, NotAccepted, NotHeld, Transient

FIRST_PAUSE_S: Final = 1.0
"""The longest pause after the first failure, in seconds."""
LONGEST_PAUSE_S: Final = 900.0
"""The longest pause of all, in seconds."""

DESTINATION_PAUSE_S: Final = 60.0
"""The longest pause before a destination is looked for again, in seconds: one connection for all
that waits, so that all of it goes on soon after the destination is back."""

# 2 to this is beyond any pause; a larger exponent would leave the range of a float.
_MAX_DOUBLINGS: Final = 64


class Step(StrEnum):
    """What becomes of an instance."""

    DELIVERED = "delivered"
    AGAIN = "again"
    """It is sent again after a pause, for as long as it takes."""
    PARKED = "parked"
    """It is not sent again before somebody has mended the cause and put it back in the queue."""


class DestinationTrouble(StrEnum):
    """What is wrong with a destination as a whole."""

    PASSING = "passing"
    """Not there, or gone, or busy: nothing to do but wait."""
    STANDING = "standing"
    """It refuses us, or we ask wrongly: wait, too, and raise an alarm for somebody to mend it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an instance, and why, in words for the person who looks at it."""

    step: Step
    reason: str


_WARNED: Final = "the centre took it with a warning"

_OF_STATUS: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        0x0000: Verdict(Step.DELIVERED, "the centre has it"),
        0x0110: Verdict(Step.AGAIN, "the centre failed while it was taking it"),
        0x0213: Verdict(Step.AGAIN, "a resource of the centre is exhausted"),
        # A warning means stored, but not as sent: for a bit-exact archive that is a failure.
        0xB000: Verdict(Step.PARKED, "the centre says that it changed elements of it"),
        0xB006: Verdict(Step.PARKED, "the centre says that it dropped elements of it"),
        0xB007: Verdict(Step.PARKED, "the centre says that it does not fit its SOP class"),
        0x0001: Verdict(Step.PARKED, _WARNED),
        0x0107: Verdict(Step.PARKED, _WARNED),
        0x0116: Verdict(Step.PARKED, _WARNED),
        0x0111: Verdict(Step.PARKED, "the centre says that it holds that SOP Instance UID already"),
        0x0117: Verdict(Step.PARKED, "the centre says that its SOP Instance UID is invalid"),
        0x0118: Verdict(Step.PARKED, "the centre does not know its SOP class"),
        0x0122: Verdict(Step.PARKED, "the centre does not support its SOP class"),
        0x0124: Verdict(Step.PARKED, "the centre does not authorise us to store it"),
        0x0210: Verdict(Step.PARKED, "the centre took its message id for one in use"),
        0x0211: Verdict(Step.PARKED, "the centre does not recognise C-STORE in its context"),
        0x0212: Verdict(Step.PARKED, "the centre says that the request has a mistyped argument"),
    }
)
_OF_FAMILY: Final[tuple[tuple[int, int, Verdict], ...]] = (
    (0xFF00, 0xA700, Verdict(Step.AGAIN, "the centre is out of resources")),
    (0xFF00, 0xA900, Verdict(Step.PARKED, "the centre says that it does not fit its SOP class")),
    (0xF000, 0xC000, Verdict(Step.PARKED, "the centre cannot understand or process it")),
    (0xF000, 0xB000, Verdict(Step.PARKED, _WARNED)),
)
"""Mask, code and verdict of the families (PS3.4 Table B.2-1, PS3.7 Annex C)."""
_UNKNOWN_STATUS: Final = Verdict(Step.PARKED, "the centre answered with a status unknown to us")

_OF_FAILURE_REASON: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        0x0110: Verdict(Step.AGAIN, "the centre failed while it was looking for it"),
        0x0112: Verdict(Step.AGAIN, "the centre does not hold it"),
        0x0213: Verdict(Step.AGAIN, "a resource of the centre is exhausted"),
        0x0119: Verdict(Step.PARKED, "the centre holds that SOP Instance UID in another SOP class"),
        0x0122: Verdict(Step.PARKED, "the centre does not support its SOP class"),
    }
)
_NOT_COMMITTED: Final = Verdict(Step.AGAIN, "the centre did not commit to it")


def of_store_status(status: int) -> Verdict:
    """Decide by the status of a C-STORE-RSP (PS3.4 B.2.3, PS3.7 Annex C).

    Only 0000 is delivered. A status that nobody knows is parked: to repeat what was not understood
    helps nobody, and to call it delivered could lose an image.
    """
    verdict = _OF_STATUS.get(status)
    if verdict is None:
        verdict = next(
            (family for mask, code, family in _OF_FAMILY if status & mask == code), _UNKNOWN_STATUS
        )
    return _numbered(verdict, status)


def of_error(error: HarmoniError) -> Verdict:
    """Decide by why an instance was not sent, or not to its end.

    Args:
        error: about this one instance; for one that broke in the middle, the fault of its data.
            What ended the association, or kept it from beginning, is for `of_destination`.
    """
    if isinstance(error, Transient):
        step, why = Step.AGAIN, "it could not be sent at this moment"
    elif isinstance(error, NotAccepted):
        step, why = Step.PARKED, "the centre accepts no presentation context for it"
    elif isinstance(error, Damaged | NotHeld):
        step, why = Step.PARKED, "our own copy cannot be read"
    else:
        step, why = Step.PARKED, "it cannot be sent"
    return Verdict(step, f"{why} ({error.code} {type(error).__name__})")


def of_commitment_failure(reason: int) -> Verdict:
    """Decide by the Failure Reason (0008,1197) of a storage commitment (PS3.3 C.14.1.1).

    An instance that was not committed is sent again, which takes nothing away from a centre that
    has it after all; unless the centre would fail it again for what it is.
    """
    return _numbered(_OF_FAILURE_REASON.get(reason, _NOT_COMMITTED), reason)


def of_destination(error: HarmoniError) -> DestinationTrouble:
    """Decide by why an association could not be opened, or ended too early."""
    if isinstance(error, Transient):
        return DestinationTrouble.PASSING
    return DestinationTrouble.STANDING


def pause_s(tries: int, chance: float) -> float:
    """How long to wait before the next try: exponential back-off with full jitter, in seconds.

    Args:
        tries: how many pauses there were before this one, 0 at first.
        chance: evenly drawn from 0 to 1, 1 excluded. It keeps gateways apart that lost the centre
            at the same moment.
    """
    longest_s = FIRST_PAUSE_S * 2.0 ** min(tries, _MAX_DOUBLINGS)
    return chance * min(LONGEST_PAUSE_S, longest_s)


def destination_pause_s(trouble: DestinationTrouble, tries: int, chance: float) -> float:
    """How long to leave a destination alone, in seconds; arguments as of `pause_s`.

    Trouble that stands does not go away by asking often, and must be seen to be over soon after
    somebody has mended it: it gets a minute at once.
    """
    if trouble is DestinationTrouble.STANDING:
        return DESTINATION_PAUSE_S
    return min(DESTINATION_PAUSE_S, pause_s(tries, chance))


def _numbered(verdict: Verdict, number: int) -> Verdict:
    return Verdict(verdict.step, f"{verdict.reason} ({number:04X})")
