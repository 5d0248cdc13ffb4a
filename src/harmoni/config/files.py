"""Reading, changing and writing configuration files, with errors in sentences."""

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harmoni.backends.filesystem import Filesystem
from harmoni.config.archive import ArchiveConfig
from harmoni.config.fields import Section, entries
from harmoni.config.gateway import GatewayConfig
from harmoni.config.hospital import HospitalConfig
from harmoni.config.text import render
from harmoni.model.errors import AlreadyHeld, ConfigurationError
from harmoni.model.identifiers import HospitalId

_Model = TypeVar("_Model", bound=Section)
_Role = TypeVar("_Role", ArchiveConfig, GatewayConfig)


def load_archive(path: Path, overrides: Sequence[str] = ()) -> ArchiveConfig:
    """Read and check archive.toml.

    Args:
        path: the file.
        overrides: settings that win over the file's, each `key=value` as in `override`.

    Raises:
        ConfigurationError: the file cannot be read or breaks a rule; a sentence for each.
    """
    return _load(ArchiveConfig, path, overrides)


def load_gateway(path: Path, overrides: Sequence[str] = ()) -> GatewayConfig:
    """Read and check gateway.toml; see `load_archive`."""
    return _load(GatewayConfig, path, overrides)


def role_of(path: Path) -> str:
    """The role whose configuration a file is: `archive` or `gateway`.

    Raises:
        ConfigurationError: it cannot be read, or is neither.
    """
    values = _read(path)
    for role in ("archive", "gateway"):
        if role in values:
            return role
    raise ConfigurationError(
        f"{path} is the configuration of no role: it has neither [archive] nor [gateway]"
    )


@dataclass(frozen=True, slots=True)
class HospitalFiles:
    """The hospitals of a directory, and what is wrong with its files, a sentence each."""

    hospitals: Mapping[HospitalId, HospitalConfig]
    problems: tuple[str, ...]


def read_hospitals(directory: Path, earlier: Mapping[HospitalId, HospitalConfig]) -> HospitalFiles:
    """Read every hospital's file of a directory; a mistake in one harms that hospital alone.

    Args:
        directory: one TOML file per hospital.
        earlier: what was read before: a hospital whose file is wrong now stays as it was then.

    Raises:
        ConfigurationError: the directory itself cannot be read.
    """
    hospitals: dict[HospitalId, HospitalConfig] = {}
    problems = []
    for path in _hospital_files(directory):
        try:
            hospital = _load_hospital(path)
        except ConfigurationError as error:
            problems.append(str(error))
            known = [each for each in earlier.values() if each.id.value == path.stem]
            hospitals |= {each.id: each for each in known}
        else:
            hospitals[hospital.id] = hospital
    return HospitalFiles(MappingProxyType(hospitals), tuple(problems))


def load_hospitals(directory: Path) -> Mapping[HospitalId, HospitalConfig]:
    """Read every hospital's file of a directory.

    Raises:
        ConfigurationError: the directory is not there, or a file breaks a rule or is not named
            after the hospital in it.
    """
    files = read_hospitals(directory, {})
    if files.problems:
        raise ConfigurationError(" ".join(files.problems))
    return files.hospitals


def hospitals_stamp(directory: Path) -> object:
    """What differs once a hospital's file was added, changed, put in the place of another or taken.

    Raises:
        ConfigurationError: the directory cannot be read.
    """
    stamps = []
    for path in _hospital_files(directory):
        with suppress(FileNotFoundError):  # taken away since: so the next look differs
            state = path.stat()
            stamps.append((path.name, state.st_ino, state.st_size, state.st_ctime_ns))
    return tuple(stamps)


def _load_hospital(path: Path) -> HospitalConfig:
    hospital = _load(HospitalConfig, path, ())
    if path.stem != hospital.id.value:
        raise ConfigurationError(
            f"{path} holds the hospital {hospital.id}; name the file {hospital.id}.toml"
        )
    return hospital


def _hospital_files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.match("*.toml"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the directory {directory}: {error.strerror}; create it, or set hospitals "
            "to the right one"
        ) from error


def new_hospital(hospital: HospitalId, *, name: str, recovery_recipient: str) -> HospitalConfig:
    """A hospital with every default; nothing is written.

    Raises:
        ConfigurationError: a value breaks its rule.
    """
    values = {"id": hospital, "name": name, "recovery_recipient": recovery_recipient}
    return _check(HospitalConfig, values, source=f"the new hospital {hospital}", folder=None)


def new_gateway(hospital: HospitalId, *, ae_title: str, site: str) -> GatewayConfig:
    """A gateway with every default; nothing is written.

    Raises:
        ConfigurationError: a value breaks its rule.
    """
    values = {"gateway": {"hospital": hospital, "ae_title": ae_title, "site": site}}
    return _check(GatewayConfig, values, source=f"the new gateway of {hospital}", folder=None)


def write_hospital(directory: Path, hospital: HospitalConfig) -> Path:
    """Write the file of a new hospital, whole and durable, readable by its owner alone.

    Raises:
        AlreadyHeld: a hospital of that id is there; nothing was changed.
    """
    name = f"{hospital.id}.toml"
    try:
        Filesystem(directory).publish(name, render(hospital).encode())
    except AlreadyHeld as error:
        raise AlreadyHeld(
            f"hospital {hospital.id} exists already in {directory}; choose another id"
        ) from error
    return directory / name


def override(config: _Role, setting: str) -> _Role:
    """The configuration with one value replaced.

    Args:
        config: what to start from; it stays as it is.
        setting: `section.key=value`, such as `pack.quiet_s=2`. The role may stand before it
            (`archive.pack.quiet_s=2`), and a key of the role's own section needs no other
            (`archive.workers=1`). The value is TOML, or else taken as a string.

    Raises:
        ConfigurationError: there is no such key or the value breaks its rule.
    """
    values = _plain(config)
    _put(values, setting, type(config))
    return _check(type(config), values, source=f"the setting {setting!r}", folder=None)


def _load(model: type[_Model], path: Path, overrides: Sequence[str]) -> _Model:
    values = _read(path)
    for setting in overrides:
        _put(values, setting, model)
    for name, field in model.model_fields.items():
        # A section that is left out is read like an empty one, so that its default paths are
        # relative to this file as well.
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            values.setdefault(name, {})
    return _check(model, values, source=str(path), folder=path.absolute().parent)


def _read(path: Path) -> dict[str, object]:
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}; name an existing file with --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}; correct it") from error


def _check(
    model: type[_Model], values: Mapping[str, object], *, source: str, folder: Path | None
) -> _Model:
    try:
        return model.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        sentences = " ".join(
            f"{_where(problem['loc'])}: {_why(problem)}."
            for problem in error.errors(include_url=False, include_context=False)
        )
        raise ConfigurationError(f"{source}: {sentences}") from error


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the file"


def _why(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    match problem["type"]:
        case "extra_forbidden":
            return "there is no such key, see docs/reference/configuration.md"
        case "missing":
            return "it is missing and has no default"
        case _:
            if not message.startswith("Input "):
                return message
            return f"{problem['input']!r} will not do, it {message.removeprefix('Input ')}"


def _put(values: dict[str, object], setting: str, model: type[Section]) -> None:
    key, equals, text = setting.partition("=")
    parts = [part.strip() for part in key.split(".")]
    sections = model.model_fields
    if len(parts) > 1 and parts[0] == next(iter(sections)) and parts[1] in sections:
        parts = parts[1:]
    if not equals or len(parts) != len(("section", "key")) or parts[0] not in sections:
        raise ConfigurationError(
            f"{setting!r} is not a setting; write section.key=value, such as pack.quiet_s=2"
        )
    section = values.setdefault(parts[0], {})
    if isinstance(section, dict):
        section[parts[1]] = _value(text.strip())


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(config: Section) -> dict[str, object]:
    """The values of a configuration as the models take them."""
    return {name: _plain_value(value) for name, _, value in entries(config)}


def _plain_value(value: object) -> object:
    if isinstance(value, Section):
        return _plain(value)
    return [_plain_value(item) for item in value] if isinstance(value, tuple) else value
