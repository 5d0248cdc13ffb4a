"""Configuration as text: commented TOML and the reference page, both made from the models."""

import json
import textwrap
from collections.abc import Sequence
from typing import Final, get_args, get_origin

from pydantic.fields import FieldInfo

from harmoni.config.archive import ArchiveConfig, ArchiveSection
from harmoni.config.fields import Section, entries
from harmoni.config.gateway import GatewayConfig
from harmoni.config.hospital import HospitalConfig
from harmoni.model.identifiers import SiteId

_WIDTH: Final = 98


def template(site: str = "dc1") -> str:
    """A commented archive.toml with every default and its reason."""
    return render(ArchiveConfig(archive=ArchiveSection(site=SiteId(site))))


def render(config: Section) -> str:
    """The TOML of a configuration, each key under a comment of what it is for."""
    lines = [*_comment(_summary(type(config))), ""]
    for name, field, value in entries(config):
        if isinstance(value, Section):
            lines += [*_comment(_summary(type(value))), f"[{name}]"]
            for key, inner, inner_value in entries(value):
                lines += _setting(key, inner, inner_value)
        elif isinstance(value, tuple) and table_of(field) is not None:
            lines += _comment(field.description or "")
            for each in value:
                lines += [f"[[{name}]]"]
                lines += [
                    f"{key} = {_toml(inner)}"
                    for key, _, inner in entries(each)
                    if inner is not None
                ]
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
    page += _file("archive.toml", ArchiveConfig)
    page += _file("hospitals/&lt;id&gt;.toml", HospitalConfig)
    page += _file("gateway.toml", GatewayConfig)
    return "\n".join(page).rstrip("\n") + "\n"


def table_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds any number of, a [[table]] each; None for another field."""
    item = next(iter(get_args(field.annotation)), None)
    if get_origin(field.annotation) is not tuple or not isinstance(item, type):
        return None
    return item if issubclass(item, Section) else None


def _file(name: str, model: type[Section]) -> list[str]:
    """The page's part about one file: its own keys, its sections, its tables."""
    own, parts = [], []
    for key, field in model.model_fields.items():
        section = field.annotation
        table = table_of(field)
        if isinstance(section, type) and issubclass(section, Section):
            parts += [f"### [{key}]", "", _summary(section), "", *_table(section)]
        elif table is not None:
            parts += [f"### [[{key}]]", "", _summary(table), "", *_table(table)]
        else:
            own.append(key)
    return [f"## {name}", "", _summary(model), "", *(_table(model, own) if own else []), *parts]


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


def _table(model: type[Section], names: Sequence[str] | None = None) -> list[str]:
    rows = ["| key | unit | default | what and why |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if names is not None and name not in names:
            continue
        if field.is_required():
            default = "required"
        else:
            value: object = field.get_default()
            default = "none" if value is None else f"`{_toml(value)}`"
        rows.append(f"| `{name}` | {_unit_of(field)} | {default} | {field.description} |")
    return [*rows, ""]
