"""Entries put back into a store that lost them: their rows, their leaves, the head, and what the registry shows.

One transaction: a crash before its end leaves the store as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select, text, update

from muniment.core.errors import RolledBack
from muniment.core.events import TextErased, TokenRevoked, decode_data
from muniment.core.instants import parse_instant, wire
from muniment.ledger.checkpoint import Checkpoint
from muniment.ledger.entry import decode_entry
from muniment.ledger.merkle import Frontier, leaf_hash
from muniment.ledger.note import parse_note
from muniment.store import tables as t
from muniment.store.appending import erase_texts
from muniment.store.engine import blob, writing
from muniment.store.events import SqlStore
from muniment.store.rows import Into, put
from muniment.store.token_rows import TOKEN, end_row

#: entries written together
CHUNK = 500
TICKET = "req_"


def put_back(store: SqlStore, entries: Iterable[tuple[int, bytes]], note: str, frontier: Frontier) -> None:
    """Write entries, given with their index, behind the ones that are there, and the checkpoint that covers them.

    Args:
        store: whose head stands at the first of them.
        entries: verified to be the ones that ``note`` covers.
        note: our checkpoint.
        frontier: of the tree that it names.

    Raises:
        RolledBack: the store holds another entry at the place of one of them, which was never published.
    """
    head = Checkpoint.parse(parse_note(note).text)
    source = iter(entries)
    with writing(store.engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE head, event, leaf, outbox IN EXCLUSIVE MODE"))
        while chunk := list(islice(source, CHUNK)):
            _put_back(connection, store, chunk)
        if waiting := connection.execute(_WAITING).first():
            raise _other(waiting.stream, waiting.seq)
        connection.execute(
            update(t.head).where(t.head.c.id == 1).values(size=head.size, frontier=frontier.to_bytes())
        )
        kept = {
            "size": head.size, "note": note, "frontier": frontier.to_bytes(),
            "at": wire(store.clock.now()), "published": wire(store.clock.now()),
        }  # fmt: skip
        put(connection, Into(t.checkpoint, [kept], "keep"))


def _put_back(connection: Connection, store: SqlStore, chunk: list[tuple[int, bytes]]) -> None:
    leaves, registered = [], dict[str, dict[str, Any]]()
    for index, body in chunk:
        entry = decode_entry(body, strict=True)
        place = (t.event.c.stream == entry.ticket) & (t.event.c.seq == entry.seq)
        row = connection.execute(select(t.event.c.id, t.event.c.body).where(place)).first()
        if row is None:
            values = {"stream": entry.ticket, "seq": entry.seq, "body": body, "mark": store.marker.of(body)}
            (event_id,) = connection.execute(t.event.insert().values(values)).inserted_primary_key or (None,)
        elif blob(row.body) == body:
            event_id = row.id
            connection.execute(t.outbox.delete().where(t.outbox.c.event_id == event_id))
        else:
            raise _other(entry.ticket, entry.seq)
        if entry.type == TextErased.kind:  # the backup is older, and holds the text again
            event = decode_data(entry.type, entry.data)
            if isinstance(event, TextErased):
                erase_texts(connection, [event.commitment])
        if entry.type == TokenRevoked.kind:  # and the token as it was before
            end_row(connection, store.marker, entry.ticket.removeprefix(TOKEN), parse_instant(entry.at))
        leaves.append({"idx": index, "event_id": event_id, "hash": leaf_hash(body)})
        if not entry.ticket.startswith(TICKET):
            registered[entry.ticket] = {
                "stream": entry.ticket, "version": entry.seq + 1, "head": "sha256:" + leaf_hash(body).hex(),
                "kind": entry.type, "data": bytes(entry.data),
            }  # fmt: skip
        connection.execute(
            update(t.clock).where(t.clock.c.mark < entry.at).values(mark=entry.at)
        )  # no instant that was acted on comes again (I13)
    put(connection, Into(t.leaf, leaves), Into(t.registry, list(registered.values()), "replace"))


def _other(stream: str, seq: int) -> RolledBack:
    return RolledBack(
        f"the store holds an entry {seq} of {stream} that was never published: it was added to since",
        remedy="Nothing was changed. Keep both, and see docs/how-to/recover-the-ledger.md.",
        code="ledger.forked",
    )


_WAITING = (
    select(t.event.c.stream, t.event.c.seq).join(t.outbox, t.outbox.c.event_id == t.event.c.id).limit(1)
)
