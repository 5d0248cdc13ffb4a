"""Shares of a recovery identity: five lists of 33 words, any three of which give it back.

SLIP-39 over the identity's seed of 32 bytes, one group, without a passphrase: any program that
knows SLIP-39 combines them. The library that does it here is the standard's reference: it is not
hardened against an observer of the machine (docs/decisions/0019-shares-offline.md). So this module
is for a machine without any network, and nothing but `harmoni keys` imports it.
"""

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import shamir_mnemonic
from shamir_mnemonic import MnemonicError

from harmoni.model.errors import Damaged, InvalidInput
from harmoni.sealing import age

SHARES: Final = 5
THRESHOLD: Final = 3
WORDS: Final = 33
"""Words of a share of 32 bytes; the last three are its checksum."""
_FINGERPRINT_CHARACTERS: Final = 16


def fingerprint(recipient: age.Recipient) -> str:
    """What people compare instead of 1,960 characters: the start of the text's SHA-256."""
    digest = hashlib.sha256(recipient.to_string().encode()).hexdigest()
    return digest[:_FINGERPRINT_CHARACTERS]


def split(identity: age.Identity) -> tuple[str, ...]:
    """Make shares of an identity: different ones each time, and only those of one time fit.

    The caller proves with `prove` that what it stored is what was made, before the identity goes.

    Returns:
        SHARES texts, each WORDS words with a space between two.
    """
    [group] = shamir_mnemonic.generate_mnemonics(1, [(THRESHOLD, SHARES)], identity.seed)
    return tuple(group)


def read(text: str) -> str:
    """The words of a share as it is kept: lines that begin with # are remarks, and so are numbers.

    Raises:
        InvalidInput: its checksum is wrong. No word of it stands in the error: it is a secret.
    """
    lines = [line for line in text.lower().splitlines() if not line.lstrip().startswith("#")]
    words = [word for word in " ".join(lines).split() if word.strip(".").isalpha()]
    share = " ".join(words)
    if len(words) != WORDS:
        raise InvalidInput(f"a share has {WORDS} words, and here are {len(words)}; compare it")
    try:
        shamir_mnemonic.Share.from_mnemonic(share)
    except MnemonicError:
        raise InvalidInput(
            "the checksum of a share is wrong: a word of it is another, or two changed places; "
            "compare it with the paper"
        ) from None
    return share


def combine(shares: Sequence[str]) -> age.Identity:
    """Give the identity back. Of more than three shares every three must tell the same.

    Args:
        shares: at least three different ones, as `read` gives them.

    Raises:
        InvalidInput: too few, one of them twice, or not of one set.
    """
    if len(set(shares)) < THRESHOLD or len(set(shares)) != len(shares):
        raise InvalidInput(
            f"{THRESHOLD} different shares are needed, and here are {len(set(shares))}; "
            "ask another keeper for theirs"
        )
    identities = {_combined(three) for three in combinations(shares, THRESHOLD)}
    if len(identities) != 1:
        raise _strangers()
    return identities.pop()


def prove(shares: Sequence[str], identity: age.Identity) -> int:
    """Combine every three of all shares, as they were stored.

    Returns:
        How many combinations there were: ten.

    Raises:
        Damaged: one of them does not give this identity; none of these shares may be relied on.
    """
    threes = list(combinations(shares, THRESHOLD))
    for three in threes:
        try:
            found = _combined(three)
        except InvalidInput:
            found = None
        if found != identity or len(shares) != SHARES:
            raise Damaged(
                "shares that were just made do not give the identity back: destroy them, keep the "
                "identity, and begin again on another machine"
            )
    return len(threes)


def _combined(three: Sequence[str]) -> age.Identity:
    try:
        return age.Identity(shamir_mnemonic.combine_mnemonics(three))
    except MnemonicError:
        raise _strangers() from None


def _strangers() -> InvalidInput:
    return InvalidInput(
        "the shares are not of one set: of another hospital, or of another time that shares were "
        "made; take those with the same fingerprint"
    )
