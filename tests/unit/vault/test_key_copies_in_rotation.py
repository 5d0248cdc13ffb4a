"""A copy of the keys opens every key block, wherever bringing it stops while keys are rotated."""

import itertools
import os
import shutil

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.holding import Holding
from harmoni.model.errors import NotHeld, StorageFailed
from harmoni.model.identifiers import SiteId
from harmoni.sealing import age, keys
from harmoni.testing import FakeClock
from harmoni.vault.key_copies import KeyCopies

ACTS = ("publish", "replace", "remove")


class Rig:
    """A hospital with key blocks of two months, and a place with a copy of them."""

    def __init__(self, root, site):
        for name in ("site", "place"):
            (root / name).mkdir()
        self.place, self.snapshot = root / "place", root / "snapshot"
        self.recovery = age.generate_identity(random=os.urandom(32))
        clock = FakeClock()
        self.site = houses.make_site(
            root / "site", clock, os.urandom(32), f"{site}-n1-w0", site=SiteId(site)
        )
        self.holding = Holding.create(self.site, houses.HOSPITAL, self.recovery.recipient())
        for _ in range(2):
            clock.advance(40 * 86_400)
            self.holding.keyring.mint()
        assert self.copies().mirror() == {}

    def copies(self):
        """As a keeper that has just started."""
        opens = self.holding.keyring.identities.fits
        return KeyCopies(self.site.files, self.holding.layout, [self.place], opens)

    def bring_and_stop_everywhere(self):
        """Bring what is new, stopped after each act once; at the end all of it is there."""
        shutil.copytree(self.place, self.snapshot)
        for acts in itertools.count():
            with pytest.MonkeyPatch.context() as patch:
                self.stop_after(acts, patch)
                told = self.copies().mirror()
            self.opens_every_block()
            if not told:
                break
            shutil.rmtree(self.place)
            shutil.copytree(self.snapshot, self.place)
        shutil.rmtree(self.snapshot)

    def stop_after(self, acts, patch):
        """Let every later change of the place fail, as if it were full or away."""
        left = iter(range(acts))
        for name in ACTS:
            real = getattr(Filesystem, name)

            def act(files, *args, real=real):
                if files is not self.site.files and next(left, None) is None:
                    raise StorageFailed("planted")
                return real(files, *args)

            patch.setattr(Filesystem, name, act)

    def opens_every_block(self):
        """Who has the copy and the recovery identity, and nothing else, opens every key block."""
        layout, files = self.holding.layout, Filesystem(self.place)
        blocks = list(self.place.glob(f"{layout.keys}/{self.site.writer}/*"))
        assert len(blocks) == 2
        for path in blocks:
            block = keys.KeyBlock.decode(path.read_bytes())
            epochs = []
            for name in (
                layout.epoch(block.site, block.month),
                layout.replaced_epoch(block.site, block.month),
            ):
                try:
                    epochs.append(keys.EpochKey.open(files.read(name), self.recovery))
                except NotHeld:
                    continue
            assert any(map(block.is_under, epochs)), path.name


@pytest.mark.parametrize("site", ["dc1", "main"])  # writers' folders before and after "epochs"
@pytest.mark.parametrize("keeps_up", [False, True])
def test_a_copy_opens_every_block_wherever_bringing_a_rotation_stops(tmp_path, site, keeps_up):
    rig = Rig(tmp_path, site)
    with pytest.MonkeyPatch.context() as patch:
        for name in ACTS:
            real = getattr(Filesystem, name)

            def act(files, *args, real=real):
                real(files, *args)
                if files is rig.site.files and keeps_up:
                    rig.bring_and_stop_everywhere()

            patch.setattr(Filesystem, name, act)
        rig.holding.rotation.rotate(lambda *_: None, epochs=True)
    rig.bring_and_stop_everywhere()

    assert rig.copies().verify(now_ms=rig.site.clock.now_ms(), grace_s=0.0) == []
    replaced = list(rig.place.rglob("*.replaced"))
    assert replaced == []
