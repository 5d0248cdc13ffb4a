"""The pages about keys are followed to the letter, every block of them."""

import hashlib
import re
import shutil

import house as houses
import pages
from harmoni.cli import nodes


def test_the_ceremony_ends_with_a_hospital_whose_way_back_five_people_hold(tmp_path):
    output = pages.follow("key-ceremony.md", tmp_path)

    assert len(re.findall(r"combinations proven +10\b", output)) == 2
    fingerprints = re.findall(r"fingerprint +([0-9a-f]{16})", output)
    # Made and rehearsed, for each of two hospitals, and compared at the archive for the first.
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] == fingerprints[3]
    assert re.findall(r"^([0-9a-f]{16})$", output, re.MULTILINE) == [fingerprints[0]]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if b"AGE-SECRET-KEY" in path.read_bytes()]
    assert not [path for path in left if path.name.startswith("share-")]


def test_the_drill_gives_back_every_byte_from_packs_keys_and_three_shares_alone(tmp_path):
    recipient = lose_all_but_copies(tmp_path)
    output = pages.follow("restore-drill.md", tmp_path)

    assert hashlib.sha256(recipient.encode()).hexdigest()[:16] in output
    assert houses.PLANTED_NAME in output
    house = house_of(tmp_path / "DC2/archive.toml")
    for number in (1, 2, 3):
        [held] = house.versions(number)
        assert house.recall(held) == houses.data_set(number)
    assert not list((tmp_path / "OFFLINE").iterdir())
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"AGE-SECRET-KEY" not in path.read_bytes()


def lose_all_but_copies(place):
    """An archive that stored and rotated, of which copies of packs and keys and shares are left."""
    config = place / "DC1/archive.toml"
    pages.execute("harmoni keys init --out OFFLINE", place)
    recipient = (place / "OFFLINE/recovery.recipient").read_text().strip()
    add = "harmoni hospital add --config DC1/archive.toml --id hospital-a --name A"
    pages.execute(
        f"harmoni archive init DC1 --site dc1 && {add} --recovery-recipient {recipient}", place
    )
    for number in (1, 2, 3):
        house = house_of(config)
        house.store(houses.data_set(number), number)
        house.seal()
        rotate = "harmoni keys rotate --config DC1/archive.toml --hospital hospital-a"
        pages.execute(rotate + (" --epochs" if number == 1 else ""), place)
    for what in ("packs", "keys"):
        shutil.copytree(place / f"DC1/data/{what}", place / f"COPY/{what}")
    shutil.rmtree(place / "DC1")
    for name in ("share-2.txt", "share-5.txt", "recovery.recipient"):
        (place / "OFFLINE" / name).unlink()
    return recipient


def house_of(config):
    """A hospital's holding as another process beside the role has it."""
    node = nodes.open_node(config)
    return houses.House(node.shared, node.holding(houses.HOSPITAL))
