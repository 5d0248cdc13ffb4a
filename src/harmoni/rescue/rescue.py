#!/usr/bin/env python3
"""Open packs of a HARMONI archive without HARMONI.

Needs Python 3.11 or newer and its package "cryptography", 47 or newer. Where these cannot be had,
rescue.mjs beside this file does the same with Node.js alone.

  With the recovery identity of the hospital, a text file with AGE-SECRET-KEY-PQ-1… in it:
    rescue.py --identity FILE --keys keys/HOSPITAL --out DIR PACK.tar …

  With what one site has, its custody key of 32 bytes and custody/HOSPITAL.SITE.identity:
    rescue.py --custody-key FILE --wrapped-identity FILE --keys keys/HOSPITAL --out DIR PACK.tar …

  To see first that this program still judges the examples as it should:
    rescue.py --check vectors

--keys is the folder with epochs/ and the key blocks; if there are several copies of a file below
it, the first that can be used is. A PACK may be a folder: then it means every *.tar below it.

Every instance becomes DIR/<pack id>-<number>.dcm, every event DIR/<pack id>-<number>.json. A file
is there only if every byte of it was authenticated and, where the pack is sealed, has the hash that
the manifest says. One line is printed for each. Exit codes: 0 everything is whole; 1 something is
damaged or its key is gone, and all the rest was written; 2 nothing was tried.
"""

# (K1) and (P1) are sections of keys-format.md and pack-format.md, the two pages beside this file.
# Nothing is read but what is named, nothing is written but files in DIR (--check: in a temporary
# folder). Errors are of two kinds: damaged, and no key.

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding

    MLKEM768PrivateKey.from_seed_bytes(bytes(64))  # not with every OpenSSL
except Exception as missing:  # noqa: BLE001 - whatever it is, there is another way
    print(f"rescue: the package cryptography is missing or too old: {missing}", file=sys.stderr)
    print("rescue: pip install 'cryptography>=47', or take rescue.mjs", file=sys.stderr)
    sys.exit(2)

Copy = TypeVar("Copy")
Value = TypeVar("Value")
Json = dict[str, Any]


class Damaged(Exception):
    """Something is there, and is not what was written."""


class Unknown(Damaged):
    """Something is of a version or suite that came after this program, or before it."""


class NotHeld(Exception):
    """A key is not here: erased, missing, or not for this identity."""


# ── Small things ─────────────────────────────────────────────────────────────────────────────────


def mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA-256 over parts, joined."""
    return hmac.digest(key, b"".join(parts), "sha256")


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of parts, joined."""
    return hashlib.sha256(b"".join(parts)).digest()


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256 (RFC 5869), which takes one round."""
    return mac(mac(salt, key), info, b"\1")


def prefixed(*words: str) -> bytes:
    """Strings, each after its length in two bytes (K4, P4)."""
    return b"".join(struct.pack(">H", len(word)) + word.encode() for word in words)


def unbase64(text: str, size: int | None = None) -> bytes:
    """Base64, with padding (P9) or without (K2); of so many bytes, if a size is given."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if size not in (None, len(data)):
        raise ValueError
    return data


def natural(value: object) -> int:
    """A number that counts something."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError
    return value


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever is missing, or of another kind than it must be, is damage."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise Damaged(f"{what} is damaged") from None


def parse(data: bytes, what: str, **same: str) -> Json:
    """A JSON object of version 1 (P9) with these fields."""
    with reading(what):
        value: Json = json.loads(data.decode())
        known(what, version=(natural(value["version"]), 1))
        if "suite" in same:
            known(what, suite=(value["suite"], same["suite"]))
        if any(value[name] != same[name] for name in same):
            raise ValueError
    return value


def known(what: str, **words: tuple[object, object]) -> None:
    """Refuse another version or suite than the one that is known here."""
    for name, (found, ours) in words.items():
        if found != ours:
            raise Unknown(f"{what} has {name} {found}, and this program knows {ours} alone")


def first(copies: Iterable[Copy], use: Callable[[Copy], Value], what: str) -> Value:
    """What the first copy gives that can be used; otherwise why the last one cannot."""
    trouble: Exception = NotHeld(f"{what} is missing")
    for copy in copies:
        try:
            return use(copy)
        except (Damaged, NotHeld) as error:
            trouble = error
    raise trouble


def content(path: Path) -> bytes:
    """A small file; one that its disk does not give is damaged, and there may be another copy."""
    try:
        return path.read_bytes()
    except OSError:
        raise Damaged(f"{path} cannot be read") from None


def files_below(folder: Path, pattern: str) -> list[Path]:
    """Every file below a folder, in one order on every machine."""
    return sorted((path for path in folder.rglob(pattern) if path.is_file()), key=str)


# ── Identity (K1) ────────────────────────────────────────────────────────────────────────────────

BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class Identity:
    """The private keys of the identity that stands somewhere in a text."""

    def __init__(self, text: str) -> None:
        found = re.search("AGE-SECRET-KEY-PQ-1([02-9AC-HJ-NP-Z]{58})(?![0-9A-Z])", text)
        if found is None:
            raise NotHeld("there is no AGE-SECRET-KEY-PQ-1… of 77 characters in the identity file")
        prefix = b"age-secret-key-pq-"
        groups = [BECH32.index(character) for character in found[1].lower()]
        if polymod([*(c >> 5 for c in prefix), 0, *(c & 31 for c in prefix), *groups]) != 1:
            raise NotHeld("a character of AGE-SECRET-KEY-PQ-1… is wrong: its checksum differs")
        # Of 58 groups of five bits the last six are the checksum; the others are 32 bytes, 0000.
        seed = sum(group << 5 * place for place, group in enumerate(groups[51::-1])) >> 4
        keys = hashlib.shake_256(seed.to_bytes(32, "big")).digest(96)
        self.mlkem = MLKEM768PrivateKey.from_seed_bytes(keys[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(keys[64:])

    @classmethod
    def unwrap(cls, custody_key: bytes, wrapped: bytes) -> "Identity":
        """The identity of a site: AES key wrap with padding (RFC 5649)."""
        try:
            return cls(aes_key_unwrap_with_padding(custody_key, wrapped).decode())
        except (InvalidUnwrap, ValueError):
            raise NotHeld("the wrapped identity does not open with this custody key") from None


def polymod(groups: Iterable[int]) -> int:
    """The remainder of BIP 173; 1 for a text without a mistake."""
    remainder = 1
    for group in groups:
        top, remainder = remainder >> 25, (remainder & 0x1FFFFFF) << 5 ^ group
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            remainder ^= term if top >> bit & 1 else 0
    return remainder


# ── age files (K2) ───────────────────────────────────────────────────────────────────────────────

AGE = re.compile(
    rb"(age-encryption\.org/v1\n(?:-> .+\n(?:[\w+/]{64}\n)*[\w+/]{0,63}\n)+---) (.{43})\n"
)
STANZA = re.compile(rb"-> mlkem768x25519 (.{1494})\n(.{43})\n")
HPKE = b"HPKE-v1HPKE" + struct.pack(">HHH", 0x647A, 1, 3)
CHUNK = 65_536 + 16


def open_age(data: bytes, identity: Identity) -> bytes:
    """The content of an age file."""
    header = AGE.match(data)
    if header is None:
        raise Damaged("an age file is damaged: it has no header")
    with reading("an age file"):
        stanzas = [
            (unbase64(key.decode(), 1120), unbase64(body.decode(), 32))
            for key, body in STANZA.findall(header[1])
        ]
        header_mac = unbase64(header[2].decode(), 32)
    file_key = next(filter(None, (open_stanza(*each, identity) for each in stanzas)), None)
    if file_key is None:
        raise NotHeld("an age file is not addressed to this identity")
    if not hmac.compare_digest(mac(hkdf(file_key, b"", b"header"), header[1]), header_mac):
        raise Damaged("the header of an age file fails authentication")
    nonce, payload = data[header.end() :][:16], data[header.end() + 16 :]
    cipher = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload"))
    last = max(0, len(payload) - 1) // CHUNK
    content = b""
    for number in range(last + 1):
        chunk = payload[number * CHUNK : (number + 1) * CHUNK]
        try:
            place = number.to_bytes(11, "big") + bytes([number == last])
            content += cipher.decrypt(place, chunk, None)
        except InvalidTag:
            raise Damaged("the content of an age file fails authentication") from None
    return content


def open_stanza(encapsulated: bytes, body: bytes, identity: Identity) -> bytes | None:
    """The file key, or None if the stanza is for somebody else: HPKE, mode base, with X-Wing."""
    mlkem, x25519 = encapsulated[:1088], encapsulated[1088:]
    try:
        shared = identity.x25519.exchange(X25519PublicKey.from_public_bytes(x25519))
    except ValueError:  # a point of small order
        return None
    ours = identity.x25519.public_key().public_bytes_raw()
    joined = identity.mlkem.decapsulate(mlkem) + shared + x25519 + ours
    secret = hashlib.sha3_256(joined + b"\x5c\x2e\x2f\x2f\x5e\x5c").digest()
    # The key schedule of RFC 9180 5.1.
    info = mac(b"", HPKE, b"info_hash", b"age-encryption.org/mlkem768x25519")
    context = b"\0" + mac(b"", HPKE, b"psk_id_hash") + info
    schedule = mac(secret, HPKE, b"secret")
    key = mac(schedule, b"\0\x20", HPKE, b"key", context, b"\1")
    nonce = mac(schedule, b"\0\x0c", HPKE, b"base_nonce", context, b"\1")[:12]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, body, None)
    except InvalidTag:
        return None


# ── Epoch keys (K3) and key blocks (K4) ──────────────────────────────────────────────────────────


BLOCK_WORDS = ("hospital", "site", "month", "block")


def open_epoch(data: bytes, identity: Identity) -> Json:
    """An epoch key, out of its age file."""
    return parse(open_age(data, identity), "an epoch key", suite="aes256-gcm")


def open_row(block: Json, row: str, epoch_key: bytes) -> bytes:
    """The data key in a row of a key block."""
    key_id = f"{block['block']}.{row}"
    if row not in block["rows"]:
        raise NotHeld(f"key {key_id} was erased")
    with reading(f"key {key_id}"):
        wrapped = unbase64(block["rows"][row], 60)
        bound = prefixed("aes256-gcm", block["hospital"], key_id)
    try:
        return AESGCM(epoch_key).decrypt(wrapped[:12], wrapped[12:], bound)
    except InvalidTag:
        raise Damaged(f"key {key_id} fails authentication") from None


def parse_block(data: bytes, **same: str) -> Json:
    """A key block with these fields."""
    block = parse(data, "a key block", suite="aes256-gcm", **same)
    with reading("a key block"):
        natural(block["generation"])
        if not all(re.fullmatch("[!-~]{1,99}", block[name]) for name in BLOCK_WORDS):
            raise ValueError
        if type(block["rows"]) is not dict:
            raise ValueError
    return block


class Keys:
    """Every key that an identity can reach, through files by their names up to the first dot."""

    def __init__(self, identity: Identity, paths: Mapping[str, Sequence[Path]]) -> None:
        self.identity = identity
        self.paths = paths
        self.blocks: dict[str, list[Json]] = {}
        self.epochs: dict[str, bytes] = {}

    @classmethod
    def below(cls, folder: Path, identity: Identity) -> "Keys":
        """Those of a folder keys/HOSPITAL, if the identity opens an epoch key of it at all."""
        paths: dict[str, list[Path]] = {}
        for path in files_below(folder, "*"):
            paths.setdefault(path.name.partition(".")[0], []).append(path)
        epochs = [path for path in files_below(folder, "*.age") if path.parent.name == "epochs"]
        for path in epochs:
            with suppress(Damaged, NotHeld):
                open_epoch(content(path), identity)
                return cls(identity, paths)
        raise NotHeld(
            f"this identity opens none of the {len(epochs)} files epochs/*.age: it is of another"
            " hospital or site, or --keys is not the folder of this hospital's keys"
        )

    def data_key(self, key_id: str) -> bytes:
        """A data key by its id, <block>.<row>."""
        name, _, row = key_id.partition(".")
        if name not in self.blocks:
            self.blocks[name] = self.newest(name)
        return first(
            self.blocks[name], lambda block: open_row(block, row, self.epoch_key(block)), name
        )

    def newest(self, name: str) -> list[Json]:
        """The copies of a block that can be read, of its highest generation: no other counts."""
        blocks: list[Json] = []
        trouble: Exception = NotHeld(f"key block {name} is missing")
        for path in self.paths.get(name, ()):
            try:
                blocks.append(parse_block(content(path), block=name))
            except Damaged as error:
                trouble = error
        if not blocks:
            raise trouble
        highest = max(block["generation"] for block in blocks)
        return [block for block in blocks if block["generation"] == highest]

    def epoch_key(self, block: Json) -> bytes:
        """The epoch key that a block names."""
        name = f"{block['site']}-{block['month']}"

        def key_of(path: Path) -> bytes:
            epoch = open_epoch(content(path), self.identity)
            with reading(f"epoch key {name}"):
                if any(epoch[field] != block[field] for field in ("hospital", "site", "month")):
                    raise ValueError
                return unbase64(epoch["key"], 32)

        if name not in self.epochs:
            self.epochs[name] = first(self.paths.get(name, ()), key_of, f"epoch key {name}")
        return self.epochs[name]


# ── The file of a pack: tar headers (P2), README (P3), footer (P8) ───────────────────────────────

README = re.compile(
    r"format: harmoni-pack 1\nsuite: (?P<suite>aes256-gcm-hkdf-sha256-64k)\n"
    r"kind: (?P<kind>instances|events)\n"
    r"hospital: (?P<hospital>[!-~]{1,99})\nsite: (?P<site>[!-~]{1,99})\n"
    r"pack: (?P<pack>[0-9A-HJKMNP-TV-Z]{26})\nkey: (?P<key>[0-9A-Z]{26}\.[0-9]{1,3})\n\n"
)
OTHER_README = re.compile(
    r"format: harmoni-pack (?!1\nsuite: aes256-gcm-hkdf-sha256-64k\n)([0-9]{1,9})\n"
    r"suite: ([!-~]{1,99})\n"
)
FOOTER = struct.Struct(">16sII4Q32s392x32s")


@dataclass(frozen=True)
class Member:
    """Where one member lies: its tar header, its body, and how long the body is."""

    name: str
    start: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.offset + self.size + -self.size % 512


def tar_header(name: str, size: int, time: int, *, pax: bool = False, kind: str = "0") -> bytes:
    """The one valid header of a member."""
    if min(size, time) < 0:
        raise ValueError
    if pax:
        record = f" size={size}\n"
        length = next(n for n in range(999) if n == len(str(n)) + len(record))
        before = tar_header(f"PaxHeaders/{name}", length, time, kind="x")
        own = tar_header(name, size if size < 8 << 30 else 0, time)
        return before + f"{length}{record}".encode().ljust(512, b"\0") + own
    head = name.encode().ljust(100, b"\0") + b"0000400\0" + b"0000000\0" * 2
    head += f"{size:011o}\0{time:011o}\0".encode()
    tail = kind.encode() + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return head + f"{sum(head + b' ' * 8 + tail):06o}\0 ".encode() + tail


class PackFile:
    """Reads a pack by offsets; the longest read is a mebibyte."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)

    def at(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        self.file.seek(max(0, offset))
        return self.file.read(size)

    def sha256(self, size: int) -> bytes:
        """The SHA-256 of the first so many bytes."""
        running = hashlib.sha256()
        for offset in range(0, size, 1 << 20):
            running.update(self.at(offset, min(1 << 20, size - offset)))
        return running.digest()

    def member(self, start: int) -> Member | None:
        """The member whose header begins there, if one does and all of it lies in the file."""
        block = self.at(start, 1536)
        if block[257:265] != b"ustar\x0000":
            return None
        pax = block[156:157] == b"x"
        own = block[1024:] if pax else block
        with suppress(ValueError):
            name = own[:100].rstrip(b"\0").decode("ascii")
            size, time = int(own[124:135], 8), int(own[136:147], 8)
            if pax:
                size = int(block[512:1024].partition(b" size=")[2].partition(b"\n")[0])
            header = tar_header(name, size, time, pax=pax)
            member = Member(name, start, start + len(header), size)
            if block.startswith(header) and member.end <= self.size:
                return member
        return None

    def members(self) -> Iterator[Member]:
        """Every member by its header; blocks that are no header are passed over."""
        start = 0
        while start + 512 <= self.size:
            member = self.member(start)
            if member is not None:
                yield member
            start = start + 512 if member is None else member.end

    def footer(self) -> tuple[Member, Member, bytes]:
        """Manifest and public.json by the footer, and the SHA-256 of all before it."""
        body = self.at(self.size - 1536, 1536).ljust(1536, b"\1")
        magic, version, zero, offset, size, public, public_size, digest, own = FOOTER.unpack(
            body[:512]
        )
        manifest = Member("manifest", offset - 512, offset, size)
        table = Member("public.json", manifest.end, public, public_size)
        if magic == b"HARMONI footer\0\0" and sha256(body[:480]) == own:
            known("the footer", version=(version, 1))
        if (
            (magic, version, zero) != (b"HARMONI footer\0\0", 1, 0)
            or sha256(body[:480]) != own
            or any(body[88:480] + body[512:])
            or self.member(self.size - 2048) != Member("footer", table.end, table.end + 512, 512)
            or self.member(manifest.start) != manifest
            or self.member(table.start) != table
        ):
            raise Damaged("its end is missing or damaged")
        return manifest, table, digest


# ── Members (P4) and the manifest (P6) ───────────────────────────────────────────────────────────

SEGMENT = 65_536


def open_member(pack: PackFile, member: Member, key: bytes, bound: bytes) -> Iterator[bytes]:
    """The plaintext of a member, segment by segment, each authenticated before it is given."""
    count = max(1, -(-member.size // SEGMENT))
    head = pack.at(member.offset, 40)
    if member.size - (count - 1) * SEGMENT < (56 if count == 1 else 17) or head[:1] != b"\x28":
        raise Damaged("it is no encrypted member")
    cipher = AESGCM(hkdf(key, head[1:33], bound))
    for number in range(count):
        start = number * SEGMENT if number else 40
        sealed = pack.at(member.offset + start, min((number + 1) * SEGMENT, member.size) - start)
        try:
            nonce = head[33:] + struct.pack(">I?", number, number == count - 1)
            yield cipher.decrypt(nonce, sealed, None)
        except InvalidTag:
            raise Damaged(f"segment {number} fails authentication") from None


@dataclass(frozen=True)
class Entry:
    """What the manifest says of one member."""

    offset: int
    size: int
    sha256: bytes
    dataset_size: int | None
    """The hash is over so many bytes at the end; None: over all, since it is an event."""


def read_manifest(data: bytes, **readme: str) -> dict[str, Entry]:
    """The entries of a manifest by the names of their members."""
    manifest = parse(data, "the manifest", **readme)
    entries, leaves = {}, []
    with reading("the manifest"):
        for each in manifest["instances"]:
            digest, uid = bytes.fromhex(each["dataset_sha256"]), each["sop_instance"]
            name = f"i/{natural(each['sequence']):08d}"
            place = natural(each["offset"]), natural(each["size"])
            entries[name] = Entry(*place, digest, natural(each["dataset_size"]))
            salt = unbase64(each["salt"], 32)
            leaves.append(sha256(salt, uid.encode("utf-8", "surrogatepass"), digest))
        for each in manifest["events"]:
            digest = bytes.fromhex(each["sha256"])
            name = f"e/{natural(each['sequence']):08d}.{each['key']}"
            place = natural(each["offset"]), natural(each["size"])
            entries[name] = Entry(*place, digest, None)
            leaves.append(sha256(unbase64(each["salt"], 32), each["kind"].encode(), digest))
        if merkle_root(leaves) != bytes.fromhex(manifest["root"]):
            raise ValueError
    return entries


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash of RFC 9162 2.1.1."""
    level = [sha256(b"\0", leaf) for leaf in leaves]
    while len(level) > 1:
        pairs = [sha256(b"\1", *level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return level[0] if level else sha256()


# ── The rescue ───────────────────────────────────────────────────────────────────────────────────

NAME = re.compile(r"(?P<kind>[ie])/(?P<number>[0-9]{8})(\.(?P<key>[0-9A-Z]{26}\.[0-9]{1,3}))?")


class Rescue:
    """Writes what can be opened of one pack after another, and counts what cannot."""

    def __init__(self, keys: Keys, out: Path, say: Callable[[str], object]) -> None:
        self.keys = keys
        self.out = out
        self.say = say
        self.written = 0
        self.troubles = 0
        self.unknown = False

    def trouble(self, where: str, error: Exception) -> None:
        """Report what is not whole."""
        self.troubles += 1
        self.unknown = self.unknown or isinstance(error, Unknown)
        word = "DAMAGED" if isinstance(error, Damaged) else "NO KEY"
        self.say(f"{where} {'UNKNOWN' if isinstance(error, Unknown) else word}: {error}")

    def open_pack(self, path: Path) -> bool:
        """Write the members of a pack; whether it is sealed."""
        try:
            with path.open("rb") as file:
                return self._open_pack(path.name, PackFile(file))
        except OSError:
            self.trouble(path.name, Damaged("it cannot be read or written to its end"))
        return False

    def _open_pack(self, label: str, pack: PackFile) -> bool:
        found = list(pack.members())
        digest = None
        by_name = {member.name: member for member in found}
        try:
            by_name["manifest"], by_name["public.json"], digest = pack.footer()
        except Damaged as error:
            if not by_name.keys().isdisjoint({"manifest", "public.json", "footer"}):
                self.trouble(label, error)
        end = self.gaps(label, found)
        readme = self.readme(label, pack, by_name)
        if readme is None:
            return False
        entries = self.manifest(label, pack, by_name.get("manifest"), readme)
        members = [each for each in found if NAME.fullmatch(each.name)]
        for name, entry in (entries or {}).items():
            if name not in by_name and NAME.fullmatch(name):
                members.append(Member(name, 0, entry.offset, entry.size))
        for member in sorted(members, key=lambda member: member.offset):
            self.rescue(label, pack, member, readme, entries)
        if digest is not None:
            if pack.sha256(pack.size - 1536) != digest:
                self.trouble(label, Damaged("the SHA-256 of the file is not that of its footer"))
        elif entries is None:
            self.say(f"{label} is not sealed: {pack.size - end} bytes after its last member")
        return digest is not None

    def gaps(self, label: str, found: Sequence[Member]) -> int:
        """Report what lies between two members, and give the end of the last."""
        end = 0
        for member in found:
            if member.start != end:
                self.trouble(label, Damaged(f"there is no member in bytes {end} to {member.start}"))
            end = member.end
        return end

    def readme(
        self, label: str, pack: PackFile, by_name: Mapping[str, Member]
    ) -> Mapping[str, str] | None:
        """Which pack it is and which key opens it; public.json says the same (P7)."""
        member, table = by_name.get("README"), by_name.get("public.json")
        text = pack.at(member.offset, member.size).decode("latin-1") if member else ""
        if found := README.match(text):
            return found.groupdict()
        if other := OTHER_README.match(text):
            words = f"it has version {other[1]} and suite {other[2]}"
            self.trouble(f"{label} README", Unknown(f"{words}, which this program does not know"))
        else:
            self.trouble(f"{label} README", Damaged("it does not say which pack this is"))
        with suppress(Damaged):
            if table is not None:
                public = parse(pack.at(table.offset, table.size), "public.json")
                with reading("public.json"):
                    names = ("suite", "kind", "hospital", "site", "pack", "key")
                    lines = "".join(f"{name}: {public[name]}\n" for name in names)
                    if found := README.match(f"format: harmoni-pack 1\n{lines}\n"):
                        return found.groupdict()
        return None

    def manifest(
        self, label: str, pack: PackFile, member: Member | None, readme: Mapping[str, str]
    ) -> dict[str, Entry] | None:
        """What the manifest says; None if there is none that can be read."""
        if member is None:
            return None
        same = {name: word for name, word in readme.items() if name != "key"}
        try:
            opened = self.plaintext(pack, member, readme, readme["key"], ("manifest", 0))
            return read_manifest(b"".join(opened), **same)
        except (Damaged, NotHeld) as error:
            self.trouble(f"{label} manifest", error)
        return None

    def plaintext(
        self,
        pack: PackFile,
        member: Member,
        readme: Mapping[str, str],
        key_id: str,
        place: tuple[str, int],
    ) -> Iterator[bytes]:
        """The plaintext of a member, which is bound to its pack and its place in it."""
        kind, number = place
        words = ("1", readme["suite"], kind, readme["hospital"], readme["pack"], str(number))
        return open_member(pack, member, self.keys.data_key(key_id), prefixed(*words))

    def rescue(
        self,
        label: str,
        pack: PackFile,
        member: Member,
        readme: Mapping[str, str],
        entries: Mapping[str, Entry] | None,
    ) -> None:
        """Write one member, whole or not at all."""
        name = NAME.fullmatch(member.name)
        assert name is not None
        event = name["kind"] == "e"
        kind, suffix = ("event", "json") if event else ("instance", "dcm")
        key_id = (name["key"] if event else None) or readme["key"]
        target = self.out / f"{readme['pack']}-{name['number']}.{suffix}"
        part = target.with_suffix(".part")
        try:
            pieces = self.plaintext(pack, member, readme, key_id, (kind, int(name["number"])))
            with open(part, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                size = copy(pieces, file, member, entries)
            part.replace(target)
        except (Damaged, NotHeld) as error:
            self.trouble(f"{label} {member.name}", error)
        else:
            self.written += 1
            how = "not sealed" if entries is None else "as in the manifest"
            self.say(f"{label} {member.name} ok: {target.name}, {size} bytes, {how}")
        finally:
            part.unlink(missing_ok=True)


def copy(
    pieces: Iterable[bytes], file: BinaryIO, member: Member, entries: Mapping[str, Entry] | None
) -> int:
    """Write a plaintext as it is opened, compare it with the manifest, and give its length."""
    size = member.size - 40 - 16 * max(1, -(-member.size // SEGMENT))
    entry = None if entries is None else entries.get(member.name)
    before = 0 if entry is None or entry.dataset_size is None else size - entry.dataset_size
    running = hashlib.sha256()
    written = 0
    for piece in pieces:
        file.write(piece)
        running.update(piece[max(0, before - written) :])
        written += len(piece)
    if entries is not None:
        if entry is None:
            raise Damaged("it is not in the manifest")
        if (entry.offset, entry.size) != (member.offset, member.size) or before < 0:
            raise Damaged("it lies in another place than the manifest says")
        if running.digest() != entry.sha256:
            raise Damaged("its SHA-256 is not the one in the manifest")
    return size


# ── The examples, good and bad, that are handed out with these programs ──────────────────────────


def judge(folder: Path, facts: Json) -> str:
    """What becomes of one file of the vectors: opens, damaged, unknown or not held."""
    path = folder / facts["file"]
    data = path.read_bytes()
    opened, wanted = b"", b""
    if facts["kind"] == "member":
        with path.open("rb") as file:
            key, bound = bytes.fromhex(facts["data_key"]), facts["associated_data"].encode()
            pieces = open_member(PackFile(file), Member("", 0, 0, len(data)), key, bound)
            opened = sha256(*pieces)
        wanted = bytes.fromhex(facts.get("plaintext_sha256", ""))
    elif facts["kind"] == "age":
        opened = unbase64(open_epoch(data, Identity(facts["identity"]))["key"], 32)
        wanted = bytes.fromhex(facts.get("key", ""))
    elif facts["kind"] == "wrap":
        site = Identity.unwrap(bytes.fromhex(facts["custody_key"]), data)
        epoch = open_epoch((folder / facts["epoch"]).read_bytes(), site)
        opened = unbase64(epoch["key"], 32)
        wanted = bytes.fromhex(facts.get("key", ""))
    elif facts["kind"] == "log":
        before = folder / facts["after"] if "after" in facts else None
        opened = read_record(data, before.read_bytes() if before else None, facts)
        wanted = bytes.fromhex(facts.get("pack_sha256", ""))
    elif facts["kind"] == "block":
        opened = open_row(parse_block(data), str(facts["row"]), bytes.fromhex(facts["epoch_key"]))
        wanted = bytes.fromhex(facts.get("key", ""))
    else:
        block = parse_block((folder / facts["block"]).read_bytes())
        paths = {
            block["block"]: [folder / facts["block"]],
            f"{block['site']}-{block['month']}": [folder / facts["epoch"]],
        }
        with tempfile.TemporaryDirectory() as out:
            keys = Keys(Identity(facts["identity"]), paths)
            rescue = Rescue(keys, Path(out), lambda _: None)
            whole = rescue.open_pack(path) and rescue.troubles == 0
            if rescue.unknown:
                raise Unknown("it is of another version or suite")
            if not whole or rescue.written != facts.get("members"):
                raise Damaged("it is not whole")
    return "opens" if opened == wanted else "opens as something else"


def read_record(data: bytes, before: bytes | None, place: Json) -> bytes:
    """The SHA-256 of the pack that a log record names, nothing if it names none (P12)."""
    record = parse(data, "a log record", hospital=place["hospital"], site=place["site"])
    with reading("a log record"):
        expected = 0 if before is None else natural(json.loads(before)["sequence"]) + 1
        if natural(record["sequence"]) != expected:
            raise ValueError
        if record["kind"] not in ("instances", "events"):
            return b""
        natural(record["size"])
        if not all(re.fullmatch("[0-9a-f]{64}", record[name]) for name in ("root", "sha256")):
            raise ValueError
        return bytes.fromhex(record["sha256"])


def check(folder: Path) -> int:
    """Compare this program's judgement of every vector with that of index.json."""
    wrong = 0
    vectors = json.loads((folder / "index.json").read_bytes())
    for facts in vectors:
        try:
            found = judge(folder, facts)
        except (Damaged, NotHeld) as error:
            word = "unknown" if isinstance(error, Unknown) else "damaged"
            found = word if isinstance(error, Damaged) else "not held"
        wrong += found != facts["outcome"]
        verdict = "ok" if found == facts["outcome"] else f"WRONG, it must be: {facts['outcome']}"
        print(f"{facts['file']} {found}: {verdict}")
    print(f"{len(vectors)} examples: {wrong} judged wrong")
    return 1 if wrong else 0


# ── The command ──────────────────────────────────────────────────────────────────────────────────


def main() -> int:
    """Read the command line and do what it says."""
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("packs", nargs="*", metavar="PACK", help="a pack, or a folder of packs")
    parser.add_argument("--identity", metavar="FILE", type=Path, help="a text with the identity")
    parser.add_argument("--custody-key", metavar="FILE", type=Path, help="32 bytes of a site")
    parser.add_argument("--wrapped-identity", metavar="FILE", type=Path, help="of the same site")
    parser.add_argument("--keys", metavar="DIR", type=Path, help="keys/HOSPITAL")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where the files go; made if needed"
    )
    parser.add_argument("--check", metavar="DIR", type=Path, help="the folder vectors")
    given = parser.parse_args()
    if given.check is not None:
        return check(given.check)
    by_site = given.custody_key is not None and given.wrapped_identity is not None
    if not given.packs or not given.keys or not given.out or by_site == bool(given.identity):
        parser.error("give --keys, --out, a PACK, and either --identity or both files of a site")
    try:
        if by_site:
            wrapped = given.wrapped_identity.read_bytes()
            identity = Identity.unwrap(given.custody_key.read_bytes(), wrapped)
        else:
            identity = Identity(given.identity.read_text("latin-1"))
        keys = Keys.below(given.keys, identity)
        packs: list[Path] = []
        for path in map(Path, given.packs):
            packs += files_below(path, "*.tar") if path.is_dir() else [path]
        given.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (NotHeld, OSError) as error:
        print(f"rescue: {error}", file=sys.stderr)
        return 2
    rescue = Rescue(keys, given.out, print)
    for path in packs:
        rescue.open_pack(path)
    print(f"{len(packs)} packs: {rescue.written} members written, {rescue.troubles} troubles")
    return 1 if rescue.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
