"""DCMTK's storescu, as it comes, into our shell."""

import os
import subprocess
import time

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

import loopback
from harmoni.net import tls

pytestmark = pytest.mark.peer

SMALL_OBJECTS = 60
PIXEL_BYTES = 20_000


@pytest.fixture(scope="module")
def small_objects(tmp_path_factory):
    """A folder of small CT images."""
    folder = tmp_path_factory.mktemp("small")
    for number in range(SMALL_OBJECTS):
        data_set = Dataset()
        data_set.SOPClassUID = loopback.CT
        data_set.SOPInstanceUID = f"1.2.3.{number + 1}"
        data_set.BitsAllocated = 8
        data_set.PixelRepresentation = 0
        data_set.PixelData = bytes([number]) * PIXEL_BYTES
        data_set.file_meta = FileMetaDataset()
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data_set.file_meta.MediaStorageSOPClassUID = loopback.CT
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
    return folder


def store(program, served, folder, *options):
    """Send a folder, with Nagle's algorithm left on, which is how DCMTK comes."""
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    started_s = time.monotonic()
    done = subprocess.run(
        [program, *options, "-xi", "+sd", "127.0.0.1", str(served.port), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started_s


@pytest.mark.parametrize("options", [[], ["-pdu", "131072"], ["-pdu", "4096"]])
def test_every_object_arrives_whole(peer, small_objects, options):
    with loopback.serving() as served:
        store(peer("/usr/bin/storescu"), served, small_objects, *options)
    stored = [served.stored.get_nowait() for _ in range(SMALL_OBJECTS)]
    ends = sorted(data[-PIXEL_BYTES:] for data in stored)
    assert ends == [bytes([number]) * PIXEL_BYTES for number in range(SMALL_OBJECTS)]


def test_a_sender_with_nagle_on_does_not_wait_for_acknowledgements(peer, small_objects):
    """A delayed acknowledgement costs 40 ms per object; without, all of them take a fraction."""
    with loopback.serving() as served:
        seconds = store(peer("/usr/bin/storescu"), served, small_objects)
    assert seconds < SMALL_OBJECTS * 0.04 / 2


def test_every_object_arrives_whole_over_tls(peer, small_objects, tls_material):
    files = tls_material.client
    options = ["+tls", str(files.key), str(files.certificate), "+cf", str(files.authorities)]
    with loopback.serving(context=tls.ServerContext(tls_material.server)) as served:
        store(peer("/usr/bin/storescu"), served, small_objects, *options)
    assert served.stored.qsize() == SMALL_OBJECTS
