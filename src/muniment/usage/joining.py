"""Pair every use with the ticket that gave it, in one pass of DuckDB over Arrow tables.

Uses have ``row``, by which the caller knows them again, ``ticket`` that the line names or null, ``key``, and ``moment`` in
microseconds since 1970. Grants have ``ticket``, ``key``, ``begins`` and ``ends``; a ticket has one for each thing that it
may be found by. What a key is, is the caller's: an account, or an account and a privilege.

A use that names a ticket is that ticket's, in its time or outside it. Of the others, those are in some grant's time that
the last one that began, or of all before it the one that ends last, has it: so each use meets one row, however many
grants overlap. Nothing here depends on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from muniment.joins import MEMORY, arrow, database

#: verdicts, by their numbers in `_JOIN`
PAIRED = ("in-window", "outside", "ungranted")


class UseRow(NamedTuple):
    """One use."""

    ticket: str | None
    key: str
    at: int


class GrantRow(NamedTuple):
    """One way to find a ticket by."""

    ticket: str
    key: str
    begins: int
    ends: int


def uses_table(rows: Iterable[UseRow]) -> Any:
    """Rows numbered in their order."""
    pa, given = arrow(), list(rows)
    return pa.table(
        {
            "row": pa.array(range(len(given)), pa.int64()),
            "ticket": pa.array([each.ticket for each in given], pa.string()),
            "key": pa.array([each.key for each in given], pa.string()),
            "moment": pa.array([each.at for each in given], pa.int64()),
        }
    )


def grants_table(rows: Iterable[GrantRow]) -> Any:
    """As `UseRow`s."""
    pa, given = arrow(), list(rows)
    return pa.table(
        {
            "ticket": pa.array([each.ticket for each in given], pa.string()),
            "key": pa.array([each.key for each in given], pa.string()),
            "begins": pa.array([each.begins for each in given], pa.int64()),
            "ends": pa.array([each.ends for each in given], pa.int64()),
        }
    )


def join(uses: Any, grants: Any) -> list[tuple[str, str | None]]:
    """The verdict on each use of a table, in its order, and the ticket."""
    found: list[tuple[str, str | None]] = [(PAIRED[2], None)] * uses.num_rows
    with database() as opened:
        for batch in _joined(opened, uses, grants):
            columns = (batch.column(name).to_pylist() for name in ("row", "verdict", "ticket"))
            for row, verdict, ticket in zip(*columns, strict=True):
                found[row] = PAIRED[verdict], ticket
    return found


def tally(uses: Any, grants: Any, memory: str = MEMORY) -> dict[str, int]:
    """How many uses there are of each verdict: the join alone, for whoever measures it."""
    with database(memory) as opened:
        _register(opened, uses, grants)
        rows = opened.execute(f"SELECT verdict, count(*) FROM ({_JOIN}) GROUP BY verdict").fetchall()  # noqa: S608  ours
    return dict.fromkeys(PAIRED, 0) | {PAIRED[verdict]: count for verdict, count in rows}


def _joined(opened: Any, uses: Any, grants: Any) -> Any:
    _register(opened, uses, grants)
    return opened.sql(_JOIN).to_arrow_reader(100_000)


def _register(opened: Any, uses: Any, grants: Any) -> None:
    # what Arrow has no count of is taken for a handful of rows, and those are joined row by row
    opened.execute("SET asof_loop_join_threshold = 0")
    opened.register("uses", uses)
    opened.register("grants", grants)
    opened.execute(_PREPARE)


#: of each key, the grants in the order in which they began; with each, the one of them so far that ends last. Of those
#: that began at one instant the last one stands for all: it has seen the others
_PREPARE = """
    CREATE TABLE begun AS
        SELECT key, begins, ends, ticket,
               arg_max(ticket, ends) OVER before AS longest, max(ends) OVER before AS last
        FROM grants
        WINDOW before AS (PARTITION BY key ORDER BY begins, ends, ticket ROWS UNBOUNDED PRECEDING)
        QUALIFY row_number() OVER (PARTITION BY key, begins ORDER BY ends DESC, ticket DESC) = 1;
    CREATE TABLE named AS SELECT ticket, min(begins) AS begins, max(ends) AS ends FROM grants GROUP BY ticket;
    CREATE TABLE first AS SELECT key, arg_min(ticket, (begins, ticket)) AS ticket FROM grants GROUP BY key"""

_JOIN = """
    SELECT u.row AS row, CASE WHEN n.ticket IS NULL THEN 2 WHEN u.moment >= n.begins AND u.moment < n.ends THEN 0 ELSE 1 END AS verdict,
           n.ticket AS ticket
    FROM uses u LEFT JOIN named n ON u.ticket = n.ticket WHERE u.ticket IS NOT NULL
    UNION ALL
    SELECT u.row, CASE WHEN b.key IS NOT NULL AND (u.moment < b.ends OR u.moment < b.last) THEN 0 WHEN f.key IS NOT NULL THEN 1 ELSE 2 END,
           CASE WHEN b.key IS NULL THEN f.ticket WHEN u.moment < b.ends THEN b.ticket WHEN u.moment < b.last THEN b.longest ELSE b.ticket END
    FROM (SELECT row, key, moment FROM uses WHERE ticket IS NULL) u
    ASOF LEFT JOIN begun b ON u.key = b.key AND u.moment >= b.begins
    LEFT JOIN first f ON u.key = f.key"""
