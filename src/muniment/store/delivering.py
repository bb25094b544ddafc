"""What is on its way to somebody, and how far each of them was looked after. Which entries, is in `service.sending`.

A sink goes through the ledger by its leaves. How far it is and what it found on the way are written together, so a
crash loses nothing; what was sent and not noted is sent again: at least once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, delete, func, select, update

from muniment.core.instants import wire
from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.rows import Into, put

#: characters that are kept of why something did not arrive
MAX_ERROR = 300


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One entry on its way to one sink."""

    index: int  # of its leaf
    attempts: int = 0
    error: str = ""  # of the last attempt


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink is."""

    next: int  # the first leaf that was not looked at
    waiting: int  # on their way
    lost: int  # given up, until somebody has them sent again
    closed: str | None  # why nothing goes there any more


class SqlDeliveries:
    """The tables of both."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def progress(self, sink: str) -> Progress | None:
        """How far it is; None for one that never began."""
        d = t.delivery.c
        with reading(self._engine) as connection:
            row = connection.execute(select(t.feed).where(t.feed.c.sink == sink)).one_or_none()
            counts = connection.execute(
                select(func.count(), func.count(d.due_at)).where(d.sink == sink)
            ).one()
        if row is None:
            return None
        return Progress(next=row.next, waiting=counts[1], lost=counts[0] - counts[1], closed=row.closed)

    def begin(self, sink: str, index: int) -> None:
        """Look after a new one from a leaf on. One that began already stays where it is."""
        with writing(self._engine) as connection:
            put(connection, Into(t.feed, [{"sink": sink, "next": index, "closed": None}], "keep"))

    def move(self, sink: str, start: int, upto: int, found: Collection[int], now: datetime) -> bool:
        """The leaves from ``start`` were looked at, and these are for the sink. False if somebody else did it."""
        with writing(self._engine) as connection:
            moved = update(t.feed).where(t.feed.c.sink == sink, t.feed.c.next == start).values(next=upto)
            if connection.execute(moved).rowcount != 1:
                return False
            if found:
                put(connection, Into(t.delivery, _rows(sink, found, now), "keep"))
        return True

    def due(self, sink: str, now: datetime, limit: int) -> list[Delivery]:
        """What is to be sent now, in the ledger's order."""
        return self._read(sink, t.delivery.c.due_at <= wire(now), limit)

    def lost(self, sink: str, limit: int = 1000) -> list[Delivery]:
        """What was given up, in the ledger's order."""
        return self._read(sink, t.delivery.c.due_at.is_(None), limit)

    def _read(self, sink: str, which: ColumnElement[bool], limit: int) -> list[Delivery]:
        d = t.delivery.c
        query = select(d.idx, d.attempts, d.error).where(d.sink == sink, which).order_by(d.idx).limit(limit)
        with reading(self._engine) as connection:
            return [
                Delivery(index=row.idx, attempts=row.attempts, error=row.error)
                for row in connection.execute(query)
            ]

    def arrived(self, sink: str, indexes: Collection[int]) -> None:
        """They are there."""
        if not indexes:
            return
        with writing(self._engine) as connection:
            connection.execute(
                delete(t.delivery).where(t.delivery.c.sink == sink, t.delivery.c.idx.in_(indexes))
            )

    def drop(self, sink: str) -> None:
        """Forget what is on its way there, for good."""
        with writing(self._engine) as connection:
            connection.execute(delete(t.delivery).where(t.delivery.c.sink == sink))

    def failed(self, sink: str, index: int, error: str, again: datetime | None) -> None:
        """An attempt did not succeed: try at ``again``, or give up."""
        c = t.delivery.c
        with writing(self._engine) as connection:
            connection.execute(
                update(t.delivery)
                .where(c.sink == sink, c.idx == index)
                .values(
                    attempts=c.attempts + 1, error=error[:MAX_ERROR], due_at=wire(again) if again else None
                )
            )

    def again(self, sink: str, indexes: Collection[int], now: datetime) -> None:
        """Send these once more, whether they arrived or not."""
        if not indexes:
            return
        c = t.delivery.c
        with writing(self._engine) as connection:
            connection.execute(delete(t.delivery).where(c.sink == sink, c.idx.in_(indexes)))
            put(connection, Into(t.delivery, _rows(sink, indexes, now), "keep"))

    def close(self, sink: str, why: str | None) -> None:
        """Send nothing there any more; with None, go on."""
        with writing(self._engine) as connection:
            connection.execute(
                update(t.feed).where(t.feed.c.sink == sink).values(closed=why and why[:MAX_ERROR])
            )


def _rows(sink: str, indexes: Collection[int], now: datetime) -> list[dict[str, Any]]:
    return [
        {"sink": sink, "idx": index, "attempts": 0, "due_at": wire(now), "error": ""} for index in indexes
    ]
