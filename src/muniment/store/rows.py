"""Many rows in one statement, by the shortest way to the database: what the write path does with every commit.

SQLAlchemy writes the SQL, once, and translates errors; its own way from a statement to the driver costs more than the
database's work. PostgreSQL gets the rows of a table as one JSON document, and all tables in one statement: each row by
itself would be a message to be made, and each statement one to be waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    LargeBinary,
    Table,
    Text,
    TextualSelect,
    and_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

#: what to do where a row with the same primary key is there; rise: replace it by what is greater
There: TypeAlias = Literal["refuse", "keep", "replace", "rise"]

_Insert = TypeVar("_Insert", sqlite.Insert, postgresql.Insert)
_TYPES = {Text: "text", Integer: "integer", BigInteger: "bigint", LargeBinary: "text"}
_encode = msgspec.json.Encoder().encode  # bytes as base64


class Into(NamedTuple):
    """Into for one table, with the same columns; of two that replace each other the last one stays.

    ``fixed`` columns stay as they are in a row that is replaced: their indexes need not be written again. Into the one
    column of ``queue`` go the ids that the database gives to the rows.
    """

    table: Table
    rows: Sequence[Mapping[str, Any]]
    there: There = "refuse"
    fixed: tuple[str, ...] = ()
    queue: Table | None = None


def put(connection: Connection, *several: Into) -> None:
    """Insert rows, those of each table in their order. On PostgreSQL all of it is one statement."""
    given = [each._replace(rows=_once(each)) for each in several if each.rows]
    shapes = tuple(
        _Shape(each.table, tuple(each.rows[0]), each.there, each.fixed, each.queue) for each in given
    )
    if connection.dialect.name == "sqlite":
        for shape, each in zip(shapes, given, strict=True):
            connection.exec_driver_sql(_putting(shape), list(each.rows))
            if shape.queue is not None:
                connection.exec_driver_sql(_queueing(shape.table, shape.queue), {"rows": len(each.rows)})
    elif given:
        documents = {f"rows_{at}": _encode(each.rows).decode() for at, each in enumerate(given)}
        connection.exec_driver_sql(_putting_together(shapes), documents)


def _once(given: Into) -> Sequence[Mapping[str, Any]]:
    """PostgreSQL replaces no row twice in one statement."""
    if given.there != "replace":
        return given.rows
    key = [column.name for column in given.table.primary_key]
    return list({tuple(row[name] for name in key): row for row in given.rows}.values())


class _Shape(NamedTuple):
    table: Table
    columns: tuple[str, ...]
    there: There
    fixed: tuple[str, ...]
    queue: Table | None


def one_of(column: ColumnElement[Any], name: str) -> dict[str, ColumnElement[bool]]:
    """For each kind of database, that a column is among the values `listed` under a name.

    One text of SQL however many they are, so that it is prepared once, and found by the column's index.
    """
    kind = next(sql for type_, sql in _TYPES.items() if isinstance(column.type, type_))
    return {
        "sqlite": column.in_(text(f"SELECT value FROM json_each(:{name})")),  # noqa: S608  a name of ours
        "postgresql": column == func.any(text(f"CAST(:{name} AS {kind}[])")),
    }


def listed(dialect: str, values: Sequence[Any]) -> Any:
    """Values as a statement with `one_of` takes them."""
    return _encode(values).decode() if dialect == "sqlite" else values


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
def _putting(shape: _Shape) -> str:
    """Insert one row by its values."""
    return sql_of("sqlite", _conflicting(sqlite.insert(shape.table), shape), shape.columns)


@cache
def _queueing(table: Table, queue: Table) -> str:
    """Queue the newest rows: SQLite has one writer at a time, who gets one id after the other."""
    before = select(func.max(table.c.id) - bindparam("rows")).scalar_subquery()
    newest = select(table.c.id).where(table.c.id > before)
    return sql_of("sqlite", queue.insert().from_select(list(queue.c), newest))


@cache
def _putting_together(shapes: tuple[_Shape, ...]) -> str:
    """Insert the rows of several JSON documents."""
    parts: list[str] = []
    for at, shape in enumerate(shapes):
        given = _given(shape, f"rows_{at}")
        insert = _conflicting(
            postgresql.insert(shape.table).inline().from_select(shape.columns, given), shape
        )
        if shape.queue is not None:
            ids = text(f"SELECT id FROM put_{len(parts)}").columns()  # noqa: S608  a number of ours
            parts.append(sql_of("postgresql", insert.returning(shape.table.c.id)))
            insert = postgresql.insert(shape.queue).inline().from_select(list(shape.queue.c), ids)
        parts.append(sql_of("postgresql", insert))
    *before, last = parts
    named = ", ".join(f"put_{at} AS ({sql})" for at, sql in enumerate(before))
    return f"WITH {named} {last}" if before else last


def _conflicting(insert: _Insert, shape: _Shape) -> _Insert:
    if shape.there == "keep":
        return insert.on_conflict_do_nothing()
    if shape.there == "refuse":
        return insert
    key: list[str] = [column.name for column in shape.table.primary_key]
    kept = (*key, *shape.fixed)
    replaced = {name: insert.excluded[name] for name in shape.columns if name not in kept}
    rises = and_(*(shape.table.c[name] < value for name, value in replaced.items()))
    where = rises if shape.there == "rise" else None
    return insert.on_conflict_do_update(index_elements=key, set_=replaced, where=where)


def _given(shape: _Shape, document: str) -> TextualSelect:
    """The rows of a JSON document, in their order."""
    kinds = {name: _kind(shape.table, name) for name in shape.columns}
    typed = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in kinds.items())
    taken = ", ".join(
        f"decode(r.{name}, 'base64')" if kind is LargeBinary else f"r.{name}" for name, kind in kinds.items()
    )
    rows = f"ROWS FROM (json_to_recordset(CAST(:{document} AS json)) AS ({typed})) WITH ORDINALITY"
    # names of our tables
    sql = f"SELECT {taken} FROM {rows} AS r({', '.join(kinds)}, nth) ORDER BY r.nth"  # noqa: S608
    return text(sql).columns()


def _kind(table: Table, column: str) -> type:
    return next(kind for kind in _TYPES if isinstance(table.c[column].type, kind))
