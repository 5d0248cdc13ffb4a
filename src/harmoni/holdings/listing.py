"""The manifest of a sealed pack on disk: encrypted into its tail, and read back from it."""

import os
from dataclasses import dataclass

from harmoni.backends.filesystem import File
from harmoni.sealing import manifest, pack, streaming, tail
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring


@dataclass(frozen=True, slots=True)
class SealedListing:
    """What the tail of a sealed pack says."""

    manifest: manifest.Manifest
    public: pack.PublicTable
    footer: tail.Footer


def encrypt(contents: manifest.Manifest, data_key: bytes) -> bytearray:
    """The ciphertext of a manifest, under its pack's data key."""
    return streaming.encrypt(
        [contents.encode()],
        data_key=data_key,
        associated_data=pack.associated_data(
            kind=pack.Kind.MANIFEST,
            hospital=contents.hospital,
            pack_id=contents.pack_id,
            sequence=0,
        ),
        salt=os.urandom(streaming.SALT_BYTES),
        nonce_prefix=os.urandom(streaming.NONCE_PREFIX_BYTES),
    )


def read(file: File, keyring: Keyring) -> SealedListing:
    """Read a sealed pack's tail, and nothing else of it.

    Raises:
        Damaged: there is no whole tail, or any byte of it was altered.
        NotHeld: the pack's key is gone.
    """
    footer, parsed = reader.read_tail(file)
    public = parsed.public
    plaintext = streaming.decrypt(
        parsed.manifest_ciphertext,
        data_key=keyring.data_key(public.key_id),
        associated_data=pack.associated_data(
            kind=pack.Kind.MANIFEST, hospital=public.hospital, pack_id=public.pack_id, sequence=0
        ),
    )
    return SealedListing(manifest.Manifest.decode(bytes(plaintext)), public, footer)
