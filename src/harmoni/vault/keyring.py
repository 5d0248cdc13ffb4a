"""The keys of one hospital as one writer sees them: identities, epochs, key blocks.

Order of durability: an epoch key is durable before a block that it wraps, and a block before the
first key of it is used. Nothing here is ever rewritten while packs are written.
"""

import os
import threading
from contextlib import suppress
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import AlreadyHeld, ConfigurationError, NotHeld
from harmoni.model.identifiers import HospitalId, SiteId, WriterId
from harmoni.runtime.clock import Clock
from harmoni.sealing import age, keys
from harmoni.sealing.document import time_text
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds

_MONTH_CHARACTERS: Final = len("2026-11")
_INDEX_KEY_BYTES: Final = 32
_AGE_RANDOM_BYTES: Final = 32


def create_identities(
    *, files: Filesystem, layout: Layout, site: SiteId, custody_key: bytes, recovery: age.Recipient
) -> None:
    """Make a hospital's identity at this site and note who can recover.

    Args:
        files: the store.
        layout: the hospital's names.
        site: this site.
        custody_key: 32 bytes that wrap the private part (file custody).
        recovery: the public part of the hospital's recovery identity; its private part never comes
            near this machine, or is handed out once by the caller and forgotten.

    The caller makes sure that the hospital has no key and no pack here yet; an identity that is
    there is never replaced.
    """
    layout.prepare(files, site)
    files.replace(layout.recovery_recipient, f"{recovery.to_string()}\n".encode())
    # What an interrupted attempt left is used: nothing was encrypted to it that counts.
    if not files.exists(layout.identity(site)):
        identity = age.generate_identity(random=os.urandom(_AGE_RANDOM_BYTES))
        files.publish(layout.identity(site), keys.wrap_identity(custody_key, identity))


class Keyring:
    """Mints and finds data keys.

    Args:
        files: the store.
        hospital: whose keys.
        site: this site.
        writer: who mints; one process.
        custody_key: the 32 bytes that unwrap the site's identity.
        clock: the time, which decides the epoch.
        pack_ids: where ids of key blocks come from.

    Raises:
        ConfigurationError: the hospital has no identity here, or the custody key is another.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        hospital: HospitalId,
        site: SiteId,
        writer: WriterId,
        custody_key: bytes,
        clock: Clock,
        pack_ids: PackIds,
    ) -> None:
        self._files = files
        self._hospital = hospital
        self._site = site
        self._writer = writer
        self._clock = clock
        self._pack_ids = pack_ids
        self._layout = Layout(hospital)
        try:
            wrapped = files.read(self._layout.identity(site))
            recovery = files.read(self._layout.recovery_recipient)
        except NotHeld as error:
            raise ConfigurationError(
                f"hospital {hospital} has no keys at site {site}; run `harmoni hospital add`"
            ) from error
        self._identity = keys.unwrap_identity(custody_key, wrapped)
        self._recipients = (
            self._identity.recipient(),
            age.Recipient.from_string(recovery.decode("ascii").strip()),
        )
        self._lock = threading.Lock()
        self._epochs: dict[str, keys.EpochKey] = {}
        self._blocks: dict[str, keys.KeyBlock] = {}
        self._minting: keys.KeyBlock | None = None
        self._next_row = 0

    def mint(self) -> tuple[keys.KeyId, bytes]:
        """A fresh data key, durable before this returns.

        Most calls take a key from the block at hand; one in 256 writes and flushes a new block.

        Raises:
            OutOfResources, StorageFailed: the block could not be made durable; no key is given.
        """
        month = self._month()
        with self._lock:
            if self._minting is None or self._next_row == keys.ROWS or self._minting.month != month:
                self._minting, self._next_row = self._new_block(month), 0
            block, row = self._minting, self._next_row
            self._keep_block(block)
            self._next_row += 1
            return keys.KeyId(block.block_id, row), block.open_row(row, self._epoch(block))

    def data_key(self, key_id: str) -> bytes:
        """The data key of an id that stands in a pack.

        Raises:
            NotHeld: the block or the row is gone: erased, or lost; see vault repair.
            Damaged: the block or the epoch key cannot be opened.
        """
        wanted = keys.KeyId.parse(key_id)
        with self._lock:
            block = self._blocks.get(wanted.block)
            if block is None:
                block = self._blocks[wanted.block] = self._find_block(wanted.block)
            return block.open_row(wanted.row, self._epoch(block))

    def create_index_key(self, index_id: str) -> bytes:
        """A fresh key for a new index database, durable before this returns."""
        key = os.urandom(_INDEX_KEY_BYTES)
        sealed = age.encrypt(key, self._recipients, random=os.urandom(_AGE_RANDOM_BYTES))
        self._files.publish(self._layout.index_key(index_id), sealed)
        return key

    def index_key(self, index_id: str) -> bytes:
        """The key of an index database.

        Raises:
            NotHeld: there is none of that id.
            Damaged: it cannot be opened by this site.
        """
        return age.decrypt(self._files.read(self._layout.index_key(index_id)), self._identity)

    def _month(self) -> str:
        return time_text(self._clock.now_ms())[:_MONTH_CHARACTERS]

    def _keep_block(self, block: keys.KeyBlock) -> None:
        """Put a block back that somebody removed: a key that is only in memory seals nothing."""
        name = self._layout.key_block(str(self._writer), block.block_id)
        if not self._files.exists(name):
            self._files.make_directory(self._layout.writer_keys(self._writer))
            self._files.publish(name, block.encode())

    def _new_block(self, month: str) -> keys.KeyBlock:
        epoch = self._current_epoch(month)
        block = keys.KeyBlock.mint(
            block_id=str(self._pack_ids.mint()),
            epoch=epoch,
            random=os.urandom(keys.BLOCK_RANDOM_BYTES),
        )
        self._files.make_directory(self._layout.writer_keys(self._writer))
        self._files.publish(
            self._layout.key_block(str(self._writer), block.block_id), block.encode()
        )
        self._blocks[block.block_id] = block
        return block

    def _current_epoch(self, month: str) -> keys.EpochKey:
        name = self._layout.epoch(self._site, month)
        if not self._files.exists(name):
            fresh = keys.EpochKey(
                hospital=self._hospital,
                site=self._site,
                month=month,
                key=os.urandom(keys.KEY_BYTES),
            )
            sealed = fresh.seal(self._recipients, random=os.urandom(_AGE_RANDOM_BYTES))
            # Another writer of this site may be first; then its key is the month's.
            with suppress(AlreadyHeld):
                self._files.publish(name, sealed)
        return self._read_epoch(self._site, month)

    def _epoch(self, block: keys.KeyBlock) -> keys.EpochKey:
        return self._read_epoch(block.site, block.month)

    def _read_epoch(self, site: SiteId, month: str) -> keys.EpochKey:
        name = self._layout.epoch(site, month)
        epoch = self._epochs.get(name)
        if epoch is None:
            epoch = keys.EpochKey.open(self._files.read(name), self._identity)
            self._epochs[name] = epoch
        return epoch

    def _find_block(self, block_id: str) -> keys.KeyBlock:
        for writer in self._files.names(self._layout.keys):
            try:
                return keys.KeyBlock.decode(
                    self._files.read(self._layout.key_block(writer, block_id))
                )
            except NotHeld:
                continue
        raise NotHeld(
            f"key block {block_id} of {self._hospital} is missing: restore it from another copy of"
            " the keys"
        )
