"""The node that a command acts on, from the configuration that it names."""

import os
from pathlib import Path

from harmoni import config as settings
from harmoni.archive.site import ArchiveSite
from harmoni.gateway.house import House
from harmoni.model.errors import ConfigurationError
from harmoni.role.node import Node
from harmoni.runtime.clock import SystemClock


def open_node(config: Path) -> Node:
    """Open the node of a role's configuration file, beside the role if that runs.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """
    if settings.role_of(config) == House.role:
        return open_house(config)
    return ArchiveSite(settings.load_archive(config), _process(), SystemClock())


def open_house(config: Path) -> House:
    """Open a gateway.

    Raises:
        ConfigurationError: it is another role's configuration, or settings do not fit together.
    """
    role = settings.role_of(config)
    if role != House.role:
        raise ConfigurationError(
            f"{config} is the configuration of an {role}: this command is for a gateway"
        )
    return House(settings.load_gateway(config), config, _process(), SystemClock())


def _process() -> str:
    """The name of this process among those of the node."""
    return f"cli-{os.getpid()}"
