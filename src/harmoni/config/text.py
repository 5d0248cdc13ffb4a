"""Configuration as text: commented TOML and the reference page, both made from the models."""

import json
import textwrap
from typing import Final

from pydantic.fields import FieldInfo

from harmoni.config.archive import ArchiveConfig, ArchiveSection
from harmoni.config.fields import Section, entries
from harmoni.config.hospital import DestinationSection, HospitalConfig
from harmoni.model.identifiers import SiteId

_WIDTH: Final = 98


def template(site: str = "dc1") -> str:
    """A commented archive.toml with every default and its reason."""
    return render(ArchiveConfig(archive=ArchiveSection(site=SiteId(site))))


def render(config: ArchiveConfig | HospitalConfig) -> str:
    """The TOML of a configuration, each key under a comment of what it is for."""
    lines = [*_comment(_summary(type(config))), ""]
    for name, field, value in entries(config):
        if isinstance(value, Section):
            lines += [*_comment(_summary(type(value))), f"[{name}]"]
            for key, inner, inner_value in entries(value):
                lines += _setting(key, inner, inner_value)
        elif name == "destination" and isinstance(value, tuple):
            lines += _comment(field.description or "")
            for destination in value:
                lines += ["[[destination]]"]
                lines += [f"{key} = {_toml(inner)}" for key, _, inner in entries(destination)]
                lines.append("")
        else:
            lines += _setting(name, field, value)
    return "\n".join(lines).rstrip("\n") + "\n"


def reference() -> str:
    """The page docs/reference/configuration.md, made from the models."""
    page = [
        "# Configuration",
        "",
        "Made from the models in `harmoni.config`; do not edit.",
        "",
        "Unknown keys are refused. Relative paths are relative to the file that names them.",
        "",
    ]
    page += ["## archive.toml", ""]
    for name, field in ArchiveConfig.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        page += [f"### [{name}]", "", _summary(section), "", *_table(section)]
    page += ["## hospitals/&lt;id&gt;.toml", "", _summary(HospitalConfig), ""]
    page += _table(HospitalConfig)
    page += ["### [[destination]]", "", _summary(DestinationSection), ""]
    page += _table(DestinationSection)
    return "\n".join(page).rstrip("\n") + "\n"


def _setting(name: str, field: FieldInfo, value: object) -> list[str]:
    unit = _unit_of(field)
    comment = _comment(f"{field.description}" + (f" In {unit}." if unit else ""))
    if value is None:
        return [*comment, f'# {name} = ""', ""]
    return [*comment, f"{name} = {_toml(value)}", ""]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: object) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case _:
            # JSON leaves one control character alone that TOML does not allow in a string.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _unit_of(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return unit if isinstance(unit, str) else ""


def _summary(model: type[Section]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _table(model: type[Section]) -> list[str]:
    rows = ["| key | unit | default | what and why |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "required"
        else:
            value: object = field.get_default()
            default = "none" if value is None else f"`{_toml(value)}`"
        rows.append(f"| `{name}` | {_unit_of(field)} | {default} | {field.description} |")
    return [*rows, ""]
