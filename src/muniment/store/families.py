"""Families of streams: all whose names begin with the same word and a colon.

How many entries a family has is what a decision by it rests on. It is counted in the entries themselves, because a
read model could be put back (I11), and a count, because ids commit out of order: each commit makes it another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal_column, select

from muniment.store import tables as t


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
    """Written out, so that both databases see that an index on one family fits."""
    stream = t.event.c.stream
    first, past = f"'{family}'", f"'{family[:-1]};'"  # a semicolon is what comes after a colon
    if dialect == "sqlite":
        return (stream >= literal_column(first)) & (stream < literal_column(past))
    return func.starts_with(stream, literal_column(first))
