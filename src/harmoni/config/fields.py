"""Types of configuration values, and the base of every section."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
)
from pydantic.fields import FieldInfo

from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId, SiteId


def _identifier(kind: type[HospitalId] | type[SiteId]) -> BeforeValidator:
    """Read an identifier from its text; its own error becomes one of pydantic's."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return kind(value)
        except InvalidInput as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


def _relative_to_file(value: object, info: ValidationInfo[object]) -> object:
    folder = info.context.get("folder") if isinstance(info.context, Mapping) else None
    if isinstance(value, (str, Path)) and isinstance(folder, Path):
        return folder / value
    return value


SiteIdField = Annotated[SiteId, _identifier(SiteId)]
HospitalIdField = Annotated[HospitalId, _identifier(HospitalId)]
# PS3.5 6.2: at most 16 characters of the default repertoire, no backslash, no control characters.
# Leading and trailing spaces do not count, hence they are not allowed here.
AETitle = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
ConfiguredPath = Annotated[Path, BeforeValidator(_relative_to_file)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """The base of every section: unknown keys are refused, values never change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def entries(section: Section) -> Iterator[tuple[str, FieldInfo, object]]:
    """Each key of a section with its field and its value, in the order of the file."""
    for name, field in type(section).model_fields.items():
        value: object = getattr(section, name)
        yield name, field, value
