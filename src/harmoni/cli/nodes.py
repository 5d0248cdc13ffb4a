"""The node that a command acts on, from the configuration that it names."""

import os
from pathlib import Path

from harmoni import config as settings
from harmoni.archive.site import ArchiveSite
from harmoni.role.node import Node
from harmoni.runtime.clock import SystemClock


def open_node(config: Path) -> Node:
    """Open the node of a role's configuration file, beside the role if that runs.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """
    return ArchiveSite(settings.load_archive(config), f"cli-{os.getpid()}", SystemClock())
