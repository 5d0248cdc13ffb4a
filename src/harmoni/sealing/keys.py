"""Epoch keys, key blocks and data keys (docs/reference/keys-format.md).

    identity     age hybrid; its text wrapped by custody with AES key wrap with padding (RFC 5649)
    epoch key    256 bits per hospital, site and month; an age file
    key block    256 data keys minted ahead, each wrapped under the epoch key with AES-256-GCM
    data key     one per pack, and one per study that an event names

A block is durable before its first key is used, and its rows never change. An erasure makes the
next generation of it, without the rows to forget, and a rotation one under another epoch key;
whoever stores it puts it in the place of the one before.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from harmoni.model.errors import ConfigurationError, Damaged, Erased, InvalidInput
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.sealing import age, document, streaming
from harmoni.sealing.age import Identity, Recipient
from harmoni.sealing.streaming import TAG_BYTES, Buffer

EPOCH_VERSION: Final = 1
"""Of the document in an epoch file. Frozen."""
BLOCK_VERSION: Final = 1
"""Of a key block. Frozen."""
KEY_SUITE: Final = "aes256-gcm"
"""How data keys are wrapped."""
ROWS: Final = 256
KEY_BYTES: Final = streaming.KEY_BYTES
"""Length of epoch keys and data keys."""
NONCE_BYTES: Final = 12
BLOCK_RANDOM_BYTES: Final = ROWS * (KEY_BYTES + NONCE_BYTES)
"""Randomness that a new block needs: 11,264 bytes."""

_ROW_BYTES: Final = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_BLOCK_FIELDS: Final = frozenset(
    ("version", "suite", "hospital", "site", "month", "block", "generation", "rows")
)
_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_ROW: Final = re.compile(r"0|[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True, order=True)
class KeyId:
    """The name of a data key: block and row; str() gives "<block>.<row>"."""

    block: str
    """The block's id, a ULID minted as a pack id is."""
    row: int
    """0 to 255."""

    def __post_init__(self) -> None:
        PackId(self.block)  # the same form and the same check
        if not 0 <= self.row < ROWS:
            raise InvalidInput(f"a key block has no row {self.row}: 0 to {ROWS - 1}")

    def __str__(self) -> str:
        return f"{self.block}.{self.row}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "<block>.<row>".

        Raises:
            InvalidInput: it is not one.
        """
        block, _, row = text.partition(".")
        if _ROW.fullmatch(row) is None:
            raise InvalidInput(f"{text!r} is no key id: <block>.<row>")
        return cls(block, int(row))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EpochKey:
    """The key over all data keys that one site mints for one hospital in one month."""

    hospital: HospitalId
    site: SiteId
    month: str
    """Year and month, such as "2026-11"."""
    key: bytes
    """32 bytes."""

    def __post_init__(self) -> None:
        if _MONTH.fullmatch(self.month) is None or len(self.key) != KEY_BYTES:
            raise InvalidInput(f"an epoch key needs a month and {KEY_BYTES} bytes")

    def seal(self, recipients: Sequence[Recipient], *, random: bytes) -> bytes:
        """The age file to store.

        Args:
            recipients: the site identities that may read, and the hospital's recovery identity.
            random: age.RANDOM_BYTES fresh random bytes.
        """
        body = document.encode(
            {
                "version": EPOCH_VERSION,
                "suite": KEY_SUITE,
                "hospital": self.hospital.value,
                "site": self.site.value,
                "month": self.month,
                "key": document.octets_text(self.key),
            }
        )
        return age.encrypt(body, recipients, random=random)

    @classmethod
    def open(cls, data: Buffer, identity: Identity) -> Self:
        """Read the age file.

        Raises:
            NotHeld: it is not addressed to this identity.
            Damaged: altered, or no epoch key.
        """
        fields = document.decode(age.decrypt(data, identity), "an epoch key", EPOCH_VERSION)
        fields.suite(KEY_SUITE)
        return cls(
            hospital=fields.hospital("hospital"),
            site=fields.site("site"),
            month=fields.matching("month", _MONTH),
            key=fields.octets("key", KEY_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlock:
    """256 data keys minted ahead, each wrapped under one epoch key."""

    block_id: str
    hospital: HospitalId
    site: SiteId
    month: str
    """Site and month name the epoch key."""
    generation: int
    """0 when minted; one more after each erasure of rows and each rotation of the epoch key."""
    rows: Mapping[int, bytes]
    """Row number → nonce (12) | encrypted key (32) | tag (16). An erased row is absent."""
    others: Mapping[str, document.Json] = field(default_factory=dict)
    """Fields of a later program; the next generation keeps them."""

    @classmethod
    def mint(cls, *, block_id: str, epoch: EpochKey, random: bytes) -> Self:
        """Make a block of fresh keys.

        Args:
            block_id: a new ULID.
            epoch: the key to wrap under; it decides hospital, site and month.
            random: BLOCK_RANDOM_BYTES fresh random bytes, for keys and nonces.
        """
        if len(random) != BLOCK_RANDOM_BYTES:
            raise ValueError(f"a key block needs {BLOCK_RANDOM_BYTES} random bytes")
        cipher = AESGCM(epoch.key)
        rows: dict[int, bytes] = {}
        step = KEY_BYTES + NONCE_BYTES
        for row in range(ROWS):
            piece = random[row * step : (row + 1) * step]
            key, nonce = piece[:KEY_BYTES], piece[KEY_BYTES:]
            bound = _associated_data(epoch.hospital, KeyId(block_id, row))
            rows[row] = nonce + cipher.encrypt(nonce, key, bound)
        return cls(
            block_id=block_id,
            hospital=epoch.hospital,
            site=epoch.site,
            month=epoch.month,
            generation=0,
            rows=rows,
        )

    def encode(self) -> bytes:
        """The file: canonical JSON."""
        rows: dict[str, document.Json] = {
            str(row): document.octets_text(wrapped) for row, wrapped in self.rows.items()
        }
        return document.encode(
            {
                **self.others,
                "version": BLOCK_VERSION,
                "suite": KEY_SUITE,
                "hospital": self.hospital.value,
                "site": self.site.value,
                "month": self.month,
                "block": self.block_id,
                "generation": self.generation,
                "rows": rows,
            }
        )

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read a file.

        Raises:
            Damaged: it is not a key block.
        """
        fields = document.decode(data, "a key block", BLOCK_VERSION)
        fields.suite(KEY_SUITE)
        rows: dict[int, bytes] = {}
        for name, text in fields.mapping("rows").items():
            wrapped = document.octets(text)
            if (
                _ROW.fullmatch(name) is None
                or int(name) >= ROWS
                or wrapped is None
                or len(wrapped) != _ROW_BYTES
            ):
                raise Damaged(f"row {name!r} of a key block is altered; use another copy")
            rows[int(name)] = wrapped
        return cls(
            block_id=fields.pack_id("block").value,
            hospital=fields.hospital("hospital"),
            site=fields.site("site"),
            month=fields.matching("month", _MONTH),
            generation=fields.number("generation"),
            rows=rows,
            others=fields.others(_BLOCK_FIELDS),
        )

    def open_row(self, row: int, epoch: EpochKey) -> bytes:
        """The data key of a row.

        Raises:
            Erased: the row was erased; what it encrypted is gone for ever.
            ConfigurationError: the epoch key is of another hospital, site or month.
            Damaged: the row was altered or moved, or the epoch key is not the one of its name.
        """
        key_id = KeyId(self.block_id, row)
        if (epoch.hospital, epoch.site, epoch.month) != (self.hospital, self.site, self.month):
            raise ConfigurationError(
                f"key {key_id} needs the epoch key {self.site} {self.month} of {self.hospital},"
                f" not {epoch.site} {epoch.month} of {epoch.hospital}"
            )
        wrapped = self.rows.get(row)
        if wrapped is None:
            raise Erased(f"key {key_id} was erased; what it encrypted cannot be opened any more")
        nonce, encrypted = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        bound = _associated_data(self.hospital, key_id)
        try:
            return AESGCM(epoch.key).decrypt(nonce, encrypted, bound)
        except InvalidTag:
            raise Damaged(
                f"key {key_id} fails authentication: altered, or wrapped under another epoch key;"
                " use another copy of the block"
            ) from None

    def is_under(self, epoch: EpochKey) -> bool:
        """Whether it is this epoch key that wraps the rows; of a block without rows, any is."""
        for row in self.rows:
            with suppress(Damaged, ConfigurationError):
                self.open_row(row, epoch)
                return True
        return not self.rows

    def without(self, rows: frozenset[int]) -> Self:
        """The next generation, with those rows forgotten."""
        kept = {row: wrapped for row, wrapped in self.rows.items() if row not in rows}
        return replace(self, generation=self.generation + 1, rows=kept)

    def rewrapped(self, old: EpochKey, new: EpochKey, *, random: bytes) -> Self:
        """The next generation, the same keys wrapped under another epoch key (rotation).

        Args:
            old: the epoch key that opens the block now.
            new: the epoch key to wrap under, of the same hospital.
            random: 12 fresh random bytes for each row that is left, in order.
        """
        if len(random) != NONCE_BYTES * len(self.rows) or old.hospital != new.hospital:
            raise ValueError(f"{NONCE_BYTES} random bytes per row and one hospital needed")
        cipher = AESGCM(new.key)
        rows: dict[int, bytes] = {}
        for number, row in enumerate(self.rows):
            nonce = random[number * NONCE_BYTES : (number + 1) * NONCE_BYTES]
            bound = _associated_data(self.hospital, KeyId(self.block_id, row))
            rows[row] = nonce + cipher.encrypt(nonce, self.open_row(row, old), bound)
        return replace(
            self, site=new.site, month=new.month, generation=self.generation + 1, rows=rows
        )


def _associated_data(hospital: HospitalId, key_id: KeyId) -> bytes:
    """Suite, hospital and key id, each after its length in two bytes, big endian."""
    words = (KEY_SUITE.encode(), hospital.value.encode(), str(key_id).encode())
    return b"".join(len(word).to_bytes(2, "big") + word for word in words)


def wrap_identity(kek: bytes, identity: Identity) -> bytes:
    """Wrap an identity's text for custody in a file (RFC 5649, as PKCS#11 CKM_AES_KEY_WRAP_KWP).

    Args:
        kek: the key encryption key, 32 bytes.
        identity: whose text AGE-SECRET-KEY-PQ-1… is wrapped.
    """
    return aes_key_wrap_with_padding(kek, identity.to_string().encode("ascii"))


def unwrap_identity(kek: bytes, wrapped: Buffer) -> Identity:
    """Open what `wrap_identity` made.

    Raises:
        ConfigurationError: the key encryption key is another, or the bytes were altered.
    """
    try:
        text = aes_key_unwrap_with_padding(kek, bytes(wrapped)).decode("ascii")
        return Identity.from_string(text)
    except (InvalidUnwrap, UnicodeDecodeError, InvalidInput):
        raise ConfigurationError(
            "a wrapped identity does not open: it belongs to another key encryption key or was"
            " altered; check the custody settings and restore the file"
        ) from None
