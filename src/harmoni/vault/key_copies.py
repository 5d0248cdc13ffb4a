"""Copies of a hospital's keys in other places, such as directories on other machines' mounts.

A key is durable here before it is used, and the keeper brings it to every place within seconds. Not
before its first use: a place that is away would stop the hospital's sending, and what the key
encrypts lies in that second on the same disk as the key, so that both are lost or neither. What
makes it more than that, the commitment upon which a gateway lets go, comes only after a pack was
quiet and sealed. A place that is behind or away is told, by the keeper's health, by `status` and by
`check`, until it has caught up.

A copy opens by itself, wherever bringing it stops: the epoch keys come first, what they replace
stays beside them as <name>.replaced, and goes when every key block is there.

The copy has the names of the original, below keys/<hospital>. The program never makes the place
itself: what was not mounted must not look like an empty place. Nothing of custody is copied.

Limits: what differs there is overwritten when the role starts, unless it is an epoch key that opens
no more here, or a block of a lower generation than there, which says that the keys here are old. A
block whose rows went bad in its own generation is not told from a good one. Nothing in a copy is
removed but what a rotation has replaced, and the keys of indexes that an erasure has taken away. Of
a copy that was half brought when a further rotation ended, some blocks open only when that is
brought. A place on a network mount that hangs instead of failing holds up the keeper: mount it so
that it fails.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import AlreadyHeld, Damaged, HarmoniError, NotHeld
from harmoni.sealing import keys
from harmoni.vault.layout import EPOCH_SUFFIX, REPLACED_SUFFIX, Layout

_NS_PER_MS: Final = 1_000_000


class _Place:
    """One other directory, and what was brought there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = Filesystem(path)
        self.stamps: dict[str, tuple[int, int]] = {}
        """Of the files and folders that were brought."""
        self.settled: dict[str, tuple[int, int]] = {}
        """Of the folders that need not be looked into before they change."""
        self.gone: set[str] = set()
        """Epoch keys that are kept there only until all blocks are."""

    def require(self) -> None:
        """See that it is there; what was brought is looked at anew once it was away."""
        if not self.path.is_dir():
            self.stamps, self.settled = {}, {}
            raise NotHeld("it is not there: mount it, or correct copies in [keys]")


class KeyCopies:
    """Keeps one hospital's keys in other places.

    Args:
        files: the store.
        layout: the hospital's names.
        places: directories that are there when they can be reached.
        opens: whether an age file, such as an epoch key, opens at this site.
    """

    def __init__(
        self,
        files: Filesystem,
        layout: Layout,
        places: Sequence[Path],
        opens: Callable[[bytes], bool],
    ) -> None:
        self._files = files
        self._opens = opens
        self._layout = layout
        self._places = [_Place(path) for path in places]

    def mirror(self) -> dict[str, str]:
        """Bring what is new to every place; one keeper does, once a second.

        Looks into folders that changed since the last time. What a place refuses is tried again.

        Returns:
            For each place that is not as it should be, why, in a sentence.
        """
        problems: dict[str, str] = {}
        for place in self._places:
            try:
                place.require()
                behind = [why for folder in self._folders() for why in self._bring(place, folder)]
                if not behind:
                    self._remove_gone(place)
            except HarmoniError as error:
                behind = [str(error)]
            if behind:
                problems[f"keys at {place.path}"] = _told(place.path, behind)
        return problems

    def verify(self, *, now_ms: int, grace_s: float) -> list[str]:
        """Compare every file with every place, to the byte; nothing is changed.

        Reads all keys: some 23 KB for 256 packs.

        Args:
            now_ms: the time.
            grace_s: what is younger may still be on its way.

        Returns:
            For each place that is behind, altered or away, a sentence.
        """
        problems = []
        for place in self._places:
            try:
                place.require()
                behind = [
                    why
                    for folder in self._folders()
                    for why in self._compare(place, folder, now_ms - int(grace_s * 1000))
                ]
            except HarmoniError as error:
                behind = [str(error)]
            if behind:
                problems.append(_told(place.path, behind))
        return problems

    def _folders(self) -> list[str]:
        """The folder of keys and those in it; epoch keys before the blocks that need them."""
        own, epochs = self._layout.keys, self._layout.epochs
        inner = {f"{own}/{name}" for name in self._names(own)}
        return [own, epochs, *sorted(inner - {epochs, self._layout.recovery_recipient})]

    def _names(self, folder: str) -> list[str]:
        return [name for name in self._files.names(folder) if not name.startswith(".")]

    def _files_of(self, folder: str) -> Iterator[str]:
        if folder == self._layout.keys:
            yield self._layout.recovery_recipient
        else:
            names = self._names(folder)
            names.sort(key=lambda name: not name.endswith(REPLACED_SUFFIX))
            yield from (f"{folder}/{name}" for name in names)

    def _bring(self, place: _Place, folder: str) -> Iterator[str]:
        # Taken before looking: what changes meanwhile is met by the next look.
        stamp = self._files.stamp(folder)
        if place.settled.get(folder) == stamp:
            return
        place.files.make_directory(folder)
        place.files.drop_abandoned(folder)
        failed = False
        names = list(self._files_of(folder))
        for name in names:
            if why := self._bring_file(place, name):
                failed = True
                yield why
        for name in place.files.names(folder):
            if f"{folder}/{name}" not in names and self._goes(folder, name, names):
                place.gone.add(f"{folder}/{name}")
        if not failed:
            # Looked into once more: a change within the same tick of the clock has the same stamp.
            if place.stamps.get(folder) == stamp:
                place.settled[folder] = stamp
            place.stamps[folder] = stamp

    def _goes(self, folder: str, name: str, names: Sequence[str]) -> bool:
        """Whether a file that is not here any more goes in a copy too: no key of data does.

        An erasure takes the keys of indexes away that are not live; where none is left they were
        lost.
        """
        if folder == self._layout.index_keys:
            return bool(names) and not name.startswith(".")
        return name.endswith(REPLACED_SUFFIX)

    def _bring_file(self, place: _Place, name: str) -> str:
        try:
            stamp = self._files.stamp(name)
            if place.stamps.get(name) == stamp:
                return ""
            data = self._files.read(name)
        except NotHeld:  # replaced by a rotation since it was listed
            return ""
        there = None
        with suppress(NotHeld):
            there = place.files.read(name)
        if there != data:
            if there is not None and _generation(there) > _generation(data):
                return f"{name} is older here than there: restore it from there"
            if there is not None and name.endswith(EPOCH_SUFFIX) and not self._opens(data):
                return f"{name} does not open here, and another one is there: restore it from there"
            if there is not None:
                self._keep_replaced(place, name, there)
            place.files.replace(name, data)
        place.stamps[name] = stamp
        return ""

    def _keep_replaced(self, place: _Place, name: str, there: bytes) -> None:
        """Keep the epoch key that a place has: the blocks that it has may be under that one."""
        if name.startswith(f"{self._layout.epochs}/") and name.endswith(EPOCH_SUFFIX):
            with suppress(AlreadyHeld):
                kept = name.removesuffix(EPOCH_SUFFIX) + REPLACED_SUFFIX
                place.files.publish(kept, there)

    def _remove_gone(self, place: _Place) -> None:
        """Remove the keys that nothing at a place needs any more."""
        for name in sorted(place.gone):
            if not self._files.exists(name):
                with suppress(NotHeld):
                    place.files.remove(name)
                place.files.sync_directory(name.rpartition("/")[0])
        place.gone.clear()

    def _compare(self, place: _Place, folder: str, older_than_ms: int) -> Iterator[str]:
        here = set()
        for name in self._files_of(folder):
            here.add(name)
            with suppress(NotHeld):
                if self._files.stamp(name)[1] > older_than_ms * _NS_PER_MS:
                    continue
                data = self._files.read(name)
                try:
                    there = place.files.read(name)
                except NotHeld:
                    yield f"{name} is missing: the role brings it within seconds of its next start"
                    continue
                if there != data:
                    yield (
                        f"{name} differs: save both, and find out which of the two opens, before "
                        "the role starts again and writes what is here over it, if that opens"
                    )
        if folder != self._layout.keys:
            for name in place.files.names(folder):
                if not name.startswith(".") and f"{folder}/{name}" not in here:
                    yield f"{folder}/{name} is there and not here"


def _generation(data: bytes) -> int:
    """The generation of a key block; -1 of what is none, such as a damaged one or an epoch key."""
    try:
        return keys.KeyBlock.decode(data).generation
    except Damaged:
        return -1


def _told(path: Path, behind: Sequence[str]) -> str:
    more = f" (and {len(behind) - 1} more)" if len(behind) > 1 else ""
    return f"the copy of the keys at {path} is not complete: {behind[0]}{more}"
