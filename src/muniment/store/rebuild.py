"""Read models from events: rebuilt by one command, and compared byte by byte with what is live (I24)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import Connection, Engine, select, text

from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.events import SqlStore
from muniment.store.projecting import ticket_row, viewer_rows, write_tickets, write_viewers

#: tickets folded and written together
CHUNK = 200


def rebuild(store: SqlStore, progress: Callable[[int], None] = lambda _: None) -> int:
    """Write every ticket's row again from its entries; return how many. Safe while the service runs.

    A crash leaves some rows new and some old; both are right unless they were damaged, and running it again ends it.
    """
    folded: set[str] = set()
    for chunk in _chunks(store.engine):
        with writing(store.engine) as connection:
            _hold(connection)
            tickets = [ticket for _, ticket in store.read_many(chunk).values()]
            write_tickets(connection, tickets)
            write_viewers(connection, tickets)
        folded.update(ticket.id for ticket in tickets)
        progress(len(folded))
    with writing(store.engine) as connection:
        _hold(connection)
        rows = {row.id for row in connection.execute(select(t.ticket.c.id))}
        with_entries = store.read_many(rows - folded).keys()
        for without in rows - folded - with_entries:
            connection.execute(t.ticket.delete().where(t.ticket.c.id == without))
            connection.execute(t.viewer.delete().where(t.viewer.c.ticket == without))
    return len(folded)


def _hold(connection: Connection) -> None:
    """Let no append change a row between our fold and our write. SQLite's write transaction does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE ticket IN EXCLUSIVE MODE"))


def differences(store: SqlStore) -> Iterator[str]:
    """Tickets whose live row is not, byte for byte, what their entries fold to; and rows without entries."""
    seen: set[str] = set()
    for chunk in _chunks(store.engine):
        with reading(store.engine) as connection:
            rows = connection.execute(select(t.ticket).where(t.ticket.c.id.in_(chunk))).mappings().all()
        live = {row["id"]: dict(row) for row in rows}
        for _, ticket in store.read_many(chunk).values():
            seen.add(ticket.id)
            if live.get(ticket.id) != ticket_row(ticket) and _differs(store, ticket.id):
                yield ticket.id
        yield from _hidden(store, chunk)
    with reading(store.engine) as connection:
        others = [
            ticket_id for (ticket_id,) in connection.execute(select(t.ticket.c.id)) if ticket_id not in seen
        ]
    for ticket_id in others:
        if _differs(store, ticket_id):
            yield ticket_id


def _differs(store: SqlStore, ticket_id: str) -> bool:
    """Look again: the row as it was between two equal looks at the entries is theirs, or is wrong."""
    while True:
        before = store.read_many([ticket_id]).get(ticket_id)
        with reading(store.engine) as connection:
            row = connection.execute(select(t.ticket).where(t.ticket.c.id == ticket_id)).mappings().first()
        if before == store.read_many([ticket_id]).get(ticket_id):
            return (dict(row) if row else None) != (ticket_row(before[1]) if before else None)


def _hidden(store: SqlStore, chunk: list[str]) -> Iterator[str]:
    """Tickets that somebody may see and cannot find. Rows too many show nothing: `may_see` has the last word."""
    tickets = [ticket for _, ticket in store.read_many(chunk).values()]
    with reading(
        store.engine
    ) as connection:  # after the tickets: what was written meanwhile is more, never less
        found = {
            tuple(row) for row in connection.execute(select(t.viewer).where(t.viewer.c.ticket.in_(chunk)))
        }
    for ticket in tickets:
        if any((row["who"], row["ticket"]) not in found for row in viewer_rows(ticket)):
            yield ticket.id


def _chunks(engine: Engine) -> Iterator[list[str]]:
    last = "req_"
    while True:
        query = (
            select(t.event.c.stream)
            .where(
                t.event.c.seq == 0,
                t.event.c.stream > last,
                t.event.c.stream.startswith("req_", autoescape=True),
            )
            .order_by(t.event.c.stream)
            .limit(CHUNK)
        )
        with reading(engine) as connection:
            chunk = [stream for (stream,) in connection.execute(query)]
        if not chunk:
            return
        yield chunk
        last = chunk[-1]
