"""`harmoni archive`: the archive role."""

from pathlib import Path
from typing import Annotated

import typer

from harmoni import config as settings
from harmoni.archive import app as role
from harmoni.archive import operate, readiness
from harmoni.cli import options, output
from harmoni.runtime.clock import SystemClock

app = typer.Typer(help="The archive role of a data centre.", no_args_is_help=True)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where the configuration and its keys go.")],
    site: Annotated[str, typer.Option(help="Id of the data centre.")] = "dc1",
    json: options.AsJSON = False,
) -> None:
    """Write a commented configuration and the keys it needs; nothing is overwritten."""
    made = operate.initialise(directory, site)
    output.rows([{"written": path} for path in made], json_wanted=json, empty="nothing to write")


@app.command()
def check(config: options.Config, json: options.AsJSON = False) -> None:
    """Say in a sentence each what is wrong with the configuration and its files.

    A certificate that ends within 30 days is among it. Exits with 1 when something is wrong.
    """
    problems = readiness.check(settings.load_archive(config), SystemClock())
    output.rows(
        [{"problem": problem} for problem in problems], json_wanted=json, empty="nothing is wrong"
    )
    if problems:
        raise typer.Exit(1)


@app.command()
def serve(config: options.Config) -> None:
    """Run in the foreground until SIGTERM or SIGINT.

    New and changed files of hospitals are in force within a second. SIGHUP reads them again, and
    the TLS files too; a file with a mistake leaves in force what was read before. archive.toml is
    read at the start only. The exit code is 2 when the settings cannot work.
    """
    raise typer.Exit(role.serve(config))
