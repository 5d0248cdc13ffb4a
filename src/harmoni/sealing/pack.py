"""The layout of a pack: one POSIX tar of encrypted members (docs/reference/pack-format.md).

    README                        plain: what this is, ids, suite, key id
    i/00000000, i/00000001, …     instances, encrypted (or e/… events)
    manifest                      encrypted
    public.json                   plain: where each member lies and the SHA-256 of its ciphertext
    footer                        512 bytes: where manifest and public.json lie, hash of all before
    two blocks of zeros           the end of a tar archive

Here are names, kinds, bindings and the two plain tables; tar.py has the headers, tail.py the end,
manifest.py the manifest. Nothing here reads or writes files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from harmoni.model.errors import Damaged, InvalidInput
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.sealing import document, streaming
from harmoni.sealing.keys import KeyId
from harmoni.sealing.streaming import Buffer
from harmoni.sealing.tar import BLOCK_BYTES, member_header, padding

VERSION: Final = 1
"""Of the file: README, members' binding, public.json and footer. Frozen."""
SUITE: Final = "aes256-gcm-hkdf-sha256-64k"
"""Name of the one suite there is: Tink streaming, AES-256-GCM, HKDF-SHA-256, 64 KiB segments."""

README_NAME: Final = "README"
MANIFEST_NAME: Final = "manifest"
PUBLIC_NAME: Final = "public.json"
FOOTER_NAME: Final = "footer"


class Kind(StrEnum):
    """What a member is; bound into its encryption."""

    INSTANCE = "instance"
    EVENT = "event"
    MANIFEST = "manifest"


class PackKind(StrEnum):
    """What a pack holds."""

    INSTANCES = "instances"
    EVENTS = "events"


MAX_SEQUENCE: Final = 99_999_999
_MEMBER_NAME: Final = re.compile(
    r"(?:i/(?P<instance>[0-9]{8})|e/(?P<event>[0-9]{8})\.(?P<key_id>[0-9A-Z]{26}\.[0-9]{1,3}))"
)


def path(pack_id: PackId) -> str:
    """Where a sealed pack lies below the root of its hospital's store."""
    return f"p/{pack_id.folder}/{pack_id}.tar"


def instance_name(sequence: int) -> str:
    """The name of an instance's member."""
    return f"i/{_checked(sequence):08d}"


def event_name(sequence: int, key_id: str) -> str:
    """The name of an event's member; it tells the key, since each event may have its own."""
    return f"e/{_checked(sequence):08d}.{key_id}"


def _checked(sequence: int) -> int:
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise InvalidInput(f"a pack has no member {sequence}: seal it and open another")
    return sequence


@dataclass(frozen=True, slots=True)
class MemberName:
    """What the name of an encrypted member says."""

    kind: Kind
    sequence: int
    key_id: str | None
    """The data key of an event; instances and the manifest use the pack's."""


def parse_name(name: str) -> MemberName | None:
    """Read the name of an instance, an event or the manifest; None for the plain members."""
    if name == MANIFEST_NAME:
        return MemberName(Kind.MANIFEST, 0, None)
    match = _MEMBER_NAME.fullmatch(name)
    if match is None:
        return None
    if match["instance"] is not None:
        return MemberName(Kind.INSTANCE, int(match["instance"]), None)
    return MemberName(Kind.EVENT, int(match["event"]), match["key_id"])


def associated_data(*, kind: Kind, hospital: HospitalId, pack_id: PackId, sequence: int) -> bytes:
    """What a member's encryption is bound to: a member moved elsewhere does not open.

    Format version, suite, kind, hospital, pack id and sequence number, as ASCII, each after its
    length in two bytes, big endian. The manifest has sequence number 0.
    """
    words = (
        str(VERSION),
        SUITE,
        kind.value,
        hospital.value,
        pack_id.value,
        str(sequence),
    )
    return b"".join(
        len(word).to_bytes(2, "big") + word for word in (text.encode("ascii") for text in words)
    )


def encrypted_member(
    parts: Sequence[Buffer],
    *,
    name: str,
    mtime_s: int,
    data_key: bytes,
    associated_data: bytes,
    salt: bytes,
    nonce_prefix: bytes,
) -> bytearray:
    """A whole member, ready to be appended in one write: tar header | ciphertext | padding.

    The ciphertext begins 512 bytes after the start and is as long as
    `streaming.ciphertext_size` says. For members below 8 GiB whose parts are all in memory.

    Args:
        parts: the plaintext, in order.
        name: instance_name, event_name or MANIFEST_NAME.
        mtime_s: receive time in seconds since 1970.
        data_key: the 32 bytes of the pack's (or event's) data key.
        associated_data: what the member is bound to.
        salt: 32 random bytes, fresh for each member.
        nonce_prefix: 7 random bytes, fresh for each member.
    """
    size_bytes = streaming.ciphertext_size(sum(len(part) for part in parts))
    out = streaming.encrypt(
        parts,
        data_key=data_key,
        associated_data=associated_data,
        salt=salt,
        nonce_prefix=nonce_prefix,
        lead=BLOCK_BYTES,
        pad=padding(size_bytes),
    )
    out[:BLOCK_BYTES] = member_header(name, size_bytes, mtime_s)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMember:
    """Where one encrypted member lies, for scrub and repair without any key."""

    name: str
    sequence: int
    offset: int
    """Offset of the ciphertext from the start of the file."""
    size_bytes: int
    sha256: bytes
    """SHA-256 of the ciphertext."""


def read_key_id(fields: document.Fields, name: str) -> str:
    """A key id in a document; raises Damaged."""
    try:
        return str(KeyId.parse(fields.text(name)))
    except InvalidInput as error:
        raise Damaged(f"{error}; use another copy of the pack") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTable:
    """public.json: what may be known of a pack without any key; nothing about its content."""

    pack_id: PackId
    hospital: HospitalId
    site: SiteId
    kind: PackKind
    key_id: str
    """The pack's data key, "<block>.<row>"; in an event pack that of the manifest."""
    members: tuple[PublicMember, ...]
    """In order of their offsets; `tail` adds the manifest as the last one."""
    suite: str = SUITE

    def encode(self) -> bytes:
        """The canonical JSON."""
        members: list[document.Json] = [
            {
                "name": member.name,
                "sequence": member.sequence,
                "offset": member.offset,
                "size": member.size_bytes,
                "sha256": member.sha256.hex(),
            }
            for member in self.members
        ]
        return document.encode(
            {
                "version": VERSION,
                "suite": self.suite,
                "hospital": self.hospital.value,
                "site": self.site.value,
                "pack": self.pack_id.value,
                "kind": self.kind.value,
                "key": self.key_id,
                "members": members,
            }
        )

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read public.json.

        Raises:
            Damaged: it is not one.
        """
        fields = document.decode(data, "public.json", VERSION)
        return cls(
            pack_id=fields.pack_id("pack"),
            hospital=fields.hospital("hospital"),
            site=fields.site("site"),
            kind=PackKind(fields.choice("kind", tuple(PackKind))),
            key_id=read_key_id(fields, "key"),
            suite=fields.suite(SUITE),
            members=tuple(
                PublicMember(
                    name=member.text("name"),
                    sequence=member.number("sequence", MAX_SEQUENCE),
                    offset=member.number("offset"),
                    size_bytes=member.number("size"),
                    sha256=member.digest("sha256"),
                )
                for member in fields.objects("members")
            ),
        )


_FORMAT: Final = "harmoni-pack"
_README_ALTERED: Final = "the README of a pack is altered; use another copy"
_README_FIELDS: Final = ("format", "suite", "kind", "hospital", "site", "pack", "key")
_README_TEXT: Final = """\
This is one pack of an encrypted archive of medical images. The members in i/ are DICOM files, those
in e/ are events of the archive. Each is encrypted with AES-256-GCM-HKDF streaming (the format of
Tink: HKDF-SHA-256, ciphertext segments of 64 KiB) under the data key named above; events name their
own key after their number. The associated data is: format version 1, suite, kind of member
(instance, event, manifest), hospital, pack and number, each after its length in two bytes, big
endian. Data keys lie in key blocks, stored apart from packs. public.json lists where each member
lies and the SHA-256 of its ciphertext. The pages pack-format and keys-format of HARMONI's reference
describe every byte.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readme:
    """The plain first member: which pack this is and which key opens it; no patient data.

    It is what recovery knows of a pack that was never sealed.
    """

    pack_id: PackId
    hospital: HospitalId
    site: SiteId
    kind: PackKind
    key_id: str
    suite: str = SUITE

    def encode(self) -> bytes:
        """The text: lines "name: value", an empty line, then words for people."""
        values = (
            f"{_FORMAT} {VERSION}",
            self.suite,
            self.kind.value,
            self.hospital.value,
            self.site.value,
            self.pack_id.value,
            self.key_id,
        )
        lines = [f"{name}: {value}\n" for name, value in zip(_README_FIELDS, values, strict=True)]
        return ("".join(lines) + "\n" + _README_TEXT).encode("ascii")

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read it back.

        Raises:
            Damaged: these are not the bytes that `encode` gives.
            UnknownFormat: of another version or suite.
        """
        if b"\0" in bytes(data):
            # No version's text has one: it never reached the disk whole, and names no version.
            raise Damaged(_README_ALTERED)
        try:
            lines = bytes(data).decode("ascii").split("\n")[: len(_README_FIELDS)]
            values = dict(line.split(": ", 1) for line in lines)
            word, version = values["format"].split(" ")
            if word == _FORMAT:
                document.require_version(int(version), "the README of a pack", VERSION)
                document.require_suite(values["suite"], "the README of a pack", SUITE)
            readme = cls(
                pack_id=PackId(values["pack"]),
                hospital=HospitalId(values["hospital"]),
                site=SiteId(values["site"]),
                kind=PackKind(values["kind"]),
                key_id=str(KeyId.parse(values["key"])),
            )
        except (ValueError, KeyError, InvalidInput):
            raise Damaged(_README_ALTERED) from None
        if readme.encode() != data:
            raise Damaged(_README_ALTERED)
        return readme
