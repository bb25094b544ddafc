"""Families of streams: all whose names begin alike.

How many entries a family has is what a decision by it rests on. It is counted in the entries themselves, because a
read model could be put back (I11), and a count, because ids commit out of order: each commit makes it another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal_column, select

from muniment.store import tables as t

#: after whatever else a name may go on with
LAST_CHARACTER = "\U0010ffff"


@cache
def counting(dialect: str, family: str) -> Select[Any]:
    """How many entries a family has."""
    return select(func.count()).select_from(t.event).where(_within(dialect, family))


@cache
def listing(dialect: str, family: str) -> Select[Any]:
    """Each stream of a family, with the seq of its last entry."""
    stream, last = t.event.c.stream, func.max(t.event.c.seq).label("last")
    return select(stream, last).where(_within(dialect, family)).group_by(stream)


def _within(dialect: str, family: str) -> ColumnElement[bool]:
    """SQLite finds a prefix in its index as a range. PostgreSQL has a partial index, and sees by the text that it fits."""
    stream = t.event.c.stream
    first: ColumnElement[str] = literal_column(f"'{family}'")  # a word of ours
    if dialect == "sqlite":
        return (stream >= first) & (stream < literal_column(f"'{family}{LAST_CHARACTER}'"))
    return func.starts_with(stream, first)
