"""Pages of docs/reference that are made from the program: its commands and its errors.

`python -m harmoni.cli.reference commands > docs/reference/commands.md`, and the same for `errors`.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator

import typer
from typer.core import TyperGroup

import harmoni
from harmoni.cli.app import app, exit_code
from harmoni.model.errors import HarmoniError, Permanent, Transient

# Alembic executes these itself; imported by anybody else they fail.
_NOT_IMPORTABLE = ("__main__", "migrations")


def commands() -> str:
    """The page of commands and their options."""
    page = [
        "# Commands",
        "",
        "Made from the program; do not edit.",
        "",
        "Exit codes: 0 done; 1 the check found something wrong; 2 wrong use or configuration;",
        "3 something it needs is unreachable; 4 refused by policy; 70 a fault of ours.",
        "An error is one line on stderr: what, why, what to do; `harmoni --debug …` shows the",
        "traceback as well.",
        "",
    ]
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for path, command in sorted(_walk("harmoni", root)):
        page += [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
        rows = []
        for parameter in command.params:
            name = ", ".join(f"`{option}`" for option in parameter.opts)
            if parameter.param_type_name == "argument":
                name = f"`{(parameter.metavar or parameter.name or '').upper()}`"
            default = _default(required=parameter.required, value=parameter.default)
            rows.append(f"| {name} | {default} | {getattr(parameter, 'help', '')} |")
        if rows:
            page += ["| option | default | |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(page).rstrip("\n") + "\n"


def errors() -> str:
    """The page of errors and their codes."""
    page = [
        "# Errors",
        "",
        "Made from the program; do not edit. A code never changes its meaning.",
        "*Retry*: whether the same act may succeed later.",
        "",
        "| code | error | what it means | retry | exit code |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in every_error():
        meaning = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
        retry = (
            "yes" if issubclass(kind, Transient) else "no" if issubclass(kind, Permanent) else ""
        )
        page.append(f"| {kind.code} | {kind.__name__} | {meaning} | {retry} | {exit_code(kind)} |")
    return "\n".join(page) + "\n"


def every_error() -> list[type[HarmoniError]]:
    """Every class of error that the program defines, by code."""
    for module in pkgutil.walk_packages(harmoni.__path__, "harmoni."):
        if not any(part in module.name for part in _NOT_IMPORTABLE):
            importlib.import_module(module.name)
    return sorted(_descendants(HarmoniError), key=lambda kind: (kind.code, kind.__name__))


def _default(*, required: bool, value: object) -> str:
    """What holds where an option is left out."""
    if required:
        return "required"
    return "none" if value is None else "off" if value is False else f"`{value}`"


def _descendants(kind: type[HarmoniError]) -> set[type[HarmoniError]]:
    found = {kind} if not kind.__name__.startswith("_") else set()
    for child in kind.__subclasses__():
        found |= _descendants(child)
    return found


def _walk(path: str, group: TyperGroup) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from _walk(f"{path} {name}", command)
        elif isinstance(command, typer.core.TyperCommand):
            yield f"{path} {name}", command


if __name__ == "__main__":
    sys.stdout.write({"commands": commands, "errors": errors}[sys.argv[1]]())
