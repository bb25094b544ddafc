"""Messages from outside that count once: remembered for as long as the same one would be taken again (I39)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete
from sqlalchemy.dialects import postgresql, sqlite

from muniment.core.errors import Repeated
from muniment.core.instants import wire
from muniment.store import tables as t


def hear(connection: Connection, sender: str, ident: str, *, until: datetime, now: datetime) -> None:
    """Remember a message, in the transaction of what it does: a crash leaves both or neither.

    Raises:
        Repeated: the sender's message with this name was heard before. Of two at the same instant, one is.
    """
    connection.execute(delete(t.heard).where(t.heard.c.until <= wire(now)))
    values = {"sender": sender, "id": ident, "until": wire(until)}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(t.heard).values(values).on_conflict_do_nothing().returning(t.heard.c.id)
    if connection.execute(insert).one_or_none() is None:
        raise Repeated("this message came before, and counts once", remedy="Send a new one.")
