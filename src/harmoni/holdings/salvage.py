"""Saving a pack on which a write or a flush failed: its members, encrypted anew into a new pack.

After a failed flush nobody knows what the kernel still believes of a file, so nothing is appended
to it and it is never flushed again. What it had acknowledged was flushed before, is read back from
the disk, verified, and encrypted under a new key for a new pack, since a member is bound to its
pack. Sequence numbers stay, and the new pack's id follows the old one's immediately: the order in
which copies and versions came is what it was.
"""

import os
from collections.abc import Iterator

from harmoni.backends.filesystem import File, Filesystem
from harmoni.holdings.survey import Survey
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Location
from harmoni.sealing import pack, streaming, tar
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout
from harmoni.vault.writer import PackWriter


def salvage(
    file: File, found: Survey, *, files: Filesystem, layout: Layout, keyring: Keyring
) -> tuple[PackWriter, list[Location]]:
    """Copy every member that verified into a new pack.

    Args:
        file: the fenced pack.
        found: what a survey of it found.
        files: the store.
        layout: the hospital's names.
        keyring: gives the new pack its key.

    Returns:
        The new pack, flushed and still locked, and where each member lies in it. The caller lets
        the index follow, then removes the old pack and closes the new one.

    Raises:
        Damaged: a member does not verify any more.
        OutOfResources, StorageFailed: the new pack counts for nothing; the old one is untouched.
    """
    key_id, data_key = keyring.mint()
    writer = PackWriter(
        files=files,
        hospital=found.readme.hospital,
        site=found.readme.site,
        pack_id=_free_id(files, layout, found.readme.pack_id),
        kind=found.readme.kind,
        key_id=key_id,
        data_key=data_key,
    )
    try:
        places = [_copy(file, member, found, writer, keyring) for member in found.members]
        writer.sync()
    except BaseException:
        writer.close()
        raise
    return writer, places


def _free_id(files: Filesystem, layout: Layout, pack_id: PackId) -> PackId:
    """The nearest later id that names no pack; an attempt that was cut short may have left one."""
    candidate = pack_id.successor()
    while any(map(files.exists, layout.places_of_pack(candidate))):
        candidate = candidate.successor()
    return candidate


def _copy(
    file: File, member: pack.PublicMember, found: Survey, writer: PackWriter, keyring: Keyring
) -> Location:
    """Encrypt one member for the new pack, as it is read."""
    name = pack.parse_name(member.name)
    assert name is not None
    # An event keeps its own key, which only its subject's events have.
    key_id = name.key_id or found.readme.key_id
    key = keyring.data_key(key_id)
    encryptor = streaming.Encryptor(
        data_key=writer.data_key if name.key_id is None else key,
        associated_data=_binding(name.kind, found, writer.pack_id, member.sequence),
        salt=os.urandom(streaming.SALT_BYTES),
        nonce_prefix=os.urandom(streaming.NONCE_PREFIX_BYTES),
    )
    plaintext = reader.open_member(
        file,
        offset=member.offset,
        size_bytes=member.size_bytes,
        data_key=key,
        associated_data=_binding(name.kind, found, found.readme.pack_id, member.sequence),
    )
    header = tar.member_header(member.name, member.size_bytes, found.readme.pack_id.time_ms // 1000)
    offset = writer.append([header]) + len(header)
    for ciphertext in _encrypted(encryptor, plaintext):
        writer.append([ciphertext])
    writer.append([bytes(tar.padding(member.size_bytes))])
    return Location(writer.pack_id, member.sequence, offset, member.size_bytes)


def _binding(kind: pack.Kind, found: Survey, pack_id: PackId, sequence: int) -> bytes:
    return pack.associated_data(
        kind=kind, hospital=found.readme.hospital, pack_id=pack_id, sequence=sequence
    )


def _encrypted(
    encryptor: streaming.Encryptor, plaintext: Iterator[memoryview]
) -> Iterator[bytearray]:
    for run in plaintext:
        out = bytearray()
        encryptor.update(run, out)
        yield out
    out = bytearray()
    encryptor.finish(out)
    yield out
