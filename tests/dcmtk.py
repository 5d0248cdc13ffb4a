"""DCMTK's command line tools for tests: senders, and a receiver that keeps what was on the wire."""

import os
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path

import pydicom

from archive_role import HOST
from harmoni.demo import ports
from harmoni.dicom import part10
from vendor_files import vendor_files

TIMEOUT_S = 60
# As DCMTK comes, with Nagle's algorithm, its own receiver takes 40 ms for each answer.
QUICK = os.environ | {"TCP_NODELAY": "1"}
GREEK = "Παπαδόπουλος^Γιώργος"
# Each file has UIDs of its own. DCMTK's option is the syntax that it proposes.
FILES = {
    "CT_small.dcm": [],
    "MR_small_implicit.dcm": ["-xi"],
    "MR_small_bigendian.dcm": ["-xb"],
    "JPEG-LL.dcm": ["-xs"],
    "JPEG2000.dcm": ["-xw"],
    "MR_small_RLE.dcm": ["-xr"],
    "image_dfl.dcm": ["-xd"],
    "rtplan.dcm": ["-xi"],
    "reportsi.dcm": [],
    "waveform_ecg.dcm": [],
}
# DCMTK's option that makes it propose the transfer syntax of a file.
OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


def run(*arguments, code=0, folder=None):
    done = subprocess.run(
        [str(argument) for argument in arguments],
        check=False,
        capture_output=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        env=QUICK,
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == code, output
    return output


def free_port():
    (port,) = ports.free(1)
    return port


@contextmanager
def storescp(program, echo, folder, port, *options):
    """DCMTK's own receiver, once it answers; what it wrote is in the folder."""
    folder.mkdir()
    process = subprocess.Popen(
        [program, "-od", str(folder), "+B", "-pm", "+xa", *map(str, options), str(port)],
        env=QUICK,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            heard = subprocess.run([*echo, HOST, str(port)], check=False, capture_output=True)
            if heard.returncode == 0:
                break
            assert process.poll() is None
        yield
    finally:
        process.kill()
        process.wait()


def data_set_in(path: Path) -> tuple[str, bytes]:
    """Transfer syntax and data set of a file, its bytes as they are."""
    content = path.read_bytes()
    meta = part10.read_prefix(content)
    return meta.transfer_syntax_uid, content[meta.dataset_offset :]


def written(folder):
    """What a tool wrote, by SOP Instance UID."""
    return {
        part10.read_prefix(path.read_bytes()).sop_instance_uid: data_set_in(path)
        for path in folder.iterdir()
    }


def with_new_uids(name, folder, patient):
    """A copy whose UIDs nobody has; its values are written as pydicom found them."""
    path = next(path for path in vendor_files() if path.name == name)
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = f"2.25.{uuid.uuid4().int}"
    dataset.StudyInstanceUID = f"2.25.{uuid.uuid4().int}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = patient
    dataset.PatientName = GREEK
    dataset.StudyDate = "20260302"
    dataset.save_as(folder / name)
    return dataset
