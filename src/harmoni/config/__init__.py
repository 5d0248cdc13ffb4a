"""Settings of the roles: TOML, checked by models that say what each value is for.

A field carries its unit, its default and its reason. The commented file that `harmoni archive init`
writes and docs/reference/configuration.md are both made from them, so there is no second place to
keep in step. Unknown keys are refused: a typing mistake is never a silent default. Relative paths
are relative to the file that names them.
"""

from harmoni.config.archive import ArchiveConfig, ArchiveSection
from harmoni.config.files import (
    HospitalFiles,
    hospitals_stamp,
    load_archive,
    load_gateway,
    load_hospitals,
    new_gateway,
    new_hospital,
    override,
    read_hospitals,
    role_of,
    write_hospital,
)
from harmoni.config.gateway import (
    CentreSection,
    GatewayConfig,
    GatewaySection,
    PeerRight,
    PeerSection,
)
from harmoni.config.hospital import ALL_RIGHTS, DestinationSection, HospitalConfig, Right
from harmoni.config.text import reference, render, template

__all__ = [
    "ALL_RIGHTS",
    "ArchiveConfig",
    "ArchiveSection",
    "CentreSection",
    "DestinationSection",
    "GatewayConfig",
    "GatewaySection",
    "HospitalConfig",
    "HospitalFiles",
    "PeerRight",
    "PeerSection",
    "Right",
    "hospitals_stamp",
    "load_archive",
    "load_gateway",
    "load_hospitals",
    "new_gateway",
    "new_hospital",
    "override",
    "read_hospitals",
    "reference",
    "render",
    "role_of",
    "template",
    "write_hospital",
]
