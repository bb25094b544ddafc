"""Searching the ledger: which sealed entries are of a kind, by somebody, about a target, within a time.

The index (`tables.fact`) is written by the sequencer, behind whoever recorded the entry, so that nobody waits for it. It
only says where to look: what is shown is read from the entries themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, and_, bindparam, or_, select

from muniment.core.errors import IntegrityError
from muniment.core.instants import wire
from muniment.ledger.entry import Entry, decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.rows import Into, listed, one_of, put, run

#: entries that are indexed again together
BATCH = 1000


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries. Every field narrows; an empty one does not."""

    kinds: tuple[str, ...] = ()  # of every version
    actor: str | None = None
    target: str | None = None
    stream: str | None = None  # a ticket, or whatever else entries are about
    since: datetime | None = None
    before: datetime | None = None
    after: tuple[str, int] | None = None  # when, and at which leaf, the last page ended; newest first
    limit: int = 50


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed entry, and where the ledger has it."""

    index: int
    entry: Entry


class _Body(msgspec.Struct, frozen=True):
    """As much of an entry as it is found by."""

    at: str
    type: str
    actor: _Actor
    data: _Data


class _Actor(msgspec.Struct, frozen=True):
    id: str


class _Data(msgspec.Struct, frozen=True):
    target: Any = None  # of events that are about a target and nothing else


_decoder = msgspec.json.Decoder(_Body)


def searchable(connection: Connection, leaves: Sequence[tuple[int, str, Any]]) -> list[dict[str, Any]]:
    """The index's rows of these leaves: index, stream and bytes. A ticket's entries are about its target."""
    dialect = connection.dialect.name
    tickets = list({stream for _, stream, _ in leaves if stream.startswith("req_")})
    targets: dict[str, str] = {}
    if tickets:
        rows = run(connection, _TARGETS[dialect], {"ids": listed(dialect, tickets)})
        targets = {row.id: row.target for row in rows}
    return [_row(index, _decoded(index, blob(body)), targets.get(stream)) for index, stream, body in leaves]


def index_again(engine: Engine) -> None:
    """Write the index again from the entries. Safe while the service runs."""
    start = 0
    while True:
        with writing(engine) as connection:
            rows = connection.execute(_INDEXED, {"start": start}).all()
            if not rows:
                return
            put(connection, Into(t.fact, searchable(connection, [tuple(row) for row in rows]), "replace"))
        start = rows[-1].idx + 1


def _decoded(index: int, body: bytes) -> _Body:
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(index) from error


def _entry(index: int, body: bytes) -> Entry:
    try:
        return decode_entry(body)
    except LedgerFault as fault:
        raise _damaged(index) from fault


def _damaged(index: int) -> IntegrityError:
    return IntegrityError(
        f"entry {index} of the ledger is damaged",
        remedy="Run `muniment ledger verify`, and keep the database as it is.",
    )


def _row(index: int, body: _Body, target: str | None) -> dict[str, Any]:
    own = body.data.target
    return {
        "idx": index, "at": body.at, "kind": body.type, "actor": body.actor.id,
        "target": target or (own if isinstance(own, str) else None),
    }  # fmt: skip


def search(engine: Engine, sought: Sought) -> list[Sealed]:
    """Entries, newest first, as they stand in the ledger."""
    c = t.fact.c
    query = (
        select(c.idx, t.event.c.body)
        .join(t.leaf, t.leaf.c.idx == c.idx)
        .join(t.event, t.event.c.id == t.leaf.c.event_id)
        .order_by(c.at.desc(), c.idx.desc())
        .limit(sought.limit)
    )
    for column, value in (
        (c.actor, sought.actor),
        (c.target, sought.target),
        (t.event.c.stream, sought.stream),
    ):
        if value is not None:
            query = query.where(column == value)
    if sought.kinds:
        query = query.where(c.kind.in_(sought.kinds))
    if sought.since is not None:
        query = query.where(c.at >= wire(sought.since))
    if sought.before is not None:
        query = query.where(c.at < wire(sought.before))
    if sought.after is not None:
        at, index = sought.after
        query = query.where(c.at <= at, or_(c.at < at, and_(c.at == at, c.idx < index)))
    with reading(engine) as connection:
        return [Sealed(index=i, entry=_entry(i, blob(body))) for i, body in connection.execute(query)]


_INDEXED = (
    select(t.leaf.c.idx, t.event.c.stream, t.event.c.body)
    .join(t.event, t.event.c.id == t.leaf.c.event_id)
    .where(t.leaf.c.idx >= bindparam("start"))
    .order_by(t.leaf.c.idx)
    .limit(BATCH)
)
_TARGETS = {
    dialect: select(t.ticket.c.id, t.ticket.c.target).where(chosen)
    for dialect, chosen in one_of(t.ticket.c.id, "ids").items()
}
