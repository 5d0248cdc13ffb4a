"""Recalling: giving an instance's data set back, byte for byte, or nothing.

Every segment is authenticated before its bytes leave, and the SHA-256 of the whole is compared
before the last bytes do. A caller that meets `Damaged` must abort: what it sent is not complete.
"""

import hashlib
from collections.abc import Iterator

from harmoni.index.lookup import Held
from harmoni.model.errors import Damaged
from harmoni.model.identifiers import HospitalId
from harmoni.sealing import pack, streaming
from harmoni.vault import reader


def data_set(packs: reader.PackReader, hospital: HospitalId, held: Held) -> Iterator[memoryview]:
    """The data set of a held instance, in chunks of up to 512 KiB.

    Args:
        packs: the hospital's packs.
        hospital: whose instance.
        held: which copy.

    Yields:
        The bytes as they were received; the last chunk only after the hash was compared.

    Raises:
        Damaged: a segment or the hash is wrong; do not let the receiver believe what it has.
        NotHeld: the pack is missing.
    """
    opened = packs.open(held.location.pack_id)
    location, identity = held.location, held.identity
    skip = streaming.plaintext_size(location.size_bytes) - identity.size_bytes
    digest = hashlib.sha256()
    kept = memoryview(b"")
    for run in reader.open_member(
        opened.file,
        offset=location.offset,
        size_bytes=location.size_bytes,
        data_key=opened.data_key,
        associated_data=pack.associated_data(
            kind=pack.Kind.INSTANCE,
            hospital=hospital,
            pack_id=location.pack_id,
            sequence=location.sequence,
        ),
    ):
        chunk = run[skip:]
        skip = max(0, skip - len(run))
        digest.update(chunk)
        if kept:
            yield kept
        kept = chunk
    if digest.digest() != identity.sha256:
        raise Damaged(
            f"member {location.sequence} of pack {location.pack_id} is not what was received; "
            "repair it from another copy"
        )
    yield kept
