"""The pages about keys are followed to the letter, every block of them."""

import re

import pages


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
