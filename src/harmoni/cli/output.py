"""Printing: JSON for machines, tables for people, progress for what takes long.

Results go to stdout, everything else to stderr, so that a pipe carries results only.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from harmoni.model.identifiers import HospitalId, PackId, SiteId, WriterId
from harmoni.runtime.progress import Progress

_FILE_COLUMNS: Final = 400
_LONGEST_CELL: Final = 300
# Identifiers are dataclasses too, and stand in JSON as their text.
_NAMES: Final = (HospitalId, SiteId, WriterId, PackId)


def plain(value: object) -> object:
    """The same value in what JSON knows: dataclasses as objects, bytes as hexadecimal."""
    result: object = json.loads(json.dumps(value, default=_simpler))
    return result


def _simpler(value: object) -> object:
    """One step from a value that JSON does not know towards one that it does."""
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if not dataclasses.is_dataclass(value) or isinstance(value, _NAMES):
        return str(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def as_json(value: object) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(plain(value), ensure_ascii=False, sort_keys=True))


def facts(value: object, *, json_wanted: bool) -> None:
    """Print one thing: a line per fact, or JSON.

    What is longer than a line, such as a key, follows on lines of its own, whole: a value that is
    folded cannot be copied. Of a long list each follows on its own.
    """
    if json_wanted:
        as_json(value)
        return
    members = plain(value)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    long = []
    for name, item in members.items() if isinstance(members, dict) else [("", members)]:
        title = name.replace("_", " ")
        if isinstance(item, str) and len(item) > _LONGEST_CELL:
            long.append((title, item))
        elif isinstance(item, list) and len(text(item)) > _LONGEST_CELL:
            long.append((title, "\n".join(map(str, item))))
        else:
            table.add_row(title, text(item))
    _paper().print(table)
    for title, item in long:
        print(f"\n{title}\n{item}")


def rows(values: Sequence[object], *, json_wanted: bool, empty: str) -> None:
    """Print many things of one kind: a table, or a JSON array.

    Args:
        values: dataclasses or mappings, all with the same members.
        json_wanted: print JSON.
        empty: what to tell people when there are none.
    """
    if json_wanted:
        as_json(list(values))
        return
    members = [item for item in map(plain, values) if isinstance(item, dict)]
    if not members:
        print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in members[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for member in members:
        table.add_row(*(text(item) for item in member.values()))
    _paper().print(table)


def text(value: object) -> str:
    """A value in a cell; markup in it is shown, never obeyed."""
    if isinstance(value, list):
        return ", ".join(text(item) for item in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return escape(str(value))


def _paper() -> Console:
    """Where tables go: as wide as the terminal, and as wide as they are into a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_COLUMNS)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show a bar on stderr while a with block runs; nothing where stderr is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def complain(line: str) -> None:
    """One line on stderr."""
    print(f"harmoni: {' '.join(line.split())}", file=sys.stderr)
