"""DCMTK's command line tools as requesters of our services, on a plain loopback server.

What DCMTK sends is compared with what its own bit-preserving receiver gets from the same sender,
since it re-encodes parts of a data set itself.
"""

import re
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcmtk import free_port
from harmoni.dicom import part10
from harmoni.model.errors import OutOfResources
from harmoni.net import client
from harmoni.policy.access import Peer, Right
from memory_archive import MemoryArchive
from served_archive import CT, instance, served
from vendor_files import vendor_files

pytestmark = pytest.mark.peer

TIMEOUT_S = 60
STUDY = "1.2.3"


@pytest.fixture
def archive():
    archive = MemoryArchive()
    for number in range(1, 6):
        archive.keep(instance(number, study=STUDY, size=20_000))
    archive.keep(instance(1, study="1.2.4"))
    return archive


def run(*arguments, code=0, folder=None):
    done = subprocess.run(
        [str(argument) for argument in arguments],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        cwd=folder,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def file_named(name):
    return next(path for path in vendor_files() if path.name == name)


def data_set_in(path: Path) -> tuple[str, bytes]:
    """Transfer syntax and data set of a file, its bytes as they are."""
    content = path.read_bytes()
    meta = part10.read_prefix(content)
    return meta.transfer_syntax_uid, content[meta.dataset_offset :]


@contextmanager
def storescp(program, folder):
    """DCMTK's own receiver; gives its port once it accepts."""
    port = free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [program, "-od", str(folder), "+B", "-pm", "+xa", "-aet", "PACS", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                process_ended = process.poll()
                assert process_ended is None
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CT_small.dcm", []),
        ("MR_small_implicit.dcm", ["-xi"]),
        ("MR_small_bigendian.dcm", ["-xb"]),
        ("JPEG-LL.dcm", ["-xs"]),
        ("JPEG2000.dcm", ["-xw"]),
        ("MR_small_RLE.dcm", ["-xr"]),
    ],
)
def test_storescu_stores_what_it_sends_to_its_own_receiver(peer, tmp_path, name, options):
    path = file_named(name)
    archive = MemoryArchive()
    arguments = [peer("/usr/bin/storescu"), *options, "-R", "-aec", "HARMONI", "127.0.0.1"]
    with served(archive) as running:
        run(*arguments, running.port, path)
    with storescp(peer("/usr/bin/storescp"), tmp_path / "theirs") as port:
        run(*arguments, port, path)
    (reference,) = (tmp_path / "theirs").iterdir()
    (stored,) = archive.instances.values()
    assert (stored.transfer_syntax_uid, stored.data) == data_set_in(reference)


def test_storescu_hears_of_our_refusal(peer):
    archive = MemoryArchive(refuse_begin=OutOfResources("full"))
    with served(archive) as running:
        program, path = peer("/usr/bin/storescu"), file_named("CT_small.dcm")
        output = run(program, "-v", "127.0.0.1", running.port, path, code=0xA7)
    assert "Refused: OutOfResources" in output
    assert not archive.instances


def findscu(peer, running, *options):
    return run(
        peer("/usr/bin/findscu"), "-v", "-S", "-aec", "HARMONI", *options, "127.0.0.1", running.port
    )


def test_findscu_finds_studies_and_the_instances_of_one(peer, archive):
    with served(archive) as running:
        studies = findscu(
            peer,
            running,
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "StudyInstanceUID",
            "-k",
            "PatientName=DOE*",
        )
        images = findscu(
            peer,
            running,
            "-k",
            "QueryRetrieveLevel=IMAGE",
            "-k",
            f"StudyInstanceUID={STUDY}",
            "-k",
            f"SeriesInstanceUID={STUDY}.1",
            "-k",
            "SOPInstanceUID",
        )
    assert set(re.findall(r"UI \[(1\.2\.\d)\W?\]", studies)) == {"1.2.3", "1.2.4"}
    assert len(set(re.findall(r"1\.2\.3\.1\.\d", images))) == 5


def test_findscu_cancels(peer, archive):
    archive.endless = True
    with served(archive, max_answers=10**9) as running:
        findscu(
            peer,
            running,
            "--cancel",
            "3",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "StudyInstanceUID",
            "-k",
            "PatientName=DOE*",
        )
    assert [outcome.status for outcome in archive.outcomes] == [0xFE00]
    assert archive.closed_searches == 1


def retrieved(folder) -> dict[str, tuple[str, bytes]]:
    """What a tool wrote, by SOP Instance UID."""
    return {
        part10.read_prefix(path.read_bytes()).sop_instance_uid: data_set_in(path)
        for path in folder.iterdir()
    }


def held(archive, prefix=STUDY + ".") -> dict[str, tuple[str, bytes]]:
    return {
        uid: (stored.transfer_syntax_uid, stored.data)
        for uid, stored in archive.instances.items()
        if uid.startswith(prefix)
    }


def test_getscu_gets_back_what_is_held_bit_for_bit(peer, archive, tmp_path):
    with served(archive, preferred={CT: ["1.2.840.10008.1.2"]}) as running:
        run(
            peer("/usr/bin/getscu"),
            "-S",
            "+B",
            "-od",
            tmp_path,
            "-aec",
            "HARMONI",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            f"StudyInstanceUID={STUDY}",
            "127.0.0.1",
            running.port,
        )
    assert retrieved(tmp_path) == held(archive)


def test_getscu_does_not_get_what_it_cannot_take(peer, archive, tmp_path):
    """It proposes uncompressed syntaxes only, three in one context: one of them is chosen."""
    jpeg = instance(9, study=STUDY, transfer_syntax_uid="1.2.840.10008.1.2.4.50")
    archive.keep(jpeg)
    with served(archive, preferred={CT: ["1.2.840.10008.1.2"]}) as running:
        run(
            peer("/usr/bin/getscu"),
            "-S",
            "+B",
            "-od",
            tmp_path,
            "-aec",
            "HARMONI",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            f"StudyInstanceUID={STUDY}",
            "127.0.0.1",
            running.port,
            code=0,
        )
    assert set(retrieved(tmp_path)) == set(held(archive)) - {jpeg.sop_instance_uid}
    (outcome,) = archive.outcomes
    assert (outcome.status, outcome.completed, outcome.failed) == (0xB000, 5, 1)
    assert outcome.not_accepted == ((CT, jpeg.transfer_syntax_uid),)


def destination(port):
    return Peer(ae_title="PACS", rights=frozenset({Right.DESTINATION}), host="127.0.0.1", port=port)


def connect(target, proposed):
    return client.open_association(
        host=target.host,
        port=target.port,
        tls=None,
        called_ae_title=target.ae_title,
        calling_ae_title="HARMONI",
        contexts=proposed,
    )


def movescu(peer, running, *options, code=0, folder=None):
    return run(
        peer("/usr/bin/movescu"),
        "-v",
        "-S",
        "-aec",
        "HARMONI",
        "-aet",
        "VIEWER",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        f"StudyInstanceUID={STUDY}",
        *options,
        "127.0.0.1",
        running.port,
        code=code,
        folder=folder,
    )


def test_movescu_has_a_study_sent_to_storescp_bit_for_bit(peer, archive, tmp_path):
    archive.keep(instance(9, study=STUDY, transfer_syntax_uid="1.2.840.10008.1.2.4.50"))
    archive.connect_to = connect
    with (
        storescp(peer("/usr/bin/storescp"), tmp_path / "pacs") as port,
        served(archive) as running,
    ):
        archive.destinations["PACS"] = destination(port)
        movescu(peer, running, "-aem", "PACS")
    assert retrieved(tmp_path / "pacs") == held(archive)


def test_movescu_receives_itself(peer, archive, tmp_path):
    port = free_port()
    archive.connect_to = connect
    archive.destinations["VIEWER"] = Peer(
        ae_title="VIEWER", rights=frozenset({Right.DESTINATION}), host="127.0.0.1", port=port
    )
    with served(archive) as running:
        # With +B it writes to its working folder whatever --output-directory says (3.6.7).
        movescu(peer, running, "-aem", "VIEWER", "+P", port, "+B", "+xi", folder=tmp_path)
    assert retrieved(tmp_path) == held(archive)


def test_movescu_hears_of_an_unknown_destination(peer, archive):
    with served(archive) as running:
        movescu(peer, running, "-aem", "NOBODY", code=69)
    assert [outcome.status for outcome in archive.outcomes] == [0xA801]


def test_movescu_cancels(peer, archive, tmp_path):
    for number in range(1, 2000):
        archive.keep(instance(number, study=STUDY))
    archive.connect_to = connect
    with (
        storescp(peer("/usr/bin/storescp"), tmp_path / "pacs") as port,
        served(archive) as running,
    ):
        archive.destinations["PACS"] = destination(port)
        movescu(peer, running, "-aem", "PACS", "--cancel", "1")
    (outcome,) = archive.outcomes
    assert outcome.status == 0xFE00
    assert outcome.completed < 1999
