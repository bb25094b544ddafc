"""Whether a pooled connection to PostgreSQL still has a server, without asking the server each time.

A server that ends, restarts or throws a session out closes the connection, and so leaves something to be read on it:
one look at the socket, no round trip. Only a connection with something to read, or one that lay unused so long that
something between here and there may have dropped it in silence, is asked.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

#: after which a connection is asked although nothing was heard of it
IDLE_SECONDS = 5.0
#: what is sent and not acknowledged for so long ends a connection, as does silence of a peer that is gone
TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 10_000}
_USED = "muniment-used"


def watch(engine: Engine) -> None:
    """Have each connection looked at before it is used again; one that is gone is replaced, and with it all the others."""

    @event.listens_for(engine, "checkin")
    def used(_connection: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: Any, _proxy: Any) -> None:
        since = record.info.get(_USED)
        if since is None or (quiet(connection) and time.monotonic() - since < IDLE_SECONDS):
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error


def quiet(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing is to be read on a connection that nobody uses: neither bytes nor its end."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
    except psycopg.Error:  # closed on our side already
        return False
    return not poll.poll(0)
