import os
from itertools import combinations

import pytest

from harmoni.model.errors import Damaged, InvalidInput
from harmoni.sealing import age
from harmoni.vault import shares


@pytest.fixture(scope="module")
def identity():
    return age.generate_identity(random=os.urandom(32))


@pytest.fixture(scope="module")
def made(identity):
    return shares.split(identity)


def test_five_shares_of_33_words_are_made(made):
    assert [len(share.split()) for share in made] == [33] * 5


def test_every_three_of_five_give_the_identity_back(made, identity):
    for three in combinations(made, 3):
        assert shares.combine(three) == identity
    assert shares.prove(made, identity) == 10


def test_more_than_three_are_all_compared(made, identity):
    assert shares.combine(made) == identity


def test_two_shares_or_one_of_them_twice_are_refused(made):
    with pytest.raises(InvalidInput, match="3 different shares"):
        shares.combine(made[:2])
    with pytest.raises(InvalidInput, match="3 different shares"):
        shares.combine([made[0], made[1], made[1]])
    with pytest.raises(InvalidInput, match="different"):
        shares.combine([*made[:3], made[1]])


def test_shares_of_two_makings_do_not_fit(made, identity):
    with pytest.raises(InvalidInput, match="not of one set"):
        shares.combine([*made[:2], shares.split(identity)[2]])


def test_what_was_stored_wrong_is_found_before_anybody_relies_on_it(made, identity):
    other = shares.split(identity)
    with pytest.raises(Damaged):
        shares.prove([*made[:4], other[4]], identity)
    with pytest.raises(Damaged):
        shares.prove(made[:4], identity)
    with pytest.raises(Damaged):
        shares.prove(made, age.generate_identity(random=os.urandom(32)))


def test_a_share_is_read_with_remarks_and_numbers_and_in_capitals(made):
    words = made[0].split()
    rows = [f"{place}. {word.upper()}" for place, word in enumerate(words, 1)]
    assert shares.read("# whose it is\n" + "\n".join(rows)) == made[0]


def slipped(share, fault):
    words = share.split()
    if fault == "word":
        words[9] = "academic" if words[9] != "academic" else "acid"
    elif fault == "order":
        place = next(i for i in range(5, 32) if words[i] != words[i + 1])
        words[place], words[place + 1] = words[place + 1], words[place]
    else:
        words = words[:32] if fault == "short" else [*words, "acid"]
    return " ".join(words)


@pytest.mark.parametrize("fault", ["word", "order", "short", "long"])
def test_a_share_with_a_slip_of_the_pen_is_refused_in_words_that_do_not_depend_on_it(made, fault):
    # An English word of the error may stand in a share by chance; the same text for all of them
    # shows that none of it was taken from one.
    told = set()
    for share in made:
        with pytest.raises(InvalidInput) as caught:
            shares.read(slipped(share, fault))
        told.add(str(caught.value))
    assert len(told) == 1


def test_a_fingerprint_is_what_sha256sum_says_of_the_recipient(identity):
    import hashlib

    text = identity.recipient().to_string()
    assert (
        shares.fingerprint(identity.recipient()) == hashlib.sha256(text.encode()).hexdigest()[:16]
    )
