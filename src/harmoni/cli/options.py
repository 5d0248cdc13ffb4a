"""Options that several commands share, so that they are spelled and explained once."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Option("--config", help="The role's configuration file.", show_default=False)
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Hospital = Annotated[
    str, typer.Option("--hospital", help="Id of the hospital.", show_default=False)
]
AnyHospital = Annotated[
    str | None, typer.Option("--hospital", help="Id of one hospital; all when left out.")
]
