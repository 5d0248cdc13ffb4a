"""A site's private identities for one hospital: the one in force, and during a rotation its heir.

custody/<hospital>.<site>.identity    in force
custody/<hospital>.<site>.next        durable before the first file is encrypted to it; takes the
                                      other's name when every file opens with it

A process holds what it has read in memory and looks again when a file does not open: a rotation
needs no running process to be told of it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError, Damaged, NotHeld
from harmoni.model.identifiers import SiteId
from harmoni.sealing import age, keys
from harmoni.vault.layout import Layout

_T = TypeVar("_T")


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
    if files.exists(layout.identity(site)):
        # It may have been interrupted before the name was durable.
        files.sync_directory(layout.custody)
    else:
        identity = age.generate_identity(random=os.urandom(age.SEED_BYTES))
        files.publish(layout.identity(site), keys.wrap_identity(custody_key, identity))


class Identities:
    """Opens what is encrypted to this site, and says whom to encrypt for.

    Args:
        files: the store.
        layout: the hospital's names.
        site: this site.
        custody_key: the 32 bytes that unwrap.

    Raises:
        ConfigurationError: the hospital has no identity here, or the custody key is another.
    """

    def __init__(self, files: Filesystem, layout: Layout, site: SiteId, custody_key: bytes) -> None:
        self._files = files
        self._layout = layout
        self._site = site
        self._custody_key = custody_key
        try:
            recovery = files.read(layout.recovery_recipient)
        except NotHeld as error:
            raise self._no_keys() from error
        self.recovery = age.Recipient.from_string(recovery.decode("ascii").strip())
        """The public part of the hospital's recovery identity."""
        self._held = self._load()

    def current(self) -> age.Identity:
        """The identity in force, as its file says now."""
        self._held = self._load()
        return self._held[0]

    def heir(self) -> age.Identity | None:
        """The identity that a rotation puts in its place, as its file says now."""
        return self._read(self._layout.next_identity(self._site))

    def recipients(self) -> tuple[age.Recipient, ...]:
        """For whom a new file is, as the files say now; ask and use it within `locked`."""
        self._held = self._load()
        return (*(each.recipient() for each in self._held), self.recovery)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep keys of this hospital still: who mints an epoch or a block, and who rotates, waits.

        Short: a file or two. Only the end of a rotation looks at more.
        """
        with self._files.lock_file(self._layout.keys_lock, wait=True):
            yield

    def open(self, opener: Callable[[age.Identity], _T]) -> _T:
        """Open something with the identity that fits.

        Args:
            opener: opens it with an identity, or raises NotHeld when it is not for that.

        Raises:
            NotHeld: it is for none of this site's identities.
            Damaged: it is altered.
        """
        for look in range(2):
            for identity in self._held:
                with suppress(NotHeld):
                    return opener(identity)
            if look == 0:
                self._held = self._load()
        raise NotHeld(
            f"a key of {self._layout.hospital} is not for the identity of site {self._site}: it "
            "was restored from before a rotation, or comes from another site; take it from another "
            "copy of the keys, or have it encrypted anew with the recovery identity"
        )

    def fits(self, data: bytes) -> bool:
        """Whether an age file is whole and opens with an identity of this site."""
        try:
            self.open(lambda identity: age.decrypt(data, identity))
        except (Damaged, NotHeld):
            return False
        return True

    def _load(self) -> tuple[age.Identity, ...]:
        # The heir first: it takes the other's place, never the other way round.
        heir = self.heir()
        current = self._read(self._layout.identity(self._site))
        if current is None:
            raise self._no_keys()
        return (current,) if heir is None or heir == current else (current, heir)

    def _read(self, name: str) -> age.Identity | None:
        try:
            wrapped = self._files.read(name)
        except NotHeld:
            return None
        return keys.unwrap_identity(self._custody_key, wrapped)

    def _no_keys(self) -> ConfigurationError:
        return ConfigurationError(
            f"hospital {self._layout.hospital} has no keys at site {self._site}; run `harmoni "
            "hospital add`"
        )
