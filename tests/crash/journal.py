"""What a run did to its disk, in order: the only thing that crash states are made from.

Files and folders are numbered, not named: a name can move from one to another, content cannot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harmoni.index.packs import PackState


@dataclass(frozen=True, slots=True)
class Create:
    """A new, empty file under a name."""

    inode: int
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put into a file, not flushed."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut or extended, not flushed."""

    inode: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file flushed. A flush that failed settles nothing, and no later one settles it either."""

    inode: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Chmod:
    """A file protected; no crash state depends on it."""

    inode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A second name of a file."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file moved to another name."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name removed."""

    name: str


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A new folder."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """The names in a folder flushed."""

    name: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the index; a durable one makes every earlier one of its database durable."""

    database: str
    content: bytes
    durable: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """What the world was told, or did to us: no act of the product on its disk."""


@dataclass(frozen=True, slots=True)
class Stored(Mark):
    """Success was answered for an instance."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Recorded(Mark):
    """`record` returned for an event."""

    kind: str
    mark: str


@dataclass(frozen=True, slots=True)
class Sealed(Mark):
    """`finish` returned for a pack."""

    pack_id: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Flushed(Mark):
    """A flush of the index returned."""


@dataclass(frozen=True, slots=True)
class Harmed(Mark):
    """From here on a disk may have lost these instances of a pack."""

    pack_id: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Told(Mark):
    """A scrub said that a pack is not what was sealed, and which instances are lost with it."""

    pack_id: str
    state: PackState
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repaired(Mark):
    """A repair said that a pack is whole again."""

    pack_id: str


@dataclass(frozen=True, slots=True)
class Rotated(Mark):
    """A rotation returned; the public part of the identity in force."""

    recipient: str


@dataclass(frozen=True, slots=True)
class Erasing(Mark):
    """The erasure of a study has begun: these instances and packs, and the event of its name."""

    study: str
    numbers: tuple[int, ...]
    pack_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destroyed(Mark):
    """The erasure of a study returned."""

    study: str


@dataclass(frozen=True, slots=True)
class Phase:
    """What the run does from here on; reports count by it."""

    name: str


DiskOp = (
    Create
    | Write
    | Truncate
    | Sync
    | Chmod
    | Link
    | Rename
    | Unlink
    | MakeDirectory
    | SyncDirectory
)
Entry = DiskOp | Commit | Mark | Phase


@dataclass(slots=True)
class Journal:
    """Everything a run did, from a baseline on that is wholly durable.

    Attributes:
        folders: the folders of the baseline.
        files: the files of the baseline, by name: number and content.
        databases: the index databases of the baseline, by name.
        entries: what happened since.
    """

    folders: list[str] = field(default_factory=list)
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    databases: Mapping[str, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def note(self, entry: Entry) -> None:
        """Add what has just happened."""
        self.entries.append(entry)
