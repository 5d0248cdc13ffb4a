"""Walking a pack and opening every member of it: what is really there, told by the bytes alone.

Finishing, salvage and rebuild of open packs all see a pack through this one reading.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from harmoni.backends.filesystem import File
from harmoni.dicom import part10, uids
from harmoni.dicom.scanner import Scanner
from harmoni.index import ingest
from harmoni.model.errors import Damaged, Erased, InvalidInput, NotHeld, UnknownFormat
from harmoni.model.instance import Identity, Instance, Location
from harmoni.sealing import event, pack, provenance
from harmoni.sealing.manifest import ListedEvent
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a walk found."""

    readme: pack.Readme
    instances: list[Instance] = field(default_factory=list)
    events: list[tuple[ListedEvent, event.Event]] = field(default_factory=list)
    members: list[pack.PublicMember] = field(default_factory=list)
    """The members that verified, in the order of the file."""
    erased: set[int] = field(default_factory=set)
    """The sequence numbers of events that were erased: whole, and not to be opened any more."""
    keyless: dict[int, str] = field(default_factory=dict)
    """Events whose own key is not here, each with the reason: it may come back."""
    end: int = 0
    """Where the last member that verified ends, padding included."""

    def facts(self) -> list[ingest.Fact]:
        """The events as the index knows them."""
        return [
            ingest.Fact(
                pack_id=self.readme.pack_id,
                sequence=listed.sequence,
                kind=told.kind,
                at_ms=told.at_ms,
                subject=told.subject,
                body=told.body,
            )
            for listed, told in self.events
        ]


def survey(file: File, keyring: Keyring) -> Survey:
    """Open every member of a pack.

    Members that do not verify are left out; the caller, who knows what was acknowledged, decides
    whether that is a torn tail or damage.

    Args:
        file: the pack.
        keyring: the hospital's keys.

    Raises:
        Damaged: the README cannot be read, so nothing of the pack can.
        UnknownFormat: the pack, or an event or provenance in it, is of a newer version.
        NotHeld: the pack's key is gone.
    """
    readme = reader.read_readme(file)
    found = Survey(readme=readme)
    data_key = keyring.data_key(readme.key_id)
    memory = reader.RunMemory()
    for member in reader.walk(file):
        name = pack.parse_name(member.name)
        if member.name == pack.README_NAME:
            found.end = member.end
        if name is None or name.kind is pack.Kind.MANIFEST:
            continue
        place = Location(readme.pack_id, name.sequence, member.offset, member.size_bytes)
        try:
            if name.kind is pack.Kind.INSTANCE:
                instance, sha256 = open_instance(file, readme, place, data_key, memory)
                found.instances.append(instance)
            else:
                key_id = name.key_id or readme.key_id
                listed, told, sha256 = _open_event(file, readme, place, key_id, keyring)
                found.events.append((listed, told))
        except Erased:
            found.erased.add(name.sequence)
            continue
        except NotHeld as error:
            found.keyless[name.sequence] = str(error)
            continue
        except UnknownFormat:
            raise  # whole, and a newer program's: nothing of this pack may be cut or dropped
        except (Damaged, InvalidInput):  # the latter: an altered name names no key
            continue
        found.members.append(
            pack.PublicMember(
                name=member.name,
                sequence=name.sequence,
                offset=member.offset,
                size_bytes=member.size_bytes,
                sha256=sha256,
            )
        )
        found.end = member.end
    return found


def open_instance(
    file: File,
    readme: pack.Readme,
    place: Location,
    data_key: bytes,
    memory: reader.RunMemory | None = None,
) -> tuple[Instance, bytes]:
    """Open one member and learn everything about its instance from its own bytes.

    Returns:
        The instance, and the SHA-256 of the member's ciphertext.

    Raises:
        Damaged: any byte of it is not what was written.
    """
    ciphertext_hash = hashlib.sha256()
    runs = reader.open_member(
        file,
        offset=place.offset,
        size_bytes=place.size_bytes,
        data_key=data_key,
        associated_data=pack.associated_data(
            kind=pack.Kind.INSTANCE,
            hospital=readme.hospital,
            pack_id=readme.pack_id,
            sequence=place.sequence,
        ),
        observe=ciphertext_hash.update,
        memory=memory,
    )
    first = next(runs)
    try:
        meta = part10.read_prefix(first)
    except InvalidInput as error:
        raise Damaged(f"{file.name}, member {place.sequence}: {error}") from error
    syntax = uids.storage_transfer_syntax(meta.transfer_syntax_uid)
    if syntax is None or meta.private_information is None:
        raise Damaged(f"{file.name}, member {place.sequence} has a file meta that is not ours")
    told = provenance.decode(meta.private_information)
    scanner = Scanner(syntax)
    digest, size_bytes = _read_data_set(first[meta.dataset_offset :], runs, scanner)
    instance = Instance(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        header=scanner.header(),
        identity=Identity(meta.transfer_syntax_uid, digest, size_bytes),
        location=place,
        salt=told.salt,
        received_at_ms=told.received_at_ms,
        origin=told.origin,
    )
    return instance, ciphertext_hash.digest()


def _read_data_set(
    first: memoryview, rest: Iterable[memoryview], scanner: Scanner
) -> tuple[bytes, int]:
    digest = hashlib.sha256(first)
    scanner.feed(first)
    size_bytes = len(first)
    for run in rest:
        digest.update(run)
        size_bytes += len(run)
        if not scanner.done:
            scanner.feed(run)
    return digest.digest(), size_bytes


def _open_event(
    file: File, readme: pack.Readme, place: Location, key_id: str, keyring: Keyring
) -> tuple[ListedEvent, event.Event, bytes]:
    ciphertext_hash = hashlib.sha256()
    runs = reader.open_member(
        file,
        offset=place.offset,
        size_bytes=place.size_bytes,
        data_key=keyring.data_key(key_id),
        associated_data=pack.associated_data(
            kind=pack.Kind.EVENT,
            hospital=readme.hospital,
            pack_id=readme.pack_id,
            sequence=place.sequence,
        ),
        observe=ciphertext_hash.update,
    )
    plaintext = b"".join(runs)
    told = event.Event.decode(plaintext)
    listed = ListedEvent(
        sequence=place.sequence,
        offset=place.offset,
        size_bytes=place.size_bytes,
        key_id=key_id,
        kind=told.kind,
        at_ms=told.at_ms,
        sha256=hashlib.sha256(plaintext).digest(),
        salt=told.salt,
    )
    return listed, told, ciphertext_hash.digest()
