"""The Merkle tree hash of RFC 9162 2.1.1, over SHA-256."""

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256 over 0x00 and the entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 over 0x01 and both children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """The root over a list of entries, in their order; of none, the SHA-256 of nothing.

    Works level by level: pairing neighbours and carrying an odd last one up unchanged gives the
    same tree as the standard's split at the largest power of two.
    """
    if not entries:
        return hashlib.sha256().digest()
    level = [leaf_hash(entry) for entry in entries]
    while len(level) > 1:
        paired = list(map(node_hash, level[::2], level[1::2]))
        level = paired + level[2 * len(paired) :]
    return level[0]
