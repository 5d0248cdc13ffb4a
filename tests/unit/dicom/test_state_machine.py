"""Table 9-10 against a second copy, typed by action instead of by row."""

import pytest

from harmoni.dicom.state_machine import NEXT_STATES, TABLE, Action, Evt, Machine, State
from harmoni.model.errors import LocalProtocolError

# Action: {event: states}. Typed from Tables 9-6 to 9-10, independently of the module's own rows.
_FROM_3_WITHOUT_4 = {3, 5, 6, 7, 8, 9, 10, 11, 12}
EXPECTED = {
    "AE-1": {1: {1}},
    "AE-2": {2: {4}},
    "AE-3": {3: {5}},
    "AE-4": {4: {5}},
    "AE-5": {5: {1}},
    "AE-6": {6: {2}},
    "AE-7": {7: {3}},
    "AE-8": {8: {3}},
    "DT-1": {9: {6}},
    "DT-2": {10: {6}},
    "AR-1": {11: {6}},
    "AR-2": {12: {6}},
    "AR-3": {13: {7, 11}},
    "AR-4": {14: {8, 12}},
    "AR-5": {17: {13}},
    "AR-6": {10: {7}},
    "AR-7": {9: {8}},
    "AR-8": {12: {7}},
    "AR-9": {14: {9}},
    "AR-10": {13: {10}},
    "AA-1": {
        **{event: {2} for event in (3, 4, 10, 12, 13, 19)},
        15: _FROM_3_WITHOUT_4,
    },
    "AA-2": {15: {4}, 16: {2, 13}, 18: {2, 13}},
    "AA-3": {16: _FROM_3_WITHOUT_4},
    "AA-4": {17: _FROM_3_WITHOUT_4 | {4}},
    "AA-5": {17: {2}},
    "AA-6": {event: {13} for event in (3, 4, 10, 12, 13)},
    "AA-7": {6: {13}, 19: {13}},
    "AA-8": {
        3: _FROM_3_WITHOUT_4 - {5},
        4: _FROM_3_WITHOUT_4 - {5},
        6: _FROM_3_WITHOUT_4,
        10: {3, 5, 8, 9, 10, 11, 12},
        12: {3, 5, 8, 9, 10, 11, 12},
        13: {3, 5, 6, 8, 9, 12},
        19: _FROM_3_WITHOUT_4,
    },
}


def test_every_cell_of_table_9_10_is_the_standards():
    expected = {
        (event, state): name
        for name, cells in EXPECTED.items()
        for event, states in cells.items()
        for state in states
    }
    for event in range(1, 20):
        for state in range(1, 14):
            action = TABLE.get((Evt(event), State(state)))
            assert expected.get((event, state)) == (action and action.value), (event, state)


def test_no_cell_is_outside_13_states_and_19_events():
    assert {event for event, _ in TABLE} == set(Evt)
    assert {state for _, state in TABLE} == set(State)
    assert (len(Evt), len(State), len(Action)) == (19, 13, 28)


def test_every_action_has_the_next_states_of_tables_9_6_to_9_9():
    expected = dict.fromkeys(Action, (13,))
    for names, state in (
        ("AE-1", 4),
        ("AE-2", 5),
        ("AE-3 AE-7 DT-1 DT-2", 6),
        ("AE-5", 2),
        ("AR-1 AR-6", 7),
        ("AR-2 AR-7", 8),
        ("AR-9", 11),
        ("AR-10", 12),
        ("AE-4 AR-3 AR-5 AA-2 AA-3 AA-4 AA-5", 1),
    ):
        expected |= {Action(name): (state,) for name in names.split()}
    expected |= {Action.AE_6: (3, 13), Action.AR_8: (9, 10)}
    assert expected == NEXT_STATES


def test_a_machine_walks_the_table_and_keeps_artim():
    machine = Machine(artim_s=30.0)
    assert machine.act(Evt.TRANSPORT_INDICATED, 5.0) is Action.AE_5
    assert (machine.state, machine.artim_ends_s) == (State.STA2, 35.0)
    machine.act(Evt.ASSOCIATE_RQ_PDU, 6.0)
    assert (machine.state, machine.artim_ends_s) == (State.STA3, None)
    machine.act(Evt.ASSOCIATE_REJECT, 7.0)
    assert (machine.state, machine.artim_ends_s) == (State.STA13, 37.0)
    machine.act(Evt.ARTIM_EXPIRED, 37.0)
    assert (machine.state, machine.artim_ends_s, machine.closing) == (State.STA1, None, True)


def test_a_request_that_the_provider_rejects_starts_artim_anew():
    machine = Machine(artim_s=30.0)
    machine.act(Evt.TRANSPORT_INDICATED, 0.0)
    machine.act(Evt.ASSOCIATE_RQ_PDU, 6.0, other=True)
    assert (machine.state, machine.artim_ends_s) == (State.STA13, 36.0)


def test_an_empty_cell_is_our_callers_fault_and_changes_nothing():
    machine = Machine(artim_s=30.0)
    with pytest.raises(LocalProtocolError, match="RELEASE_REQUEST is not possible in STA1"):
        machine.act(Evt.RELEASE_REQUEST, 0.0)
    assert machine.state is State.STA1
