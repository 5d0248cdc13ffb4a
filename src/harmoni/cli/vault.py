"""`harmoni vault`: the packs, and the index that is made from them."""

import typer

from harmoni.cli import nodes, options, output
from harmoni.role import oversight

app = typer.Typer(help="Packs and the index made from them.", no_args_is_help=True)


@app.command()
def stat(
    config: options.Config, hospital: options.AnyHospital = None, json: options.AsJSON = False
) -> None:
    """Count packs, instances and bytes."""
    stats = oversight.stat(nodes.open_node(config), hospital)
    output.rows(stats, json_wanted=json, empty="no hospital yet")


@app.command()
def rebuild(
    config: options.Config, hospital: options.Hospital, json: options.AsJSON = False
) -> None:
    """Make the index anew from packs and keys beside the live one, then swap.

    Exits with 1 when the new index differs from the one it replaced, or something
    that was acknowledged is missing or does not verify.
    """
    with output.progress(f"rebuilding {hospital}") as advance:
        report = oversight.rebuild(nodes.open_node(config), hospital, advance)
    output.facts(report, json_wanted=json)
    if not report.sound:
        raise typer.Exit(1)
