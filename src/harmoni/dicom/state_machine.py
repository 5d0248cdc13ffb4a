"""The state machine of the DICOM upper layer (PS3.8 9.2), as data.

Table 9-10 stands here cell by cell and is read by `Association`; which state follows belongs to the
action (Tables 9-6 to 9-9). Nothing is decided here that the standard does not decide, and a cell
that is empty there is empty here: such an event cannot come in such a state. `Machine` walks the
table and keeps the one timer, ARTIM; what an action sends and indicates is `Association`'s.
"""

from enum import Enum, IntEnum
from typing import Final

from harmoni.model.errors import LocalProtocolError


class State(IntEnum):
    """The 13 states (PS3.8 Tables 9-1 to 9-5)."""

    STA1 = 1
    """Idle."""
    STA2 = 2
    """Transport open; awaiting A-ASSOCIATE-RQ. ARTIM runs."""
    STA3 = 3
    """Awaiting the local A-ASSOCIATE response."""
    STA4 = 4
    """Awaiting the transport to open."""
    STA5 = 5
    """Awaiting A-ASSOCIATE-AC or -RJ."""
    STA6 = 6
    """Association established; ready for data."""
    STA7 = 7
    """Awaiting A-RELEASE-RP."""
    STA8 = 8
    """Awaiting the local A-RELEASE response."""
    STA9 = 9
    """Release collision, requestor side: awaiting the local A-RELEASE response."""
    STA10 = 10
    """Release collision, acceptor side: awaiting A-RELEASE-RP."""
    STA11 = 11
    """Release collision, requestor side: awaiting A-RELEASE-RP."""
    STA12 = 12
    """Release collision, acceptor side: awaiting the local A-RELEASE response."""
    STA13 = 13
    """Awaiting the transport to close. ARTIM runs."""


class Evt(IntEnum):
    """The 19 events (PS3.8 Table 9-10, its rows)."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATED = 5
    ASSOCIATE_RQ_PDU = 6
    ASSOCIATE_ACCEPT = 7
    ASSOCIATE_REJECT = 8
    DATA_REQUEST = 9
    DATA_TF_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(Enum):
    """The 28 actions (PS3.8 Tables 9-6 to 9-9)."""

    AE_1 = "AE-1"
    """Open the transport."""
    AE_2 = "AE-2"
    """Send A-ASSOCIATE-RQ."""
    AE_3 = "AE-3"
    """Confirm: accepted."""
    AE_4 = "AE-4"
    """Confirm: rejected; close the transport."""
    AE_5 = "AE-5"
    """Take the transport; start ARTIM."""
    AE_6 = "AE-6"
    """Stop ARTIM; indicate the request, or send A-ASSOCIATE-RJ and start ARTIM."""
    AE_7 = "AE-7"
    """Send A-ASSOCIATE-AC."""
    AE_8 = "AE-8"
    """Send A-ASSOCIATE-RJ; start ARTIM."""
    DT_1 = "DT-1"
    """Send P-DATA-TF."""
    DT_2 = "DT-2"
    """Indicate data."""
    AR_1 = "AR-1"
    """Send A-RELEASE-RQ."""
    AR_2 = "AR-2"
    """Indicate release."""
    AR_3 = "AR-3"
    """Confirm release; close the transport."""
    AR_4 = "AR-4"
    """Send A-RELEASE-RP; start ARTIM."""
    AR_5 = "AR-5"
    """Stop ARTIM."""
    AR_6 = "AR-6"
    """Indicate data."""
    AR_7 = "AR-7"
    """Send P-DATA-TF."""
    AR_8 = "AR-8"
    """Indicate release: collision."""
    AR_9 = "AR-9"
    """Send A-RELEASE-RP."""
    AR_10 = "AR-10"
    """Confirm release."""
    AA_1 = "AA-1"
    """Send A-ABORT; start ARTIM."""
    AA_2 = "AA-2"
    """Stop ARTIM; close the transport."""
    AA_3 = "AA-3"
    """Indicate abort; close the transport."""
    AA_4 = "AA-4"
    """Indicate abort by the provider."""
    AA_5 = "AA-5"
    """Stop ARTIM."""
    AA_6 = "AA-6"
    """Ignore the PDU."""
    AA_7 = "AA-7"
    """Send A-ABORT."""
    AA_8 = "AA-8"
    """Send A-ABORT as the provider; indicate it; start ARTIM."""


# Rows are events, columns the states Sta1 to Sta13, as in the standard; a dot is an empty cell.
_TABLE_9_10: Final = """
  1 AE-1  .     .     .     .     .     .     .     .     .     .     .     .
  2 .     .     .     AE-2  .     .     .     .     .     .     .     .     .
  3 .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
  4 .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
  5 AE-5  .     .     .     .     .     .     .     .     .     .     .     .
  6 .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
  7 .     .     AE-7  .     .     .     .     .     .     .     .     .     .
  8 .     .     AE-8  .     .     .     .     .     .     .     .     .     .
  9 .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
 10 .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 11 .     .     .     .     .     AR-1  .     .     .     .     .     .     .
 12 .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 13 .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
 14 .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
 15 .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
 16 .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
 17 .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
 18 .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
 19 .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _parse(table: str) -> dict[tuple[Evt, State], Action]:
    cells: dict[tuple[Evt, State], Action] = {}
    for line in table.strip().splitlines():
        number, *row = line.split()
        for state, cell in zip(State, row, strict=True):
            if cell != ".":
                cells[Evt(int(number)), state] = Action(cell)
    return cells


TABLE: Final = _parse(_TABLE_9_10)
"""(event, state) → action, for the cells that are not empty."""

NEXT_STATES: Final = {
    Action.AE_1: (State.STA4,),
    Action.AE_2: (State.STA5,),
    Action.AE_3: (State.STA6,),
    Action.AE_4: (State.STA1,),
    Action.AE_5: (State.STA2,),
    Action.AE_6: (State.STA3, State.STA13),  # acceptable to the provider, or not
    Action.AE_7: (State.STA6,),
    Action.AE_8: (State.STA13,),
    Action.DT_1: (State.STA6,),
    Action.DT_2: (State.STA6,),
    Action.AR_1: (State.STA7,),
    Action.AR_2: (State.STA8,),
    Action.AR_3: (State.STA1,),
    Action.AR_4: (State.STA13,),
    Action.AR_5: (State.STA1,),
    Action.AR_6: (State.STA7,),
    Action.AR_7: (State.STA8,),
    Action.AR_8: (State.STA9, State.STA10),  # association requestor, or acceptor
    Action.AR_9: (State.STA11,),
    Action.AR_10: (State.STA12,),
    Action.AA_1: (State.STA13,),
    Action.AA_2: (State.STA1,),
    Action.AA_3: (State.STA1,),
    Action.AA_4: (State.STA1,),
    Action.AA_5: (State.STA1,),
    Action.AA_6: (State.STA13,),
    Action.AA_7: (State.STA13,),
    Action.AA_8: (State.STA13,),
}
"""The state after an action; where there are two, the first if the named condition holds."""

_STARTS_ARTIM: Final = frozenset((Action.AE_5, Action.AE_8, Action.AR_4, Action.AA_1, Action.AA_8))
_STOPS_ARTIM: Final = frozenset((Action.AE_6, Action.AA_2, Action.AA_5, Action.AR_5))


class Machine:
    """One walk through Table 9-10, from Sta1 until the transport is to be closed.

    Args:
        artim_s: the length of the ARTIM timer.

    Attributes:
        state: where it is.
        artim_ends_s: when ARTIM expires, in monotonic seconds; None while it does not run.
        closing: the way led back to Sta1; a new association needs a new machine.
    """

    def __init__(self, artim_s: float) -> None:
        self.state = State.STA1
        self.artim_ends_s: float | None = None
        self.closing = False
        self._artim_s = artim_s

    def act(self, evt: Evt, now_s: float, *, other: bool = False) -> Action:
        """Go through one cell.

        Args:
            evt: what happened.
            now_s: monotonic seconds, for ARTIM.
            other: take the second of two next states: AE-6 rejects, AR-8 is the acceptor's.

        Returns:
            The action; the caller carries out what it sends and indicates.

        Raises:
            LocalProtocolError: the cell is empty.
        """
        action = TABLE.get((evt, self.state))
        if action is None:
            raise LocalProtocolError(f"{evt.name} is not possible in {self.state.name}")
        states = NEXT_STATES[action]
        self.state = states[-1] if other else states[0]
        if action in _STOPS_ARTIM:
            self.artim_ends_s = None
        if action in _STARTS_ARTIM or (action is Action.AE_6 and self.state is State.STA13):
            self.artim_ends_s = now_s + self._artim_s
        if self.state is State.STA1:
            self.closing = True
        return action
