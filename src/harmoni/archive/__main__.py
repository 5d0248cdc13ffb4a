"""The archive's child processes, executed by its supervisor and by nobody else."""

import os
import sys
from pathlib import Path

from harmoni.archive import app
from harmoni.model.errors import ConfigurationError, HarmoniError
from harmoni.runtime import child


def main(arguments: list[str]) -> int:
    """Run `worker CONFIG NUMBER DESCRIPTOR TABLE` or `keeper CONFIG`."""
    try:
        match arguments:
            case ["worker", config, number, descriptor, table]:
                return app.work(Path(config), int(number), int(descriptor), int(table))
            case ["keeper", config]:
                return app.keep(Path(config))
            case _:
                sys.stderr.write("these processes are started by `harmoni archive serve`\n")
                return os.EX_USAGE
    except HarmoniError as error:
        if not child.announce_failure(str(error)):
            sys.stderr.write(f"{error.code} {error}\n")
        return os.EX_CONFIG if isinstance(error, ConfigurationError) else os.EX_TEMPFAIL


sys.exit(main(sys.argv[1:]))
