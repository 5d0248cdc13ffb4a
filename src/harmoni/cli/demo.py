"""`harmoni demo`: the whole of HARMONI on this machine, checked or left running."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from harmoni.backends.filesystem import make_root
from harmoni.cli import options, output
from harmoni.demo import ports, story, system
from harmoni.demo import serve as server
from harmoni.model.errors import ConfigurationError
from harmoni.runtime import log
from harmoni.runtime.clock import SystemClock


def demo(
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input", help="Send this file or folder of DICOM files, not a made-up study."
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Send nothing; run until SIGTERM or SIGINT.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Where everything goes; a temporary one when left out."),
    ] = None,
    hospitals: Annotated[int, typer.Option(help="How many hospitals.")] = 2,
    sites: Annotated[int, typer.Option(help="How many data centres.")] = 1,
    seal_after: Annotated[
        float, typer.Option(metavar="SECONDS", help="Every quiet time before sealing.")
    ] = system.SEAL_AFTER_S,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ROLE.KEY=VALUE", help="Set a value; may be repeated."),
    ] = None,
    json: options.AsJSON = False,
) -> None:
    """Build a whole HARMONI, send a study, get it back, and compare every byte.

    Exits with 0 only if everything it claims was checked.
    """
    if sites != 1:
        raise ConfigurationError(
            f"{sites} sites are not possible: sites do not replicate yet; leave --sites at 1"
        )
    log.configure(level="error", stream=sys.stderr)
    clock = SystemClock()
    with _directory(directory) as place:
        centre = system.build(
            place,
            hospitals=hospitals,
            seal_after_s=seal_after,
            settings=settings or (),
            clock=clock,
        )
        if serve:

            def announce(state: Mapping[str, object]) -> None:
                output.as_json(state) if json else print("\n".join(server.lines(centre)))
                sys.stdout.flush()

            server.serve(centre, clock, announce)
            return
        with output.progress("demo") as advance:
            report = story.run(centre, source, clock, advance)
        if json:
            output.as_json(report)
        else:
            output.rows(report.acts, json_wanted=False, empty="nothing was done")
            for note in report.notes:
                output.complain(note)
        for failure in report.failures:
            output.complain(f"NOT AS IT SHOULD BE: {failure}")
        if report.failures:
            raise typer.Exit(1)


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        store = make_root(given)
        if store.names(".") and not store.exists(ports.FILE):
            raise ConfigurationError(
                f"{given} is neither empty nor the directory of a demo; name another with --dir"
            )
        yield given
        return
    temporary = Path(tempfile.mkdtemp(prefix="harmoni-demo-"))
    try:
        yield temporary
    except (ConfigurationError, KeyboardInterrupt, SystemExit):
        shutil.rmtree(temporary)
        raise
    except Exception:
        output.complain(f"{temporary} is kept, the log of the archive is in it")
        raise
    shutil.rmtree(temporary)
