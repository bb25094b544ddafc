"""Filters that people keep: a name of theirs for a list's address."""

from __future__ import annotations

import msgspec
from sqlalchemy import Engine, and_, delete, func, select

from muniment.core.errors import Invalid
from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.rows import Into, put

#: of one person
MOST = 40


class SavedFilter(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    name: str
    path: str  # of the list
    query: str  # what follows the question mark


class SqlSavedFilters:
    """The table of them."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def of(self, identity: str, path: str) -> list[SavedFilter]:
        """Those of somebody for a list, by name."""
        c = t.saved_filter.c
        query = select(c.name, c.path, c.query).where(c.identity == identity, c.path == path).order_by(c.name)
        with reading(self._engine) as connection:
            return [SavedFilter(name=n, path=p, query=q) for n, p, q in connection.execute(query)]

    def keep(self, identity: str, saved: SavedFilter) -> None:
        """Keep one, in place of one with this name. Raises `Invalid` where there are too many."""
        c = t.saved_filter.c
        others = select(func.count()).where(c.identity == identity, c.name != saved.name)
        row = {"identity": identity, **msgspec.to_builtins(saved)}
        with writing(self._engine) as connection:
            if connection.execute(others).scalar_one() >= MOST:
                raise Invalid(f"you keep {MOST} filters already", remedy="Forget one first.")
            put(connection, Into(t.saved_filter, [row], "replace"))

    def forget(self, identity: str, name: str) -> None:
        """Forget one, if it is there."""
        c = t.saved_filter.c
        with writing(self._engine) as connection:
            connection.execute(delete(t.saved_filter).where(and_(c.identity == identity, c.name == name)))
