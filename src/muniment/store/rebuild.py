"""Read models from events: rebuilt by one command, and compared byte by byte with what is live (I24)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Connection, Table, select, text

from muniment.core import campaign
from muniment.core.drift import replay
from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.events import SqlStore
from muniment.store.projecting import (
    CAMPAIGN,
    DRIFT,
    campaign_row,
    drift_row,
    registry_row,
    ticket_row,
    tickets_to_list,
    viewer_rows,
    viewers_of,
)
from muniment.store.rows import Into, put
from muniment.store.searching import index_again

#: streams folded and written together
CHUNK = 200

Rows: TypeAlias = dict[str, dict[str, Any]]  # by stream


class _Model(NamedTuple):
    """A table with a row for each stream of its kind."""

    table: Table
    rows: Callable[
        [SqlStore, Collection[str]], Rows
    ]  # made of the streams' entries; none for a stream without
    write: Callable[
        [Connection, SqlStore, Collection[str]], Collection[str]
    ]  # those rows, again; of which streams
    streams: ColumnElement[bool]  # which streams of the event table

    @property
    def key(self) -> ColumnElement[str]:
        """The column that names the stream."""
        return next(iter(self.table.primary_key))


def _tickets(store: SqlStore, streams: Collection[str]) -> Rows:
    return {ticket.id: ticket_row(ticket) for _, ticket in store.read_many(streams).values()}


def _write_tickets(connection: Connection, store: SqlStore, streams: Collection[str]) -> list[str]:
    tickets = [ticket for _, ticket in store.read_many(streams).values()]
    put(connection, tickets_to_list(tickets), viewers_of(tickets))
    return [ticket.id for ticket in tickets]


def _registry(store: SqlStore, streams: Collection[str]) -> Rows:
    last = store.last(streams)
    return {
        name: registry_row(stream, entry.type, bytes(entry.data)) for name, (stream, entry) in last.items()
    }


def _write_registry(connection: Connection, store: SqlStore, streams: Collection[str]) -> Collection[str]:
    rows = _registry(store, streams)
    put(connection, Into(t.registry, list(rows.values()), "replace"))
    return rows


def _drifts(store: SqlStore, streams: Collection[str]) -> Rows:
    found = {
        stream: replay((each.event, each.at, each.actor) for each in recorded)
        for stream, (_, recorded) in store.whole(streams).items()
    }
    return {stream: drift_row(drift) for stream, drift in found.items() if drift is not None}


def _write_drifts(connection: Connection, store: SqlStore, streams: Collection[str]) -> Collection[str]:
    rows = _drifts(store, streams)
    put(connection, Into(t.drift, list(rows.values()), "replace"))
    return rows


def _campaigns(store: SqlStore, streams: Collection[str]) -> Rows:
    found = {stream: campaign.replay(recorded) for stream, (_, recorded) in store.whole(streams).items()}
    return {stream: campaign_row(each) for stream, each in found.items() if each is not None}


def _write_campaigns(connection: Connection, store: SqlStore, streams: Collection[str]) -> Collection[str]:
    rows = _campaigns(store, streams)
    put(connection, Into(t.campaign, list(rows.values()), "replace"))
    return rows


_IS_TICKET = t.event.c.stream.startswith("req_", autoescape=True)
_TICKETS = _Model(t.ticket, _tickets, _write_tickets, _IS_TICKET)
_REGISTRY = _Model(t.registry, _registry, _write_registry, ~_IS_TICKET)
_DRIFTS = _Model(t.drift, _drifts, _write_drifts, t.event.c.stream.startswith(DRIFT, autoescape=True))
_CAMPAIGNS = _Model(
    t.campaign, _campaigns, _write_campaigns, t.event.c.stream.startswith(CAMPAIGN, autoescape=True)
)


def rebuild(store: SqlStore, progress: Callable[[int], None] = lambda _: None) -> int:
    """Write every row again from its entries; return how many tickets. Safe while the service runs.

    A crash leaves some rows new and some old; both are right unless they were damaged, and running it again ends it.
    """
    _rebuild(store, _REGISTRY)
    _rebuild(store, _DRIFTS)
    _rebuild(store, _CAMPAIGNS)
    tickets = _rebuild(store, _TICKETS, progress)
    index_again(store.engine)  # which has from its row what an entry of a ticket is about
    return tickets


def _rebuild(store: SqlStore, model: _Model, progress: Callable[[int], None] = lambda _: None) -> int:
    made: set[str] = set()
    for chunk in _chunks(store, model):
        with writing(store.engine) as connection:
            _hold(connection, model)
            made.update(model.write(connection, store, chunk))
        progress(len(made))
    with writing(store.engine) as connection:
        _hold(connection, model)
        others = {name for (name,) in connection.execute(select(model.key))} - made
        for without in others - model.rows(store, others).keys():
            connection.execute(model.table.delete().where(model.key == without))
            connection.execute(t.viewer.delete().where(t.viewer.c.ticket == without))
    return len(made)


def _hold(connection: Connection, model: _Model) -> None:
    """Let no append change a row between our fold and our write. SQLite's write transaction does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {model.table.name} IN EXCLUSIVE MODE"))


def differences(store: SqlStore) -> Iterator[str]:
    """Streams whose live row is not, byte for byte, what their entries say; and rows without entries."""
    for model in (_TICKETS, _REGISTRY, _DRIFTS, _CAMPAIGNS):
        seen: set[str] = set()
        for chunk in _chunks(store, model):
            live = _live(store, model, chunk)
            for name, row in model.rows(store, chunk).items():
                seen.add(name)
                if live.get(name) != row and _differs(store, model, name):
                    yield name
            if model is _TICKETS:
                yield from _hidden(store, chunk)
        with reading(store.engine) as connection:
            others = [name for (name,) in connection.execute(select(model.key)) if name not in seen]
        for name in others:
            if _differs(store, model, name):
                yield name


def _live(store: SqlStore, model: _Model, streams: Collection[str]) -> Rows:
    with reading(store.engine) as connection:
        rows = connection.execute(select(model.table).where(model.key.in_(streams))).mappings()
        return {row[model.key]: dict(row) for row in rows}


def _differs(store: SqlStore, model: _Model, name: str) -> bool:
    """Look again: the row as it was between two equal looks at the entries is theirs, or is wrong."""
    while True:
        before = model.rows(store, [name])
        live = _live(store, model, [name])
        if before == model.rows(store, [name]):
            return live != before


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


def _chunks(store: SqlStore, model: _Model) -> Iterator[list[str]]:
    last = ""
    while True:
        query = (
            select(t.event.c.stream)
            .where(t.event.c.seq == 0, t.event.c.stream > last, model.streams)
            .order_by(t.event.c.stream)
            .limit(CHUNK)
        )
        with reading(store.engine) as connection:
            chunk = [stream for (stream,) in connection.execute(query)]
        if not chunk:
            return
        yield chunk
        last = chunk[-1]
