"""`harmoni gateway`: the gateway role."""

from pathlib import Path
from typing import Annotated

import typer

from harmoni import config as settings
from harmoni.cli import nodes, options, output
from harmoni.gateway import app as role
from harmoni.gateway import operate, readiness
from harmoni.model.errors import Refused
from harmoni.runtime.clock import SystemClock

app = typer.Typer(help="The gateway role of a hospital.", no_args_is_help=True)


@app.command()
def init(
    *,
    directory: Annotated[Path, typer.Argument(help="Where the configuration and its keys go.")],
    hospital: options.Hospital,
    recovery_recipient: Annotated[
        str,
        typer.Option(
            help="Recipient of the hospital's recovery identity, as `harmoni hospital show` at the "
            "centre prints it.",
            show_default=False,
        ),
    ],
    ae_title: Annotated[str, typer.Option(help="What the house calls the gateway.")] = "HARMONI_GW",
    site: Annotated[str, typer.Option(help="Its own name among places.")] = "gateway",
    json: options.AsJSON = False,
) -> None:
    """Write a commented configuration, and make keys and an empty index; nothing is overwritten."""
    made = operate.initialise(
        directory,
        hospital_id=hospital,
        ae_title=ae_title,
        site=site,
        recovery_recipient=recovery_recipient,
    )
    output.rows([{"written": path} for path in made], json_wanted=json, empty="nothing to write")


@app.command()
def check(config: options.Config, json: options.AsJSON = False) -> None:
    """Say in a sentence each what is wrong with the configuration and its files.

    A certificate that ends within 30 days is among it. Exits with 1 when something is wrong.
    """
    problems = readiness.check(settings.load_gateway(config), config, SystemClock())
    output.rows(
        [{"problem": problem} for problem in problems], json_wanted=json, empty="nothing is wrong"
    )
    if problems:
        raise typer.Exit(1)


@app.command()
def serve(config: options.Config) -> None:
    """Run in the foreground until SIGTERM or SIGINT.

    New and changed peers are in force within a second; everything else in gateway.toml is read at
    the start only, and a file with a mistake leaves in force what was read before. The exit code
    is 2 when the settings cannot work.
    """
    raise typer.Exit(role.serve(config))


@app.command()
def evict(
    config: options.Config,
    study: Annotated[
        str | None, typer.Option(help="Study Instance UID; every study when left out.")
    ] = None,
    json: options.AsJSON = False,
) -> None:
    """Let go of local copies that are safe at the centre, whatever their age.

    What is not committed there, or has open jobs, stays; the reason is told. Exits with 4 when a
    study was named and nothing of it could go.
    """
    house = nodes.open_house(config)
    with output.progress("letting go") as advance:
        done = list(operate.evict(house, study, advance))
    output.rows(done, json_wanted=json, empty="no study has a local copy")
    if study is not None and done[0].stayed and not done[0].packs:
        raise Refused(f"nothing of {study} was let go of: {done[0].stayed[0]}")
