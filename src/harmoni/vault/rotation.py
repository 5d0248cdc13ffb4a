"""Rotation: new keys in the place of old ones, beside the running role; packs never change.

Of the site identity:    the heir is durable · every epoch and index key is encrypted to it, one by
                         one · under the lock of the keys, what came meanwhile · it takes the name
                         of the identity in force, whose bytes are gone with that
Of the epoch keys:       the old file is kept as <name>.replaced · a fresh key takes its name · each
                         block is wrapped anew, as its next generation · under the lock, what came
                         meanwhile · .replaced goes

Every step is one durable act, and after each of them everything opens: who is killed on the way, or
meets a full disk, runs the same command again. Old files in copies and backups still open with what
was replaced: rotation ends the worth of a stolen key only once they are gone or replaced as well.

Limit: the recipients are this site's identity and the hospital's recovery identity. With a second
site its recipient must be among them before this may run there.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import SiteId
from harmoni.sealing import age, keys
from harmoni.vault.identities import Identities
from harmoni.vault.layout import EPOCH_SUFFIX, REPLACED_SUFFIX, Layout

Progress = Callable[[int, int], None]
"""Called with files done and files in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation did; what an earlier, interrupted one had done is not counted again."""

    recipient: str
    """The public part of the site identity in force now."""
    files_encrypted: int
    """Epoch and index keys encrypted to the new site identity."""
    epochs_replaced: int
    blocks_wrapped: int


@dataclass(frozen=True, slots=True)
class _Pair:
    """The epoch key of a site and month that is replaced, and the one that replaces it."""

    old: keys.EpochKey
    new: keys.EpochKey


class Rotation:
    """Rotates one hospital's keys at one site.

    Args:
        files: the store.
        layout: the hospital's names.
        site: this site.
        custody_key: the 32 bytes that wrap the site identity.
        identities: opens what is there.
    """

    def __init__(
        self,
        *,
        files: Filesystem,
        layout: Layout,
        site: SiteId,
        custody_key: bytes,
        identities: Identities,
    ) -> None:
        self._files = files
        self._layout = layout
        self._site = site
        self._custody_key = custody_key
        self._identities = identities

    def rotate(self, progress: Progress, *, epochs: bool = False) -> Rotated:
        """Put a new site identity in force, and with `epochs` new epoch keys too.

        Called again after an interruption it goes on where that was.

        Raises:
            Busy: another rotation of this hospital runs.
            NotHeld, Damaged: a key cannot be opened; what is there stays in force, and the error
                names the file to restore from another copy.
            OutOfResources, StorageFailed: likewise; run it again.
        """
        with self._files.lock_file(self._layout.rotation_lock):
            encrypted = self._rotate_identity(progress)
            replaced, wrapped = self._rotate_epochs(progress) if epochs else (0, 0)
            return Rotated(
                recipient=self._identities.current().recipient().to_string(),
                files_encrypted=encrypted,
                epochs_replaced=replaced,
                blocks_wrapped=wrapped,
            )

    def _rotate_identity(self, progress: Progress) -> int:
        heir_name = self._layout.next_identity(self._site)
        heir = self._identities.heir()
        if heir is None:
            heir = age.generate_identity(random=os.urandom(age.SEED_BYTES))
            self._files.publish(heir_name, keys.wrap_identity(self._custody_key, heir))
        done, names = 0, list(self._encrypted())
        for number, name in enumerate(names, 1):
            done += self._encrypt_to(heir, name)
            progress(number, len(names))
        with self._identities.locked():
            for name in self._encrypted():
                done += self._encrypt_to(heir, name)
            self._files.rename(heir_name, self._layout.identity(self._site))
            self._files.sync_directory(self._layout.custody)
        return done

    def _encrypted(self) -> Iterator[str]:
        """Every age file; what a killed process left behind begins with a dot."""
        for folder in (self._layout.epochs, self._layout.index_keys):
            for name in self._files.names(folder):
                if not name.startswith("."):
                    yield f"{folder}/{name}"

    def _encrypt_to(self, heir: age.Identity, name: str) -> bool:
        """Put a file for the heir and nobody else of this site in the place of one; tell if."""
        data = self._files.read(name)
        old = self._identities.current()
        try:
            body = self._identities.open(lambda identity: age.decrypt(data, identity))
        except (Damaged, NotHeld) as error:
            raise type(error)(f"{name}: {error}") from error
        if _opens(data, heir) and not _opens(data, old):
            return False
        recipients = (heir.recipient(), self._identities.recovery)
        sealed = age.encrypt(body, recipients, random=os.urandom(age.RANDOM_BYTES))
        self._files.replace(name, sealed)
        return True

    def _rotate_epochs(self, progress: Progress) -> tuple[int, int]:
        names = [
            name.removesuffix(EPOCH_SUFFIX)
            for name in self._files.names(self._layout.epochs)
            if name.endswith(EPOCH_SUFFIX) and not name.startswith(".")
        ]
        pairs = dict(map(self._begin_epoch, names))
        wrapped, seen = 0, list(self._blocks())
        for number, name in enumerate(seen, 1):
            wrapped += self._wrap(name, pairs)
            progress(number, len(seen))
        with self._identities.locked():
            for name in set(self._blocks()) - set(seen):
                wrapped += self._wrap(name, pairs)
            for name in names:
                self._files.remove(f"{self._layout.epochs}/{name}{REPLACED_SUFFIX}")
            self._files.sync_directory(self._layout.epochs)
        return len(names), wrapped

    def _begin_epoch(self, stem: str) -> tuple[tuple[SiteId, str], _Pair]:
        """Keep the old key and put a fresh one in its place, unless that is done."""
        name = f"{self._layout.epochs}/{stem}{EPOCH_SUFFIX}"
        kept = f"{self._layout.epochs}/{stem}{REPLACED_SUFFIX}"
        if not self._files.exists(kept):
            self._files.publish(kept, self._files.read(name))
        old, new = self._epoch(kept), self._epoch(name)
        if old.key == new.key:
            new = keys.EpochKey(
                hospital=old.hospital,
                site=old.site,
                month=old.month,
                key=os.urandom(keys.KEY_BYTES),
            )
            with self._identities.locked():
                recipients = self._identities.recipients()
                sealed = new.seal(recipients, random=os.urandom(age.RANDOM_BYTES))
                self._files.replace(name, sealed)
        return (old.site, old.month), _Pair(old, new)

    def _epoch(self, name: str) -> keys.EpochKey:
        data = self._files.read(name)
        try:
            return self._identities.open(lambda identity: keys.EpochKey.open(data, identity))
        except (Damaged, NotHeld) as error:
            raise type(error)(f"{name}: {error}") from error

    def _blocks(self) -> Iterator[str]:
        """Every key block, of every writer that there ever was."""
        for writer in self._files.names(self._layout.keys):
            folder = f"{self._layout.keys}/{writer}"
            if writer.startswith(".") or folder in self._layout.not_writers:
                continue
            for name in self._files.names(folder):
                if not name.startswith("."):
                    yield f"{folder}/{name}"

    def _wrap(self, name: str, pairs: dict[tuple[SiteId, str], _Pair]) -> bool:
        """Put the next generation of a block, under the new key, in its place; tell if."""
        try:
            block = keys.KeyBlock.decode(self._files.read(name))
            pair = pairs.get((block.site, block.month))
            if pair is None and self._files.exists(self._layout.epoch(block.site, block.month)):
                return False  # a month that began since: its key is as fresh
            following = _following(block, pair)
        except (Damaged, NotHeld) as error:
            raise type(error)(f"{name} cannot be wrapped anew: {error}") from error
        if following is None:
            return False
        self._files.replace(name, following.encode())
        return True


def _following(block: keys.KeyBlock, pair: _Pair | None) -> keys.KeyBlock | None:
    """The next generation of a block under its new epoch key; None if this is it already."""
    if pair is None:
        raise NotHeld(f"its epoch key {block.site}-{block.month} is missing")
    if block.is_under(pair.new):
        return None
    random = os.urandom(keys.NONCE_BYTES * len(block.rows))
    return block.rewrapped(pair.old, pair.new, random=random)


def _opens(data: bytes, identity: age.Identity) -> bool:
    try:
        age.decrypt(data, identity)
    except NotHeld:
        return False
    return True
