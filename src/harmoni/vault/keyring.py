"""The keys of one hospital as one writer sees them: identities, epochs, key blocks.

Order of durability: an epoch key is durable before a block that it wraps, and a block before the
first key of it is used. Nothing here is ever rewritten while packs are written; a rotation beside
this process (`rotation`) replaces whole files, and this process looks again when one does not open.
"""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import NotHeld
from harmoni.model.identifiers import HospitalId, SiteId, WriterId
from harmoni.runtime.clock import Clock
from harmoni.sealing import age, keys
from harmoni.sealing.document import time_text
from harmoni.vault.identities import Identities
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds

_MONTH_CHARACTERS: Final = len("2026-11")
_INDEX_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Opened:
    """A key block, and the epoch key that it was wrapped under when it was read or made."""

    block: keys.KeyBlock
    epoch: keys.EpochKey


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
        self.identities = Identities(files, self._layout, site, custody_key)
        """Opens what is encrypted to this site."""
        self._lock = threading.Lock()
        self._epochs: dict[str, keys.EpochKey] = {}
        self._blocks: dict[str, _Opened] = {}
        self._minting: _Opened | None = None
        self._next_row = 0

    def mint(self) -> tuple[keys.KeyId, bytes]:
        """A fresh data key, durable before this returns.

        Most calls take a key from the block at hand; one in 256 writes and flushes a new block.

        Raises:
            OutOfResources, StorageFailed: the block could not be made durable; no key is given.
        """
        month = self._month()
        with self._lock:
            opened, row = self._minting, self._next_row
            if opened is None or row == keys.ROWS or opened.block.month != month:
                opened, row = self._new_block(month), 0
                self._minting = opened
            self._keep_block(opened)
            self._next_row = row + 1
            key = opened.block.open_row(row, opened.epoch)
            return keys.KeyId(opened.block.block_id, row), key

    def data_key(self, key_id: str) -> bytes:
        """The data key of an id that stands in a pack.

        Raises:
            NotHeld: the block or the row is gone: erased, or lost; see vault repair.
            Damaged: the block or the epoch key cannot be opened.
        """
        wanted = keys.KeyId.parse(key_id)
        with self._lock:
            opened = self._blocks.get(wanted.block)
            if opened is None:
                opened = self._blocks[wanted.block] = self._open_block(wanted.block)
            return opened.block.open_row(wanted.row, opened.epoch)

    def create_index_key(self, index_id: str) -> bytes:
        """A fresh key for a new index database, durable before this returns."""
        key = os.urandom(_INDEX_KEY_BYTES)
        with self.identities.locked():
            recipients = self.identities.recipients()
            sealed = age.encrypt(key, recipients, random=os.urandom(age.RANDOM_BYTES))
            self._files.publish(self._layout.index_key(index_id), sealed)
        return key

    def index_key(self, index_id: str) -> bytes:
        """The key of an index database.

        Raises:
            NotHeld: there is none of that id.
            Damaged: it cannot be opened by this site.
        """
        data = self._files.read(self._layout.index_key(index_id))
        return self.identities.open(lambda identity: age.decrypt(data, identity))

    def _month(self) -> str:
        return time_text(self._clock.now_ms())[:_MONTH_CHARACTERS]

    def _keep_block(self, opened: _Opened) -> None:
        """Put a block back that somebody removed: a key that is only in memory seals nothing."""
        block, held = opened.block, opened.epoch
        name = self._layout.key_block(str(self._writer), block.block_id)
        if self._files.exists(name):
            return
        with self.identities.locked():
            now = self._kept_epoch(held)
            if now.key != held.key:
                random = os.urandom(keys.NONCE_BYTES * len(block.rows))
                block = block.rewrapped(held, now, random=random)
            self._publish_block(block)

    def _new_block(self, month: str) -> _Opened:
        block_id = str(self._pack_ids.mint())
        with self.identities.locked():
            epoch = self._kept_epoch(
                keys.EpochKey(
                    hospital=self._hospital,
                    site=self._site,
                    month=month,
                    key=os.urandom(keys.KEY_BYTES),
                )
            )
            random = os.urandom(keys.BLOCK_RANDOM_BYTES)
            block = keys.KeyBlock.mint(block_id=block_id, epoch=epoch, random=random)
            self._publish_block(block)
        opened = self._blocks[block_id] = _Opened(block, epoch)
        return opened

    def _publish_block(self, block: keys.KeyBlock) -> None:
        self._files.make_directory(self._layout.writer_keys(self._writer))
        name = self._layout.key_block(str(self._writer), block.block_id)
        self._files.publish(name, block.encode())

    def _kept_epoch(self, mine: keys.EpochKey) -> keys.EpochKey:
        """The epoch key of that site and month as it is stored now; `mine`, if there was none."""
        name = self._layout.epoch(mine.site, mine.month)
        if not self._files.exists(name):
            recipients = self.identities.recipients()
            self._files.publish(name, mine.seal(recipients, random=os.urandom(age.RANDOM_BYTES)))
        epoch = self._epochs[name] = self._read_epoch(name)
        return epoch

    def _read_epoch(self, name: str) -> keys.EpochKey:
        data = self._files.read(name)
        return self.identities.open(lambda identity: keys.EpochKey.open(data, identity))

    def _open_block(self, block_id: str) -> _Opened:
        """A block with the epoch key that fits, whatever a rotation has done to either so far."""
        block = self._find_block(block_id)
        name = self._layout.epoch(block.site, block.month)
        known = self._epochs.get(name)
        if known is not None and block.is_under(known):
            return _Opened(block, known)
        before = self._layout.replaced_epoch(block.site, block.month)
        epoch = self._epochs[name] = self._read_epoch(name)
        if not block.is_under(epoch) and self._files.exists(before):
            with suppress(NotHeld):  # a rotation has just come to its end
                old = self._read_epoch(before)
                if block.is_under(old):
                    return _Opened(block, old)
        if not block.is_under(epoch):
            block = self._find_block(block_id)
        return _Opened(block, epoch)

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
