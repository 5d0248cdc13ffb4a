"""The gateway's child processes, executed by its supervisor and by nobody else."""

import sys
from pathlib import Path

from harmoni.gateway import app
from harmoni.role import process


def main(arguments: list[str]) -> int | None:
    """Run `worker CONFIG NUMBER TABLE DESCRIPTOR...`, `keeper CONFIG` or `forwarder CONFIG`."""
    match arguments:
        case ["worker", config, number, table, *descriptors]:
            return app.work(Path(config), int(number), int(table), list(map(int, descriptors)))
        case ["keeper", config]:
            return app.keep(Path(config))
        case ["forwarder", config]:
            return app.forward(Path(config))
        case _:
            return None


sys.exit(process.run_child("harmoni gateway serve", lambda: main(sys.argv[1:])))
