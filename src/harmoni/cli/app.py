"""The command `harmoni`: its groups, and the table from errors to exit codes.

An error is one line on stderr: what, why, what to do. A traceback is shown with --debug only.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

import harmoni
from harmoni.cli import (
    archive,
    ca,
    demo,
    gateway,
    hospital,
    keys,
    output,
    queue,
    status,
    study,
    vault,
)
from harmoni.model.errors import (
    AlreadyHeld,
    ConfigurationError,
    Damaged,
    HarmoniError,
    InvalidInput,
    LocalProtocolError,
    NotHeld,
    Permanent,
    ProtocolError,
    Refused,
    Transient,
)

DONE: Final = 0
FOUND_WRONG: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
OUR_FAULT: Final = os.EX_SOFTWARE

# The first class that fits decides.
EXIT_CODES: Final[Sequence[tuple[type[HarmoniError], int]]] = (
    (Damaged, FOUND_WRONG),
    (NotHeld, FOUND_WRONG),
    (ConfigurationError, WRONG_USE),
    (InvalidInput, WRONG_USE),
    (AlreadyHeld, WRONG_USE),
    (Transient, UNREACHABLE),
    (Refused, REFUSED),
    (Permanent, REFUSED),
    (LocalProtocolError, OUR_FAULT),
    (ProtocolError, UNREACHABLE),
)

app = typer.Typer(
    name="harmoni",
    help="The encrypted, vendor-neutral archive of a country's medical images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(archive.app, name="archive")
app.add_typer(gateway.app, name="gateway")
app.add_typer(queue.app, name="queue")
app.add_typer(hospital.app, name="hospital")
app.add_typer(study.app, name="study")
app.add_typer(vault.app, name="vault")
app.add_typer(keys.app, name="keys")
app.add_typer(ca.app, name="ca")
app.command("status")(status.status)
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"harmoni {harmoni.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error as well.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    del debug, version  # `main` looks for the one, the callback has acted on the other


def exit_code(kind: type[HarmoniError]) -> int:
    """The exit code of a class of errors."""
    return next((code for base, code in EXIT_CODES if issubclass(kind, base)), OUR_FAULT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows `harmoni`; the process's own when left out.

    Returns:
        The exit code: 0 done, 1 something is wrong with what was checked, 2 wrong use or
        configuration, 3 something it needs is unreachable, 4 refused by policy, 70 our fault.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result: object = app(given, prog_name="harmoni", standalone_mode=False)
    except TyperException as error:
        met = getattr(error, "ctx", None)  # where in the tree of commands, if it came so far
        command = "harmoni" if met is None else met.command_path
        output.complain(f"{error.format_message()} See {command} --help.")
        return WRONG_USE
    except HarmoniError as error:
        if "--debug" in given:
            traceback.print_exc()
        output.complain(f"{error.code} {error}")
        return exit_code(type(error))
    except OSError as error:
        if "--debug" in given:
            traceback.print_exc()
        output.complain(
            f"cannot use {error.filename or 'a file or a connection'}: "
            f"{error.strerror or error}; see that it is there and that this user may use it"
        )
        return UNREACHABLE
    except Exception as error:  # noqa: BLE001 - the last door: whatever comes here is our fault
        if "--debug" in given:
            traceback.print_exc()
        output.complain(
            f"{type(error).__name__}: {error}; this is a fault of HARMONI, run it again with "
            "--debug and report what it prints"
        )
        return OUR_FAULT
    return result if isinstance(result, int) else DONE
