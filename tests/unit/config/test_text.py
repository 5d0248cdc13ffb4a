"""What is generated from the models is complete, current and readable by them."""

from pathlib import Path

from harmoni import config
from harmoni.config.archive import ArchiveConfig
from harmoni.config.hospital import DestinationSection, HospitalConfig

REFERENCE = Path(__file__).parents[3] / "docs/reference/configuration.md"


def sections():
    yield from (field.annotation for field in ArchiveConfig.model_fields.values())
    yield from (HospitalConfig, DestinationSection)


def test_the_reference_page_is_current():
    """Renew it with: python -m harmoni.config > docs/reference/configuration.md."""
    assert REFERENCE.read_text(encoding="utf-8") == config.reference()


def test_every_key_says_what_it_is_for():
    silent = [
        f"{section.__name__}.{name}"
        for section in sections()
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert silent == []


def test_every_duration_and_size_names_its_unit():
    units = {
        name: (field.json_schema_extra or {}).get("unit")
        for section in sections()
        for name, field in section.model_fields.items()
        if name.endswith(("_s", "_bytes"))
    }
    assert units
    assert all(
        unit == ("seconds" if name.endswith("_s") else "bytes") for name, unit in units.items()
    )


def test_the_template_is_the_defaults(tmp_path):
    path = tmp_path / "archive.toml"
    path.write_text(config.template("dc2"), encoding="utf-8")
    smallest = tmp_path / "smallest.toml"
    smallest.write_text('[archive]\nsite = "dc2"\n', encoding="utf-8")
    assert config.load_archive(path) == config.load_archive(smallest)


def test_the_template_names_every_key_in_lines_that_fit():
    lines = config.template().splitlines()
    for section in ArchiveConfig.model_fields.values():
        for name in section.annotation.model_fields:
            assert any(line.removeprefix("# ").startswith(f"{name} = ") for line in lines)
    assert max(map(len, lines)) <= 100
