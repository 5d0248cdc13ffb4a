"""Configuration files are read strictly, changed by rule and written once."""

import stat
from pathlib import Path

import pytest

from harmoni import config
from harmoni.model.errors import AlreadyHeld, ConfigurationError
from harmoni.model.identifiers import HospitalId, SiteId

RECIPIENT = "age1pq1" + "q" * 40


def hospital(identifier="hospital-a", **values):
    return config.HospitalConfig(
        id=identifier, name="Ευαγγελισμός", recovery_recipient=RECIPIENT, **values
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "archive.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_smallest_file_has_every_default(tmp_path):
    loaded = config.load_archive(write(tmp_path, '[archive]\nsite = "dc1"\n'))
    assert loaded.archive.site == SiteId("dc1")
    assert loaded.listen.port == 2762
    assert loaded.pack.quiet_s == 600
    assert loaded.archive.safe_copies == 2


def test_relative_paths_are_relative_to_the_file_even_by_default(tmp_path):
    loaded = config.load_archive(
        write(tmp_path, '[archive]\nsite = "dc1"\ndata = "state"\nhospitals = "/etc/h"\n')
    )
    assert loaded.archive.data == tmp_path / "state"
    assert loaded.archive.hospitals == Path("/etc/h")
    assert loaded.tls.certificate == tmp_path / "tls/archive.crt"
    assert loaded.tls.crl is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[archive]\nsite = "dc1"\nworker = 3\n', "archive.worker: there is no such key"),
        ('[archive]\nsite = "DC 1"\n', "archive.site: 'DC 1' is not a site id"),
        ("[archive]\nworkers = 1\n", "archive.site: it is missing"),
        ('[archive]\nsite = "dc1"\nworkers = "many"\n', "archive.workers:"),
        ('[archive]\nsite = "dc1"\nae_title = "SEVENTEEN_LETTERS"\n', "archive.ae_title:"),
        ('[archive]\nsite = "dc1"\nae_title = "BACK\\\\SLASH"\n', "archive.ae_title:"),
        ('[archive]\nsite = "dc1"\n[listen]\nport = 0\n', "listen.port:"),
        ("[archive\n", "is not TOML"),
    ],
)
def test_a_mistake_is_named_in_a_sentence(tmp_path, text, words):
    with pytest.raises(ConfigurationError) as caught:
        config.load_archive(write(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match=r"archive\.site.*pack\.quiet_s"):
        config.load_archive(write(tmp_path, '[archive]\nsite = ""\n[pack]\nquiet_s = 0\n'))


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        config.load_archive(tmp_path / "archive.toml")


@pytest.mark.parametrize(
    "setting", ["pack.quiet_s=2", "archive.pack.quiet_s=2", "archive.pack.quiet_s = 2.0"]
)
def test_override_replaces_one_value(tmp_path, setting):
    before = config.load_archive(write(tmp_path, '[archive]\nsite = "dc1"\n'))
    after = config.override(before, setting)
    assert after.pack.quiet_s == 2
    assert before.pack.quiet_s == 600
    assert after.model_copy(update={"pack": before.pack}) == before


def test_override_reaches_the_section_named_like_the_role(tmp_path):
    before = config.load_archive(write(tmp_path, '[archive]\nsite = "dc1"\n'))
    assert config.override(before, "archive.workers=1").archive.workers == 1
    assert config.override(before, "archive.ae_title=OTHER").archive.ae_title == "OTHER"


@pytest.mark.parametrize(
    "setting", ["pack.quiet_s", "quiet_s=2", "pack.quiet=2", "gateway.workers=1", "pack.quiet_s=x"]
)
def test_override_refuses_what_it_does_not_know(tmp_path, setting):
    before = config.load_archive(write(tmp_path, '[archive]\nsite = "dc1"\n'))
    with pytest.raises(ConfigurationError):
        config.override(before, setting)


def test_overrides_win_over_the_file(tmp_path):
    path = write(tmp_path, '[archive]\nsite = "dc1"\n[pack]\nquiet_s = 5\n')
    assert config.load_archive(path, ["pack.quiet_s=7"]).pack.quiet_s == 7


def test_a_hospital_that_is_written_is_read_back_equal(tmp_path):
    entry = hospital(
        patient_domain='A "domain"\x7f',
        addresses=("10.1.0.0/16", "192.0.2.7"),
        calling_ae_titles=("GW_A",),
        rights=("echo", "store"),
        destination=({"ae_title": "PACS A", "host": "localhost", "port": 11112},),
    )
    path = config.write_hospital(tmp_path, entry)
    assert config.load_hospitals(tmp_path) == {HospitalId("hospital-a"): entry}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_hospital_is_never_overwritten(tmp_path):
    config.write_hospital(tmp_path, hospital())
    with pytest.raises(AlreadyHeld, match="hospital-a exists already"):
        config.write_hospital(tmp_path, hospital(suspended=True))
    assert not config.load_hospitals(tmp_path)[HospitalId("hospital-a")].suspended


def test_a_file_must_be_named_after_its_hospital(tmp_path):
    config.write_hospital(tmp_path, hospital()).rename(tmp_path / "hospital-b.toml")
    with pytest.raises(ConfigurationError, match=r"name the file hospital-a\.toml"):
        config.load_hospitals(tmp_path)


def test_one_destination_per_title(tmp_path):
    twice = "".join(
        f'[[destination]]\nae_title = "PACS"\nhost = "h{n}"\nport = 104\n' for n in (1, 2)
    )
    (tmp_path / "hospital-a.toml").write_text(
        f'id = "hospital-a"\nname = "A"\nrecovery_recipient = "{RECIPIENT}"\n{twice}'
    )
    with pytest.raises(ConfigurationError, match="AE title PACS stands there twice"):
        config.load_hospitals(tmp_path)


def test_a_missing_hospital_directory_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read the directory"):
        config.load_hospitals(tmp_path / "nowhere")
