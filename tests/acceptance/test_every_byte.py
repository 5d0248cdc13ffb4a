"""Every byte of a pack changed in turn: found, named to the instance, repaired from a copy.

By default every eleventh byte; HARMONI_BYTES=all takes them all.
"""

import os
import shutil
import time

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.repair import copy_below
from harmoni.index.packs import PackState
from harmoni.sealing import tar

STRIDE = 1 if os.environ.get("HARMONI_BYTES") == "all" else 11


def _expected(offset, held, readme_end):
    """The instances that a changed byte at an offset takes away."""
    if offset < readme_end:
        return None  # the plain README: its key id, or words for people
    return {
        each.sop_instance_uid
        for each in held
        if each.location.offset <= offset < each.location.offset + each.location.size_bytes
    }


def test_every_byte_of_a_pack_changed_in_turn_is_found_named_and_repaired(tmp_path):
    (tmp_path / "data").mkdir()
    house = houses.make_house(tmp_path / "data")
    numbers = (1, 2, 3)
    for number in numbers:
        house.store(houses.data_set(number, pixels=os.urandom(300)), number)
    house.seal()
    shutil.copytree(house.root / "packs", tmp_path / "copy" / "packs")
    source = copy_below(Filesystem(tmp_path / "copy"), house.holding.layout)
    [path] = house.files("packs/*/p/*/*.tar")
    whole = path.read_bytes()
    held = [house.versions(number)[0] for number in numbers]
    pack_id = held[0].location.pack_id
    readme_end = held[0].location.offset - tar.BLOCK_BYTES
    scrubber, repairer = house.holding.scrubber, house.holding.repairer
    started_s, named = time.monotonic(), 0
    offsets = range(0, len(whole), STRIDE)

    for offset in offsets:
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([whole[offset] ^ 1 << offset % 8]))

        verdict = scrubber.verify(pack_id)

        assert verdict.state is PackState.DAMAGED, offset
        expected = _expected(offset, held, readme_end)
        if expected is None:
            assert set(verdict.instances) in (set(), {each.sop_instance_uid for each in held})
        else:
            assert set(verdict.instances) == expected, offset
        named += len(verdict.instances)
        assert [done.repaired for done in repairer.run(source, "the copy")] == [True]
        assert path.read_bytes() == whole
    assert all(house.versions(number)[0].sound for number in numbers)
    took_s = time.monotonic() - started_s
    print(  # noqa: T201 - the measured figure
        f"{len(offsets)} of {len(whole)} bytes changed, all found and repaired; "
        f"{named} times an instance was named; {took_s:.0f} s"
    )
