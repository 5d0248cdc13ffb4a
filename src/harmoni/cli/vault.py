"""`harmoni vault`: the packs, and the index that is made from them."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from harmoni.cli import nodes, options, output
from harmoni.rescue import kit
from harmoni.role import oversight, upkeep

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
    config: options.Config,
    hospital: options.Hospital,
    *,
    rescan: Annotated[
        bool, typer.Option(help="Read the instances themselves and not the packs' manifests.")
    ] = False,
    json: options.AsJSON = False,
) -> None:
    """Make the index anew from packs and keys beside the live one, then swap.

    Of a pack that the seal log knows only the end is read: `vault scrub` finds damage before it.
    With --rescan every instance is decrypted and read anew, so that attributes which an
    earlier version did not read, or read wrongly, can be found. It takes as long as reading
    all packs does. Exits with 1 when the new index differs from the one it replaced, or something
    that was acknowledged is missing or does not verify.
    """
    with output.progress(f"rebuilding {hospital}") as advance:
        report = upkeep.rebuild(nodes.open_node(config), hospital, advance, rescan=rescan)
    output.facts(report, json_wanted=json)
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def scrub(
    config: options.Config,
    hospital: options.Hospital,
    *,
    older_than_days: Annotated[
        float, typer.Option(min=0, help="Pass over packs that were verified since.")
    ] = 0.0,
    opened_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Share of packs to decrypt and parse besides.")
    ] = 1.0,
    mib_per_second: Annotated[
        float | None, typer.Option(min=0.1, help="Read no faster; as fast as it goes without.")
    ] = None,
    json: options.AsJSON = False,
) -> None:
    """Read sealed packs again and tell which are not what was sealed.

    The one verified longest ago comes first; what was verified is noted, so after an
    interruption give --older-than-days and it goes on. The running role does the same by
    itself, slowly. Exits with 1 when a pack is damaged or missing: then see `vault repair`.
    """
    with output.progress(f"scrubbing {hospital}") as advance:
        report = upkeep.scrub(
            nodes.open_node(config),
            hospital,
            older_than_days=older_than_days,
            opened_percent=opened_percent,
            mib_per_second=mib_per_second,
            progress=advance,
            wait=threading.Event().wait,
        )
    if json:
        output.as_json(report)
    else:
        output.facts(report.figures(), json_wanted=False)
        output.rows(report.findings, json_wanted=False, empty="every pack is what was sealed")
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def repair(
    config: options.Config,
    hospital: options.Hospital,
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Directory laid out as a data directory: a mounted backup, another site's disk.",
            show_default=False,
        ),
    ],
    json: options.AsJSON = False,
) -> None:
    """Put whole copies in the place of damaged and missing packs.

    A copy is taken only if it is byte for byte what was sealed. Exits with 1 when a pack could
    not be repaired; single instances of it may still be sent again by their PACS.
    """
    done = upkeep.repair(nodes.open_node(config), hospital, source)
    output.rows(done, json_wanted=json, empty="no pack is damaged or missing")
    if not all(each.repaired for each in done):
        raise typer.Exit(1)


@app.command("rescue-kit")
def rescue_kit(
    directory: Annotated[Path, typer.Argument(help="Where it goes: new, empty, or a kit.")],
    json: options.AsJSON = False,
) -> None:
    """Write what opens packs without HARMONI: two programs, the formats, the vectors.

    Keep it beside every copy of the packs. It holds no secret. A kit that is there is
    renewed; a directory with anything else in it is refused.
    """
    written = kit.write_kit(directory)
    output.rows([{"file": path} for path in written], json_wanted=json, empty="")
