"""Many rows in one statement, by the shortest way to the database: what the write path does with every commit.

SQLAlchemy writes the SQL, once, and translates errors; its own way from a statement to the driver costs more than the
database's work. PostgreSQL gets rows as one JSON document: by themselves, each is a message to be made and answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    CursorResult,
    Integer,
    LargeBinary,
    Table,
    Text,
    TextualSelect,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

#: what to do where a row with the same primary key is there
There: TypeAlias = Literal["refuse", "keep", "replace"]

_TYPES = {Text: "text", Integer: "integer", BigInteger: "bigint", LargeBinary: "text"}
_encode = msgspec.json.Encoder().encode  # bytes as base64


def put(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], there: There = "refuse"
) -> None:
    """Insert rows, in their order. All have the same columns; of two that replace each other the last one stays."""
    if not rows:
        return
    if there == "replace":  # PostgreSQL replaces no row twice in one statement
        key = [column.name for column in table.primary_key]
        rows = list({tuple(row[name] for name in key): row for row in rows}.values())
    sql = _putting(connection.dialect.name, table, tuple(rows[0]), there)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(sql, list(rows))
    else:
        connection.exec_driver_sql(sql, {"rows": _encode(rows).decode()})


def run(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> CursorResult[Any]:
    """Execute a statement that lives as long as the program, and whose values need no conversion."""
    return connection.exec_driver_sql(sql_of(connection.dialect.name, statement), dict(values))


@cache
def sql_of(dialect: str, statement: ClauseElement, columns: tuple[str, ...] | None = None) -> str:
    """A statement as the driver takes it, with its parameters by name."""
    kind = (
        sqlite.dialect(paramstyle="named") if dialect == "sqlite" else postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap
    )
    return str(statement.compile(dialect=kind, column_keys=columns))


@cache
def _putting(dialect: str, table: Table, columns: tuple[str, ...], there: There) -> str:
    insert: sqlite.Insert | postgresql.Insert = sqlite.insert(table)
    if dialect == "postgresql":
        insert = postgresql.insert(table).inline().from_select(columns, _given(table, columns))
    key = [column.name for column in table.primary_key]
    if there == "replace":
        insert = insert.on_conflict_do_update(
            index_elements=key, set_={name: insert.excluded[name] for name in columns if name not in key}
        )
    elif there == "keep":
        insert = insert.on_conflict_do_nothing()
    return sql_of(dialect, insert, columns)


def _given(table: Table, columns: tuple[str, ...]) -> TextualSelect:
    """The rows of a JSON document, in their order."""
    typed = ", ".join(f"{name} {_TYPES[_kind(table, name)]}" for name in columns)
    taken = ", ".join(
        f"decode(r.{name}, 'base64')" if _kind(table, name) is LargeBinary else f"r.{name}"
        for name in columns
    )
    rows = f"ROWS FROM (json_to_recordset(CAST(:rows AS json)) AS ({typed})) WITH ORDINALITY"
    sql = f"SELECT {taken} FROM {rows} AS r({', '.join(columns)}, nth) ORDER BY r.nth"  # noqa: S608  names of our tables
    return text(sql).columns()


def _kind(table: Table, column: str) -> type:
    return next(kind for kind in _TYPES if isinstance(table.c[column].type, kind))
