"""How tickets were filed, many at a time: for reports over a long past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, and_, select

from muniment.store import tables as t
from muniment.store.engine import blob, reading

#: policy's verdict follows the request
_VERDICT = 1


def since(engine: Engine, first: str) -> list[str]:
    """Ids of all tickets from ``first`` on, oldest first: an id begins with the time of filing."""
    with reading(engine) as connection:
        rows = connection.execute(select(t.ticket.c.id).where(t.ticket.c.id >= first).order_by(t.ticket.c.id))
        return [ticket for (ticket,) in rows]


def decided(engine: Engine, tickets: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Ticket and stored entry of policy's verdict, for tickets that follow each other."""
    between = and_(t.event.c.stream >= tickets[0], t.event.c.stream <= tickets[-1], t.event.c.seq == _VERDICT)
    query = select(t.event.c.stream, t.event.c.body).where(between).order_by(t.event.c.stream)
    with reading(engine) as connection:
        for stream, body in connection.execute(query):
            yield stream, blob(body)
