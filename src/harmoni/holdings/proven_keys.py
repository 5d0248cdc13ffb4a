"""Which keys open a pack and its events: proved by opening, since a name alone may be wrong.

What is erased is gone for ever. So no key is destroyed upon the word of a README, a public table or
a member's name, which nothing authenticates: a flipped bit there names another study's key.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from harmoni.backends.filesystem import File, Filesystem
from harmoni.model.errors import Damaged, NotHeld
from harmoni.model.identifiers import PackId
from harmoni.sealing import event, pack
from harmoni.vault import reader
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout


class ProvenKeys:
    """Finds keys of one hospital's packs.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: its keys.
    """

    def __init__(self, files: Filesystem, layout: Layout, keyring: Keyring) -> None:
        self._files = files
        self._layout = layout
        self._keyring = keyring

    def of_pack(self, pack_id: PackId) -> str:
        """The id of the key that opens a pack; "" when its file is missing or does not tell.

        What README and public table say counts for nothing before it opens a member: a flipped bit
        would destroy the key of another study, and leave this one's.
        """
        with suppress(NotHeld), reader.open_file(self._files, self._layout, pack_id) as file:
            named = set()
            with suppress(Damaged):
                named.add(reader.read_readme(file).key_id)
            with suppress(Damaged):
                named.add(reader.read_tail(file)[1].public.key_id)
            for key_id in sorted(named):
                if self._opens(file, pack_id, key_id):
                    return key_id
        return ""

    def _opens(self, file: File, pack_id: PackId, key_id: str) -> bool:
        """Whether a key opens the beginning of some instance of a pack."""
        for member in reader.walk(file):
            name = pack.parse_name(member.name)
            if name is None or name.kind is not pack.Kind.INSTANCE:
                continue
            try:
                next(self._plaintext(file, pack_id, member, name, key_id))
            except Damaged:
                continue
            except NotHeld:
                return False
            return True
        return False

    def of_events(self, pack_id: PackId, is_of: Callable[[str], bool]) -> dict[int, str]:
        """The key of each event in a pack that has such a subject, as far as it opens it.

        Args:
            pack_id: a pack of events, sealed or not.
            is_of: whether a subject is the one that is meant.

        Returns:
            Key ids by sequence number.
        """
        keys_of = {}
        with suppress(NotHeld), reader.open_file(self._files, self._layout, pack_id) as file:
            for member in reader.walk(file):
                name = pack.parse_name(member.name)
                if name is None or name.key_id is None:
                    continue
                with suppress(Damaged, NotHeld):
                    runs = self._plaintext(file, pack_id, member, name, name.key_id)
                    if is_of(event.Event.decode(b"".join(runs)).subject):
                        keys_of[name.sequence] = name.key_id
        return keys_of

    def _plaintext(
        self, file: File, pack_id: PackId, member: reader.Member, name: pack.MemberName, key_id: str
    ) -> Iterator[memoryview]:
        return reader.open_member(
            file,
            offset=member.offset,
            size_bytes=member.size_bytes,
            data_key=self._keyring.data_key(key_id),
            associated_data=pack.associated_data(
                kind=name.kind,
                hospital=self._layout.hospital,
                pack_id=pack_id,
                sequence=name.sequence,
            ),
        )
