"""The synthetic study is the same each time and as varied as the demo says."""

from io import BytesIO

import pytest
from pydicom import dcmread

from harmoni.demo import synthetic


@pytest.fixture(scope="module")
def made():
    return synthetic.study("seed", "ISO_IR 126", slices=1)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(made):
    assert synthetic.study("seed", "ISO_IR 126", slices=1) == made
    assert synthetic.study("other", slices=1).study_instance_uid != made.study_instance_uid


def test_every_file_belongs_to_the_study_and_has_its_own_uid(made):
    read = [dcmread(BytesIO(data)) for data in made.files.values()]
    assert {dataset.StudyInstanceUID for dataset in read} == {made.study_instance_uid}
    assert {dataset.PatientID for dataset in read} == {made.patient_id}
    assert len({dataset.SOPInstanceUID for dataset in read}) == len(made.files)
    assert len({dataset.file_meta.TransferSyntaxUID for dataset in read}) == 4


@pytest.mark.parametrize(
    ("character_set", "encoding"), [("ISO_IR 126", "iso8859_7"), ("ISO_IR 192", "utf-8")]
)
def test_greek_names_stand_in_the_character_set_asked_for(character_set, encoding):
    made = synthetic.study("seed", character_set, slices=1)
    assert "Επίδειξη".encode(encoding) in made.files["ct-001.dcm"]


def test_write_puts_every_file_where_it_says(made, tmp_path):
    paths = made.write(tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == made.files
