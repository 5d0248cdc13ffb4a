"""Fixity of a sealed pack without any key: the hash of the file, and which members differ.

One pass of SHA-256 tells whether the file is what was sealed. Only if it is not, the pack's own
table of ciphertext hashes tells where.
"""

import hashlib
from collections.abc import Callable

from harmoni.backends.filesystem import File
from harmoni.model.errors import Damaged, StorageFailed
from harmoni.runtime.progress import unwatched
from harmoni.vault import reader

Observe = Callable[[int], object]
"""Told how many bytes were read, run by run; may wait, to read slower."""


def sha256(file: File, observe: Observe = unwatched) -> bytes:
    """The SHA-256 of a whole file as the disk has it: the kernel's pages of it are dropped first.

    They are dropped afterwards as well: reading everything must not push out what people read.

    Raises:
        StorageFailed: the disk does not give some byte of it.
    """
    digest = hashlib.sha256()
    file.forget_cache()
    for run in reader.runs(file, 0, file.size_bytes()):
        digest.update(run)
        observe(len(run))
    file.forget_cache()
    return digest.digest()


def differing(file: File) -> tuple[str, ...]:
    """The names of the members whose ciphertext is not the one that was sealed.

    Raises:
        Damaged: the table that says so cannot be read.
    """
    names = []
    for member in reader.read_tail(file)[1].public.members:
        digest = hashlib.sha256()
        try:
            for run in reader.runs(file, member.offset, member.size_bytes):
                digest.update(run)
        except (Damaged, StorageFailed):
            names.append(member.name)
            continue
        if digest.digest() != member.sha256:
            names.append(member.name)
    return tuple(names)
