"""Good bytes with some of them wrong, for whatever reads bytes of a peer or of a disk."""

import random

from hypothesis import strategies as st


def mutated(raw: bytes, source: random.Random) -> bytes:
    """Some bytes changed, removed, repeated or added."""
    data = bytearray(raw)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + source.randint(1, 32)]
            case _:
                data[at:at] = source.randbytes(source.randint(1, 8))
        data = data or bytearray(1)
    return bytes(data)


def mutations_of(*good: bytes) -> st.SearchStrategy[bytes]:
    """Mutations of any of these."""
    sources = st.integers(0, (1 << 32) - 1).map(random.Random)
    return st.builds(mutated, st.sampled_from(good), sources)
