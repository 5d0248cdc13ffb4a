"""`harmoni hospital`: the hospitals that an archive keeps images for."""

from typing import Annotated

import typer

from harmoni import config as settings
from harmoni.archive import operate
from harmoni.cli import options, output

app = typer.Typer(help="Hospitals at the archive.", no_args_is_help=True)


@app.command()
def add(
    config: options.Config,
    name: Annotated[str, typer.Option(help="Its name for people.")],
    hospital_id: Annotated[
        str | None, typer.Option("--id", help="Its id; an opaque one is minted when left out.")
    ] = None,
    recovery_recipient: Annotated[
        str | None,
        typer.Option(help="Recipient of its recovery identity; a new identity when left out."),
    ] = None,
    json: options.AsJSON = False,
) -> None:
    """Add a hospital: its file, its identity, its keys and its index.

    Without a recovery recipient a recovery identity is made and printed once. It is stored
    nowhere: give it to the hospital, in shares, offline.
    """
    added = operate.add_hospital(
        settings.load_archive(config),
        hospital_id=hospital_id,
        name=name,
        recovery_recipient=recovery_recipient,
    )
    output.facts(added, json_wanted=json)
    if added.recovery_identity is not None:
        output.complain(
            "the recovery identity above is shown once and stored nowhere; keep it offline"
        )


@app.command("list")
def list_(config: options.Config, json: options.AsJSON = False) -> None:
    """List the hospitals."""
    hospitals = operate.list_hospitals(settings.load_archive(config))
    output.rows(hospitals, json_wanted=json, empty="no hospital yet")


@app.command()
def show(
    hospital_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    config: options.Config,
    json: options.AsJSON = False,
) -> None:
    """Show one hospital."""
    output.facts(
        operate.show_hospital(settings.load_archive(config), hospital_id), json_wanted=json
    )
