from hypothesis import given
from hypothesis import strategies as st

from harmoni.services import exchange

IDS = st.integers(1, 0xFFFF)


@given(st.just(0) | IDS, st.frozensets(IDS | st.sampled_from([1, 2, 0xFFFE, 0xFFFF]), max_size=50))
def test_a_message_id_fits_its_element_and_is_never_outstanding(last, outstanding):
    number = exchange.next_message_id(last, outstanding)
    assert 1 <= number <= 0xFFFF
    assert number not in outstanding


def test_message_ids_count_up_from_1_and_begin_again():
    assert exchange.next_message_id(0, ()) == 1
    assert exchange.next_message_id(1, ()) == 2
    assert exchange.next_message_id(0xFFFF, ()) == 1
    assert exchange.next_message_id(0xFFFE, {0xFFFF, 1}) == 2
