from hypothesis import given
from hypothesis import strategies as st

from harmoni.services import storage_scu
from memory_archive import Stored


@st.composite
def plans(draw):
    """Instances of up to 300 classes in up to 3 syntaxes, in any order."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2)), max_size=400))
    return [
        Stored(
            sop_class_uid=f"1.2.{sop_class}",
            sop_instance_uid=f"1.3.{number}",
            transfer_syntax_uid=f"1.4.{syntax}",
            data=b"",
        )
        for number, (sop_class, syntax) in enumerate(pairs)
    ]


@given(plans())
def test_every_instance_is_in_one_batch_that_proposes_its_class_in_its_syntax(plan):
    sent = []
    for contexts, batch in storage_scu.batches(plan):
        ids = [context.id for context in contexts]
        assert 0 < len(ids) <= 128
        assert ids == [2 * index + 1 for index in range(len(ids))]
        proposed = {(c.abstract_syntax, *c.transfer_syntaxes) for c in contexts}
        assert proposed == {(one.sop_class_uid, one.transfer_syntax_uid) for one in batch}
        numbers = [int(one.sop_instance_uid[4:]) for one in batch]
        assert numbers == sorted(numbers)
        sent += batch
    assert sorted(sent, key=lambda one: int(one.sop_instance_uid[4:])) == plan
