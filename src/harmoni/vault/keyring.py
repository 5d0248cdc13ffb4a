"""The keys of one hospital as one writer sees them: identities, epochs, key blocks.

Order of durability: an epoch key is durable before a block that it wraps, and a block before the
first key of it is used. Writing packs rewrites nothing here. A rotation (`rotation`) and an erasure
replace whole files, in this process or beside it; every use of a block looks at its file's stamp.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import HospitalId, SiteId, WriterId
from harmoni.runtime.clock import Clock
from harmoni.sealing import age, keys
from harmoni.sealing.document import time_text
from harmoni.vault.identities import Identities
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds

_MONTH_CHARACTERS: Final = len("2026-11")
_INDEX_KEY_BYTES: Final = 32
_OPEN_BLOCKS: Final = 64


@dataclass(frozen=True, slots=True)
class _Stored:
    """A key block as it was read or written."""

    block: keys.KeyBlock
    name: str
    stamp: tuple[int, int]
    """Of its file: another one means that a rotation or an erasure has replaced it."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A key block, and the epoch key that it is wrapped under."""

    stored: _Stored
    epoch: keys.EpochKey

    @property
    def block(self) -> keys.KeyBlock:
        """The block itself."""
        return self.stored.block


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
        self._blocks: OrderedDict[str, _Opened] = OrderedDict()
        self._folders: dict[str, tuple[int, int]] = {}
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
            opened = self._minting = self._kept_block(opened)
            self._next_row = row + 1
            key = opened.block.open_row(row, opened.epoch)
            return keys.KeyId(opened.block.block_id, row), key

    def data_key(self, key_id: str) -> bytes:
        """The data key of an id that stands in a pack.

        Raises:
            Erased: the row is gone, on purpose.
            NotHeld: the block is gone; restore it from another copy of the keys.
            Damaged: the block or the epoch key cannot be opened.
        """
        wanted = keys.KeyId.parse(key_id)
        with self._lock:
            opened = self._blocks.get(wanted.block)
            if opened is None or self._is_replaced(opened):
                opened = self._open_block(wanted.block)
            self._keep_open(opened)
            return opened.block.open_row(wanted.row, opened.epoch)

    def forget_replaced(self) -> bool:
        """Let no key stay in memory that an erasure has taken from its block; called each second.

        Returns:
            Whether blocks came or were replaced since the last time: who has keys of packs in
            memory must ask for them anew.
        """
        with self._lock:
            folders = {}
            for writer in self._files.names(self._layout.keys):
                with suppress(NotHeld):
                    folders[writer] = self._files.stamp(f"{self._layout.keys}/{writer}")
            if folders == self._folders:
                return False
            self._folders = folders
            for block_id, opened in list(self._blocks.items()):
                if self._is_replaced(opened):
                    del self._blocks[block_id]
            if self._minting is not None and self._is_replaced(self._minting):
                # Were its file lost, it would be put back as it is here: begin another one.
                self._minting = None
            return True

    def erase(self, key_ids: Iterable[str]) -> int:
        """Destroy data keys: the next generation of their blocks, without their rows.

        The caller holds the lock of rotations. A block is replaced in one durable step; a key that
        is gone already, and a block that is missing, are passed over.

        Returns:
            How many keys were destroyed now.

        Raises:
            Damaged: a block cannot be read; restore it, and erase again. The others are done.
            OutOfResources, StorageFailed: some may be left; erase again.
        """
        rows: dict[str, set[int]] = {}
        for key_id in map(keys.KeyId.parse, key_ids):
            rows.setdefault(key_id.block, set()).add(key_id.row)
        destroyed, damaged, folders = 0, [], set()
        for block_id, unwanted in rows.items():
            with self._lock, self.identities.locked():
                gone: set[int] = set()
                # Somebody may have put a second copy into another folder.
                for name in self._names_of_block(block_id):
                    try:
                        gone |= self._erase_rows(name, unwanted)
                        folders.add(name.rpartition("/")[0])
                    except NotHeld:
                        continue
                    except Damaged as error:
                        # It must not save what the others have.
                        damaged.append(f"{name}: {error}")
                if gone:
                    self._blocks.pop(block_id, None)
                    destroyed += len(gone)
        for folder in folders:
            # What an earlier call replaced may not have come to be durable.
            self._files.sync_directory(folder)
        if damaged:
            raise Damaged(damaged[0])
        return destroyed

    def _erase_rows(self, name: str, unwanted: AbstractSet[int]) -> AbstractSet[int]:
        """Replace one file of a block by its next generation; returns the rows that it had."""
        block = keys.KeyBlock.decode(self._files.read(name))
        gone = frozenset(unwanted & block.rows.keys())
        if gone:
            self._files.replace(name, block.without(gone).encode())
        return gone

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

    def _is_replaced(self, opened: _Opened) -> bool:
        """Whether another file has the name of a block now; a lost one does no harm in memory."""
        try:
            return self._files.stamp(opened.stored.name) != opened.stored.stamp
        except NotHeld:
            return False

    def _kept_block(self, opened: _Opened) -> _Opened:
        """The block as it is stored now; put back if somebody removed it.

        A key that is only in memory seals nothing.
        """
        block, held = opened.block, opened.epoch
        if self._is_replaced(opened):
            opened = self._open_block(block.block_id)
        elif not self._files.exists(opened.stored.name):
            with self.identities.locked():
                now = self._kept_epoch(held)
                if now.key != held.key:
                    random = os.urandom(keys.NONCE_BYTES * len(block.rows))
                    block = block.rewrapped(held, now, random=random)
                opened = self._publish_block(block, now)
        self._keep_open(opened)
        return opened

    def _keep_open(self, opened: _Opened) -> None:
        """Have a block at hand; the last 64 are."""
        self._blocks[opened.block.block_id] = opened
        self._blocks.move_to_end(opened.block.block_id)
        if len(self._blocks) > _OPEN_BLOCKS:
            self._blocks.popitem(last=False)

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
            return self._publish_block(block, epoch)

    def _publish_block(self, block: keys.KeyBlock, epoch: keys.EpochKey) -> _Opened:
        self._files.make_directory(self._layout.writer_keys(self._writer))
        name = self._layout.key_block(str(self._writer), block.block_id)
        self._files.publish(name, block.encode())
        return _Opened(_Stored(block, name, self._files.stamp(name)), epoch)

    def _kept_epoch(self, mine: keys.EpochKey) -> keys.EpochKey:
        """The epoch key of that site and month as it is stored now; `mine`, if there was none."""
        name = self._layout.epoch(mine.site, mine.month)
        if self._files.exists(name):
            # Whoever published it may have failed, or died, before its name was durable.
            self._files.sync_directory(self._layout.epochs)
        else:
            recipients = self.identities.recipients()
            self._files.publish(name, mine.seal(recipients, random=os.urandom(age.RANDOM_BYTES)))
        epoch = self._epochs[name] = self._read_epoch(name)
        return epoch

    def _read_epoch(self, name: str) -> keys.EpochKey:
        data = self._files.read(name)
        return self.identities.open(lambda identity: keys.EpochKey.open(data, identity))

    def _open_block(self, block_id: str) -> _Opened:
        """A block with the epoch key that fits, whatever a rotation has done to either so far."""
        stored = self._find_block(block_id)
        block = stored.block
        name = self._layout.epoch(block.site, block.month)
        known = self._epochs.get(name)
        if known is not None and block.is_under(known):
            return _Opened(stored, known)
        before = self._layout.replaced_epoch(block.site, block.month)
        epoch = self._epochs[name] = self._read_epoch(name)
        if not block.is_under(epoch) and self._files.exists(before):
            with suppress(NotHeld):  # a rotation has just come to its end
                old = self._read_epoch(before)
                if block.is_under(old):
                    return _Opened(stored, old)
        if not block.is_under(epoch):
            stored = self._find_block(block_id)
        return _Opened(stored, epoch)

    def _names_of_block(self, block_id: str) -> list[str]:
        """Where a block may lie."""
        return [
            self._layout.key_block(writer, block_id)
            for writer in self._files.names(self._layout.keys)
        ]

    def _find_block(self, block_id: str) -> _Stored:
        for name in self._names_of_block(block_id):
            try:
                # Taken before reading: what replaces it meanwhile has another.
                stamp = self._files.stamp(name)
                return _Stored(keys.KeyBlock.decode(self._files.read(name)), name, stamp)
            except NotHeld:
                continue
            except Damaged as error:
                raise Damaged(f"{name}: {error}") from error
        raise NotHeld(
            f"key block {block_id} of {self._hospital} is missing: restore it from another copy of"
            " the keys"
        )
