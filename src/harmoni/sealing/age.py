"""age v1 files with the hybrid recipient, mlkem768x25519 (C2SP "The age file encryption format").

    age-encryption.org/v1
    -> mlkem768x25519 <encapsulated key, 1,120 bytes in base64>     one such stanza per recipient
    <file key, encrypted, 32 bytes in base64>
    --- <HMAC-SHA-256 of the header, base64>
    nonce (16) | payload: ChaCha20-Poly1305 in chunks of 64 KiB

The stanza is HPKE (RFC 9180, base mode) with ML-KEM-768 + X25519 (0x647a), HKDF-SHA-256 and
ChaCha20-Poly1305, info "age-encryption.org/mlkem768x25519". Base64 is without padding.

Epoch keys and index keys are kept in such files, so that they can be opened without us: age 1.3
and the npm package age-encryption read them. The file key is age's own, 128 bits
(docs/decisions/0012). Only small files are made here, so a file is handled as a whole.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harmoni.model.errors import Damaged, InvalidInput, NotHeld
from harmoni.sealing import bech32
from harmoni.sealing.streaming import Buffer

RANDOM_BYTES: Final = 32
"""Randomness that `encrypt` takes: file key and payload nonce."""
SEED_BYTES: Final = 32
MAX_FILE_BYTES: Final = 1 << 24
"""No file of ours is longer; a longer one is refused unread."""

_RECIPIENT_PREFIX: Final = "age1pq"
_IDENTITY_PREFIX: Final = "age-secret-key-pq-"
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_INFO: Final = b"age-encryption.org/mlkem768x25519"
_MLKEM_PUBLIC_BYTES: Final = 1184
_PUBLIC_BYTES: Final = _MLKEM_PUBLIC_BYTES + 32
_ENCAPSULATED_BYTES: Final = 1120

_VERSION_LINE: Final = b"age-encryption.org/v1"
_STANZA: Final = b"mlkem768x25519"
_FILE_KEY_BYTES: Final = 16
_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 16
_CHUNK_BYTES: Final = 65_536
_LINE_BYTES: Final = 48
"""Bytes on a full line of a stanza's body; a shorter line ends it."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a file is for: ML-KEM-768 encapsulation key (1,184 bytes) and X25519 public key (32)."""

    key: bytes

    def to_string(self) -> str:
        """The text that begins with age1pq1."""
        return bech32.encode(_RECIPIENT_PREFIX, self.key)

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read the text that begins with age1pq1.

        Raises:
            InvalidInput: it is not one.
        """
        key = bech32.decode(text, _RECIPIENT_PREFIX)
        if len(key) != _PUBLIC_BYTES:
            raise InvalidInput(f"a recipient has {_PUBLIC_BYTES} bytes, not {len(key)}")
        recipient = cls(key)
        recipient.public_key()
        return recipient

    def public_key(self) -> MLKEM768X25519PublicKey:
        """Both keys; raises InvalidInput if the bytes are no key."""
        try:
            return MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.key[:_MLKEM_PUBLIC_BYTES]),
                X25519PublicKey.from_public_bytes(self.key[_MLKEM_PUBLIC_BYTES:]),
            )
        except ValueError:
            raise InvalidInput("a recipient's bytes are no ML-KEM-768 and X25519 key") from None


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Who can open a file: a seed of 32 bytes, from which both private keys come.

    SHAKE256 stretches it to 96 bytes: 64 of ML-KEM-768 seed (d, z), 32 of X25519 private key.
    """

    seed: bytes

    def to_string(self) -> str:
        """The text that begins with AGE-SECRET-KEY-PQ-1; a secret."""
        return bech32.encode(_IDENTITY_PREFIX, self.seed).upper()

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read the text that begins with AGE-SECRET-KEY-PQ-1.

        Raises:
            InvalidInput: it is not one.
        """
        seed = bech32.decode(text, _IDENTITY_PREFIX)
        if len(seed) != SEED_BYTES:
            raise InvalidInput(f"an identity has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(seed)

    def recipient(self) -> Recipient:
        """The public half."""
        mlkem_key, x25519_key = self._halves()
        return Recipient(
            mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()
        )

    def private_key(self) -> MLKEM768X25519PrivateKey:
        """Both keys."""
        return MLKEM768X25519PrivateKey(*self._halves())

    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        stretched = hashlib.shake_256(self.seed).digest(96)
        return (
            MLKEM768PrivateKey.from_seed_bytes(stretched[:64]),
            X25519PrivateKey.from_private_bytes(stretched[64:]),
        )


def generate_identity(*, random: bytes) -> Identity:
    """An identity from 32 fresh random bytes."""
    if len(random) != SEED_BYTES:
        raise ValueError(f"an identity needs {SEED_BYTES} random bytes, not {len(random)}")
    return Identity(random)


def encrypt(plaintext: bytes, recipients: Sequence[Recipient], *, random: bytes) -> bytes:
    """Make a file that each recipient can open alone.

    Args:
        plaintext: at most a few megabytes; handled as a whole.
        recipients: at least one.
        random: RANDOM_BYTES (32) fresh random bytes. The encapsulation draws its own besides.
    """
    if len(random) != RANDOM_BYTES or not recipients:
        raise ValueError(f"{RANDOM_BYTES} random bytes and a recipient needed")
    file_key, nonce = random[:_FILE_KEY_BYTES], random[_FILE_KEY_BYTES:]
    lines = [_VERSION_LINE]
    for recipient in recipients:
        wrapped = _SUITE.encrypt(file_key, recipient.public_key(), _INFO)
        encapsulated, body = wrapped[:_ENCAPSULATED_BYTES], wrapped[_ENCAPSULATED_BYTES:]
        lines += [b" ".join((b"->", _STANZA, _base64(encapsulated))), _base64(body)]
    header = b"\n".join([*lines, b"---"])
    return b"".join(
        (header, b" ", _base64(_header_mac(file_key, header)), b"\n", nonce)
    ) + _encrypt_payload(_derive(file_key, nonce, b"payload"), plaintext)


def decrypt(data: Buffer, identity: Identity) -> bytes:
    """Open a file.

    Raises:
        NotHeld: no stanza is for this identity.
        Damaged: it is not an age file, or altered.
    """
    if len(data) > MAX_FILE_BYTES:
        raise Damaged(f"an age file of ours is never {len(data)} bytes long; use another copy")
    header = _parse_header(bytes(data))
    private_key = identity.private_key()
    for arguments, body in header.stanzas:
        if arguments[0] != _STANZA:
            continue
        file_key = _unwrap(arguments, body, private_key)
        if file_key is None:
            continue
        if not hmac.compare_digest(header.mac, _header_mac(file_key, header.authenticated)):
            raise _altered("its header fails authentication")
        nonce, payload = header.rest[:_NONCE_BYTES], header.rest[_NONCE_BYTES:]
        return _decrypt_payload(_derive(file_key, nonce, b"payload"), payload)
    raise NotHeld(
        "an age file is not addressed to this identity; use the site's or the recovery identity"
    )


def _unwrap(
    arguments: Sequence[bytes], body: bytes, private_key: MLKEM768X25519PrivateKey
) -> bytes | None:
    """The file key of a stanza, or None when it is somebody else's."""
    match arguments:
        case [_, text]:
            encapsulated = _unbase64(text)
        case _:
            encapsulated = b""
    if len(encapsulated) != _ENCAPSULATED_BYTES or len(body) != _FILE_KEY_BYTES + _TAG_BYTES:
        raise _altered("a stanza has another length")
    try:
        return _SUITE.decrypt(encapsulated + body, private_key, _INFO)
    except (InvalidTag, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    stanzas: Sequence[tuple[Sequence[bytes], bytes]]
    """Arguments, the type first, and decoded body of each."""
    authenticated: bytes
    mac: bytes
    rest: bytes


def _parse_header(data: bytes) -> _Header:
    """Read the text lines before the payload, in their one valid form."""
    lines = _Lines(data)
    if lines.take() != _VERSION_LINE:
        raise _altered("its first line is another")
    stanzas: list[tuple[Sequence[bytes], bytes]] = []
    while (line := lines.take()).startswith(b"-> "):
        arguments = line.split(b" ")[1:]
        if not all(arguments):
            raise _altered("a stanza has an empty argument")
        body = bytearray()
        while len(chunk := _unbase64(lines.take())) == _LINE_BYTES:
            body += chunk
        if len(chunk) > _LINE_BYTES:
            raise _altered("a line of a stanza is too long")
        stanzas.append((arguments, bytes(body + chunk)))
    if not line.startswith(b"--- "):
        raise _altered("its header does not end")
    end = lines.position - len(line) - 1 + len(b"---")
    return _Header(
        stanzas=stanzas,
        authenticated=data[:end],
        mac=_unbase64(line[len(b"--- ") :]),
        rest=data[lines.position :],
    )


class _Lines:
    """Takes line after line from the text at the start of a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self) -> bytes:
        """The next line without its end; raises Damaged if there is none."""
        end = self._data.find(b"\n", self.position)
        if end < 0:
            raise _altered("its header is cut")
        line = self._data[self.position : end]
        self.position = end + 1
        return line


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derive(file_key, b"", b"header"), header, "sha256")


def _derive(file_key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _chunk_nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _encrypt_payload(key: bytes, plaintext: bytes) -> bytes:
    cipher = ChaCha20Poly1305(key)
    last = max(0, len(plaintext) - 1) // _CHUNK_BYTES
    return b"".join(
        cipher.encrypt(
            _chunk_nonce(number, last=number == last),
            plaintext[number * _CHUNK_BYTES : (number + 1) * _CHUNK_BYTES],
            None,
        )
        for number in range(last + 1)
    )


def _decrypt_payload(key: bytes, payload: bytes) -> bytes:
    cipher = ChaCha20Poly1305(key)
    size = _CHUNK_BYTES + _TAG_BYTES
    last = max(0, len(payload) - 1) // size
    # Only the payload of an empty file may end with an empty chunk.
    if len(payload) - last * size < _TAG_BYTES + (last > 0):
        raise _altered("its payload is cut")
    try:
        return b"".join(
            cipher.decrypt(
                _chunk_nonce(number, last=number == last),
                payload[number * size : (number + 1) * size],
                None,
            )
            for number in range(last + 1)
        )
    except InvalidTag:
        raise _altered("its payload fails authentication") from None


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    """Decode canonical base64 without padding; raises Damaged."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        data = None
    if data is None or _base64(data) != text:
        raise _altered("a line is not base64")
    return data


def _altered(why: str) -> Damaged:
    return Damaged(f"an age file is altered: {why}; use another copy")
