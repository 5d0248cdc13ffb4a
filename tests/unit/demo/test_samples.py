"""What is sent is what stands in the files; what is not sent is named."""

import hashlib

import pytest

from harmoni.demo import samples, synthetic
from harmoni.model.errors import ConfigurationError


@pytest.fixture
def made(tmp_path):
    study = synthetic.study("seed", slices=1)
    (tmp_path / "in").mkdir()
    study.write(tmp_path / "in")
    return study, tmp_path / "in"


def test_a_folder_gives_every_file_of_the_study(made):
    study, folder = made
    found = samples.collect(folder)
    assert found.skipped == ()
    assert {sample.path.name for sample in found.samples} == set(study.files)
    assert list(found.by_study()) == [study.study_instance_uid]


def test_chunks_are_the_data_set_of_the_file(made):
    study, folder = made
    for sample in samples.collect(folder).samples:
        data = b"".join(sample.chunks())
        assert study.files[sample.path.name].endswith(data)
        assert len(data) == sample.size_bytes
        assert hashlib.sha256(data).digest() == sample.sha256


def test_what_cannot_be_sent_is_named_with_the_reason(made):
    _, folder = made
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "again").mkdir()
    first = min(folder.glob("*.dcm"))
    (folder / "again" / "copy.dcm").write_bytes(first.read_bytes())
    skipped = {path.name: why for path, why in samples.collect(folder).skipped}
    assert set(skipped) == {"notes.txt"} | {first.name}
    assert skipped[first.name] == "has the SOP Instance UID of copy.dcm"


def test_a_single_file_will_do(made):
    _, folder = made
    assert len(samples.collect(folder / "ct-001.dcm").samples) == 1


def test_nothing_to_send_is_a_mistake(tmp_path):
    with pytest.raises(ConfigurationError, match="holds nothing that can be sent"):
        samples.collect(tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        samples.collect(tmp_path / "nowhere")
