"""Run statements of SQLAlchemy Core on a driver connection.

Statements are built from tables, values become bound parameters, the driver runs the text: so
query building stays pure, and streaming and snapshots stay those of the connection.
"""

from typing import Final

from sqlalchemy import SelectBase
from sqlalchemy.dialects import sqlite

from harmoni.index.database import Connection, Cursor

_DIALECT: Final = sqlite.dialect(paramstyle="qmark")


def compiled(statement: SelectBase) -> tuple[str, list[object]]:
    """The SQL text of a statement and its parameters, in order."""
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    values = result.construct_params()
    return str(result), [values[name] for name in result.positiontup or ()]


def run(connection: Connection, statement: SelectBase) -> Cursor:
    """Run a statement; the rows come as they are read."""
    return connection.execute(*compiled(statement))
