"""Where things of one hospital lie below a data directory (ARCHITECTURE.md, "On disk").

Every part of a name here is an identifier of ours with a checked alphabet; no name comes from a
peer.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import InvalidInput, NotHeld
from harmoni.model.identifiers import HospitalId, PackId, SiteId, WriterId

PACK_SUFFIX: Final = ".tar"
PART_SUFFIX: Final = ".part"
NEW_SUFFIX: Final = ".new"
FENCED_SUFFIX: Final = ".fenced"
REPAIR_SUFFIX: Final = ".repair"
EPOCH_SUFFIX: Final = ".age"
"""Of age files: epoch keys, and index keys too."""
REPLACED_SUFFIX: Final = ".replaced"
EPOCHS_FOLDER: Final = "epochs"
INDEX_KEYS_FOLDER: Final = "index"
RECOVERY_RECIPIENT: Final = "recovery.recipient"


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one hospital's files."""

    hospital: HospitalId

    @property
    def packs(self) -> str:
        """The folder with all packs."""
        return f"packs/{self.hospital}"

    @property
    def open_packs(self) -> str:
        """The folder of packs that are not sealed yet."""
        return f"{self.packs}/open"

    @property
    def sealed_packs(self) -> str:
        """The folder of folders of sealed packs."""
        return f"{self.packs}/p"

    def open_pack(self, pack_id: PackId) -> str:
        """A pack while it is written."""
        return f"{self.open_packs}/{pack_id}{PACK_SUFFIX}"

    def new_pack(self, pack_id: PackId) -> str:
        """A pack that is being made: not locked yet, and nobody's business but its maker's."""
        return f"{self.open_packs}/{pack_id}{NEW_SUFFIX}"

    def fenced(self, pack_id: PackId) -> str:
        """The mark of a pack on which a write or a flush failed."""
        return f"{self.open_packs}/{pack_id}{FENCED_SUFFIX}"

    def part(self, pack_id: PackId, sequence: int) -> str:
        """A large instance on its way into a pack, encrypted."""
        return f"{self.open_packs}/{pack_id}.{sequence:08d}{PART_SUFFIX}"

    def sealed_pack(self, pack_id: PackId) -> str:
        """A pack after it was sealed."""
        return f"{self.sealed_packs}/{pack_id.folder}/{pack_id}{PACK_SUFFIX}"

    def places_of_pack(self, pack_id: PackId) -> tuple[str, str, str]:
        """Where to look for a pack, sealed or not: one that moves between two looks is met."""
        sealed = self.sealed_pack(pack_id)
        return sealed, self.open_pack(pack_id), sealed

    def repaired_pack(self, pack_id: PackId) -> str:
        """A whole copy on its way into the place of a sealed pack."""
        return f"{self.sealed_packs}/{pack_id.folder}/{pack_id}{REPAIR_SUFFIX}"

    @property
    def repair_lock(self) -> str:
        """Held by a repair, of which there is one at a time."""
        return f"{self.packs}/repair.lock"

    @property
    def keys(self) -> str:
        """The folder of everything wrapped: key blocks, epochs, index keys."""
        return f"keys/{self.hospital}"

    def key_block(self, writer: str, block: str) -> str:
        """A key block, under the writer that minted it."""
        return f"{self.keys}/{writer}/{block}"

    def writer_keys(self, writer: WriterId) -> str:
        """The folder of one writer's key blocks."""
        return f"{self.keys}/{writer}"

    @property
    def epochs(self) -> str:
        """The folder of epoch keys."""
        return f"{self.keys}/{EPOCHS_FOLDER}"

    def epoch(self, site: SiteId, month: str) -> str:
        """The epoch key of a site for a month, an age file."""
        return f"{self.epochs}/{site}-{month}{EPOCH_SUFFIX}"

    @property
    def index_keys(self) -> str:
        """The folder of index keys."""
        return f"{self.keys}/{INDEX_KEYS_FOLDER}"

    def index_key(self, index_id: str) -> str:
        """The key of one index database, an age file."""
        return f"{self.index_keys}/{index_id}{EPOCH_SUFFIX}"

    @property
    def recovery_recipient(self) -> str:
        """The public part of the hospital's recovery identity."""
        return f"{self.keys}/{RECOVERY_RECIPIENT}"

    @property
    def not_writers(self) -> frozenset[str]:
        """What lies beside the folders of writers."""
        return frozenset({self.epochs, self.index_keys, self.recovery_recipient})

    @property
    def custody(self) -> str:
        """The folder of what custody wraps, and of the locks over keys."""
        return "custody"

    def identity(self, site: SiteId) -> str:
        """The site's private identity for this hospital, wrapped by custody."""
        return f"{self.custody}/{self.hospital}.{site}.identity"

    def next_identity(self, site: SiteId) -> str:
        """The identity that a rotation puts in its place, wrapped likewise."""
        return f"{self.custody}/{self.hospital}.{site}.next"

    def replaced_epoch(self, site: SiteId, month: str) -> str:
        """The epoch key before a rotation, until no block needs it."""
        return f"{self.epochs}/{site}-{month}{REPLACED_SUFFIX}"

    @property
    def keys_lock(self) -> str:
        """Held for the moment in which keys are minted or erased, and at the end of a rotation."""
        return f"{self.custody}/{self.hospital}.lock"

    @property
    def rotation_lock(self) -> str:
        """Held by a rotation or an erasure, of which there is one at a time."""
        return f"{self.custody}/{self.hospital}.rotation"

    def log(self, site: SiteId) -> str:
        """The folder of a site's seal log."""
        return f"log/{self.hospital}/{site}"

    @property
    def index(self) -> str:
        """The folder of index databases."""
        return f"index/{self.hospital}"

    def index_database(self, index_id: str) -> str:
        """One index database."""
        return f"{self.index}/{index_id}.sqlite"

    @property
    def current_index(self) -> str:
        """The small file that names the live index database."""
        return f"{self.index}/current"

    @property
    def rebuild_lock(self) -> str:
        """Held by a rebuild, of which there is one at a time."""
        return f"{self.index}/rebuild.lock"

    def find_open(self, files: Filesystem) -> list[tuple[PackId, str]]:
        """The packs that are not sealed yet and are there now, each with its name."""
        return self._packs_in(self.open_packs, files)

    def find_sealed(self, files: Filesystem) -> list[tuple[PackId, str]]:
        """The sealed packs that are there now, each with its name.

        A pack moves from the open ones to these: who wants all of them lists the open ones first,
        and meets it twice rather than never.
        """
        found = []
        for folder in files.names(self.sealed_packs):
            with suppress(NotHeld):  # somebody's file among the folders
                found += self._packs_in(f"{self.sealed_packs}/{folder}", files)
        return found

    def prepare(self, files: Filesystem, site: SiteId) -> None:
        """Make the folders that do not exist yet, durably."""
        for folder in (
            self.open_packs,
            self.sealed_packs,
            self.epochs,
            self.index_keys,
            self.index,
            self.custody,
            self.log(site),
        ):
            files.make_directory(folder)

    def _packs_in(self, folder: str, files: Filesystem) -> list[tuple[PackId, str]]:
        """What is named otherwise than a pack is none of ours."""
        found = []
        for name in files.names(folder):
            if name.endswith(PACK_SUFFIX):
                with suppress(InvalidInput):
                    found.append((PackId(name.removesuffix(PACK_SUFFIX)), f"{folder}/{name}"))
        return found
