"""Nothing of a patient reaches the disk in clear: neither the files nor the volume below them.

The name and the pixels that are looked for were stored small, large and cut off in the middle, and
asked for. The raw volume also shows what was written and removed again, as part files are.
"""

import os
import random
import subprocess

import pytest

import centre
import whole
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.identifier import QueryLevel
from harmoni.dicom.pdu import ProposedContext

NAME = "ΦΥΤΕΜΕΝΟΣ^Planted"
PATIENT_ID = "PLANTED-4711"
# Long enough to be nowhere by chance, and to be met wherever a block of pixels is.
PIXELS = random.Random("pixels").randbytes(64)
STUDY = "1.2.826.0.1.3680043.10.9"
SIZES = [1_000, 200_000, 6 << 20]
VOLUME_BYTES = 192 << 20
WINDOW_BYTES = 8 << 20
WORDS = ("ΦΥΤΕΜΕΝΟΣ", "φυτεμενοσ", "φυτεμενος", "Planted", "PLANTED", "planted", PATIENT_ID, STUDY)
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1", "iso8859-7")


def encoded(word):
    for encoding in ENCODINGS:
        try:
            yield word.encode(encoding)
        except UnicodeEncodeError:  # Latin-1 has no Greek letters
            continue


NEEDLES = sorted({PIXELS, *(needle for word in WORDS for needle in encoded(word))})
OVERLAP_BYTES = max(map(len, NEEDLES))


def found_in(path):
    """What of the needles a file or a device has in it."""
    found, rest = set(), b""
    with path.open("rb") as file:
        while window := file.read(WINDOW_BYTES):
            data = rest + window
            found |= {needle for needle in NEEDLES if needle in data}
            rest = data[-OVERLAP_BYTES:]
    return found


def found_below(folder):
    """The same for every file in a folder, its name included."""
    found = {}
    for path in folder.rglob("*"):
        needles = {needle for needle in NEEDLES if needle in os.fsencode(path.name)}
        if path.is_file():
            needles |= found_in(path)
        if needles:
            found[path] = needles
    return found


@pytest.fixture(params=["dc1/data"])
def volume(request, tmp_path):
    """A role's data directory on an ext4 volume in a file, which only root can mount."""
    data = tmp_path / "centre" / request.param
    data.mkdir(parents=True)
    image = tmp_path / "volume"
    with image.open("wb") as file:
        file.truncate(VOLUME_BYTES)
    made = (
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=False, capture_output=True)
        if os.geteuid() == 0
        else None
    )
    if (
        made is None
        or made.returncode
        or subprocess.run(
            ["mount", "-o", "loop", str(image), str(data)], check=False, capture_output=True
        ).returncode
    ):
        reason = "the raw volume needs root, mkfs.ext4 and a loop device"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield image
    subprocess.run(["umount", str(data)], check=True)


def planted(folder):
    """Instances of the planted patient, their pixels the pattern again and again."""
    return [
        centre.write_instance(
            folder,
            STUDY,
            number,
            PIXELS * (size_bytes // len(PIXELS)),
            patient_name=NAME,
            patient_id=PATIENT_ID,
        )
        for number, size_bytes in enumerate(SIZES, 1)
    ]


def abort_in_the_middle(archive, house, sample):
    """Send a part of an instance and break off; return when the archive has given it up."""

    def half():
        data = b"".join(sample.chunks())
        yield data[: len(data) // 4 * 3]
        raise InterruptedError

    context = ProposedContext(1, sample.sop_class_uid, (sample.transfer_syntax_uid,))
    request = Command(
        field=CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=1,
        priority=0,
        affected_sop_class_uid=sample.sop_class_uid,
        affected_sop_instance_uid=sample.sop_instance_uid,
    )
    with (
        pytest.raises(InterruptedError),
        archive.association(house, context) as channel,
    ):
        channel.send(channel.contexts[1], request, half())


def play(archive, samples):
    """Store, break off, ask, retrieve, seal, rebuild."""
    (house,) = archive.houses
    large = samples[-1]
    for sample in samples:
        abort_in_the_middle(archive, house, sample)
    centre.until(
        lambda: archive.log.count('"outcome": "aborted"') == len(samples), "all are given up"
    )
    assert not list(archive.data.glob("packs/*/open/*.part"))
    assert archive.store(house, samples) == [0] * len(samples)
    for key in (NAME, "ΦΥΤ*", "planted*"):
        archive.find(house, QueryLevel.STUDY, {0x0010_0010: key, 0x0020_000D: ""})
    (answer,) = archive.find(
        house, QueryLevel.STUDY, {0x0010_0010: "", 0x0010_0020: PATIENT_ID, 0x0020_000D: ""}
    )
    assert answer[0x0010_0010] == NAME
    got = archive.requestor(house).get(STUDY, samples)
    assert got[large.sop_instance_uid].sha256 == large.sha256


def test_the_search_finds_what_lies_in_clear(tmp_path):
    planted(tmp_path)
    found = set().union(*found_below(tmp_path).values())
    assert PIXELS in found
    assert PATIENT_ID.encode() in found
    assert "ΦΥΤΕΜΕΝΟΣ".encode() in found


def test_no_file_of_the_archive_and_no_block_of_its_volume_shows_a_patient(volume, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    samples = planted(files)
    with centre.running(
        tmp_path / "centre", settings=["archive.workers=1", "archive.reserve_bytes=0"]
    ) as archive:
        play(archive, samples)
        assert found_below(archive.data) == {}  # open packs, the index and its log in use
        archive.await_seals()
        archive.rebuild(archive.houses[0])
        assert found_below(archive.data) == {}
    log = tmp_path / "centre" / "dc1" / "archive.log"
    assert found_in(log) == set()
    os.sync()
    assert found_in(volume) == set()


@pytest.mark.parametrize("volume", ["hospital-a/gateway/data"], indirect=True)
def test_no_file_of_a_gateway_and_no_block_of_its_volume_shows_a_patient(volume, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    samples = planted(files)
    large, question = samples[-1], {0x0010_0010: NAME, 0x0020_000D: ""}
    with whole.running(
        tmp_path / "centre", settings=["gateway.workers=1", "gateway.reserve_bytes=0"]
    ) as running:
        assert not running.requestor().store(samples, lambda _: None)
        assert found_below(running.data()) == {}  # received, and being forwarded
        running.await_committed()
        assert len(running.ask(QueryLevel.STUDY, question)[1]) == 1
        running.evict_all()
        assert found_below(running.data()) == {}  # stubs, and manifests in events
        got = running.requestor().get(STUDY, samples)
        assert got[large.sop_instance_uid].sha256 == large.sha256
        assert found_below(running.data()) == {}  # fetched
        running.await_committed()
        running.rebuild()
        assert found_below(running.data()) == {}
        assert not {needle for needle in NEEDLES if needle in running.log().encode()}
    os.sync()
    assert found_in(volume) == set()
