"""Scenario: keys are rotated while writers that came before and writers that come now mint more."""

from collections.abc import Iterator
from functools import partial

from crash import journal as j
from crash.look import check
from crash.promised import Promised
from crash.work import Again, Work, files
from harmoni.model.errors import Busy, NotHeld
from harmoni.sealing import age, keys
from harmoni.vault.layout import REPLACED_SUFFIX
from house import House

_MONTH_S = 31 * 86_400.0
_EVERY = 4
"""At one of so many chances between two steps a writer comes."""
_MOST = 5


class Newcomers:
    """Writers that start while a rotation runs: each mints a key block and takes an instance in.

    Args:
        work: where.
        operator: whose steps they come between.
    """

    def __init__(self, work: Work, operator: House) -> None:
        self._work = work
        self._operator = operator
        self._chances = 0
        self.houses: list[House] = []

    def come(self, _name: str) -> None:
        """Come at some chances; not while the keys are locked, as nobody can."""
        files_, layout = self._operator.site.files, self._operator.holding.layout
        try:
            with files_.lock_file(layout.keys_lock):
                pass
        except Busy:
            return
        self._chances += 1
        if self._chances % _EVERY or len(self.houses) == _MOST:
            return
        number = len(self.houses)
        if number == _MOST - 2:
            self._work.clock.advance(_MONTH_S)
        house = self._work.process(f"dc1-n1-w{20 + number}")
        self.houses.append(house)
        self._work.store(house, 20 + number, study=3)


def rotate(work: Work) -> Again:
    """The site's identity, then its epoch keys as well; two months of keys, and one that begins."""
    worker, keeper = work.process("dc1-n1-w1"), work.process("dc1-n1-k1")
    operator = work.process("dc1-n1-cli")
    work.journal.note(j.Rotated(recipient(worker)))
    work.phase("before rotation")
    work.store(worker, 1, study=1)
    work.record(keeper, "hold", "1.2.3")
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    work.clock.advance(_MONTH_S)
    work.store(worker, 2, study=1)
    newcomers = Newcomers(work, operator)
    files(operator).meanwhile = newcomers.come
    for epochs in (False, True):
        work.phase(f"rotate {'the epochs' if epochs else 'the identity'}")
        rotated = operator.holding.rotation.rotate(lambda *_: None, epochs=epochs)
        work.journal.note(j.Rotated(rotated.recipient))
        work.store(worker, 3 + epochs, study=2)
    work.phase("after rotation")
    files(operator).meanwhile = None
    assert len(newcomers.houses) == _MOST, newcomers.houses
    for house in (worker, *newcomers.houses):
        house.holding.recorder.packs.retire_all()
    work.finish(keeper)
    return partial(rotate_again, work.recovery)


def rotate_again(recovery: age.Identity, house: House, promised: Promised) -> None:
    """The command that was cut short once more; then the identity in force opens everything."""
    replaced = promised.rotations[:-1]
    check(recipient(house) not in replaced, "an identity that was replaced is in force again")
    epochs = bool(replaced)
    rotated = house.holding.rotation.rotate(lambda *_: None, epochs=epochs)
    check(rotated.recipient == recipient(house), "another identity is in force")
    layout, site = house.holding.layout, house.site
    check(not site.files.exists(layout.next_identity(site.site)), "an heir is left behind")
    identity = house.holding.keyring.identities.current()
    for opener in (identity, recovery):
        for folder in (layout.epochs, layout.index_keys):
            for name in site.files.names(folder):
                _opens(house, f"{folder}/{name}", opener)
    left = house.files(f"{layout.epochs}/*{REPLACED_SUFFIX}")
    check(not left or not epochs, f"left behind by a rotation: {left}")
    for name, block in _blocks(house):
        epoch = keys.EpochKey.open(site.files.read(layout.epoch(block.site, block.month)), identity)
        check(block.is_under(epoch), f"{name} is not under the epoch key of its month")


def recipient(house: House) -> str:
    """The public part of the site's identity in force."""
    return house.holding.keyring.identities.current().recipient().to_string()


def _opens(house: House, name: str, identity: age.Identity) -> None:
    try:
        age.decrypt(house.site.files.read(name), identity)
    except NotHeld:
        check(False, f"{name} does not open with {identity.recipient().to_string()[:20]}")


def _blocks(house: House) -> Iterator[tuple[str, keys.KeyBlock]]:
    for path in house.files(f"{house.holding.layout.keys}/dc1-*/*"):
        yield path.name, keys.KeyBlock.decode(path.read_bytes())
