"""How bytes are sealed: members, packs, manifests, keys and the events of the store.

Pure: nothing here does I/O, reads a clock or draws random numbers. Salts, nonces, keys and times
are arguments; the one exception is the encapsulation inside age.py, where the cryptographic
library draws for itself.

The formats are frozen on the pages docs/reference/pack-format.md and keys-format.md, which are the
authority; tests/vectors holds files, good and bad, that must be judged the same way for ever.
"""
