"""What receivers of signals made of their streams: paused, deleted, without some people. See `service.transmitting`.

A row is marked whole. One that foreign SQL wrote counts as none: the stream is as it is configured, so that nobody who
can write to the database silences it (I11).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import structlog
from sqlalchemy import Engine, delete, select

from muniment.core.identity import IdentityId
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.marking import Marker

log = structlog.get_logger("muniment.store")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where its receiver has it pushed to."""

    url: str
    authorization: bytes | None = None  # sealed: see `service.pushing`


class StreamState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As a stream stands. A new one is as SSF has it: enabled, with everybody and every event."""

    there: bool = True
    status: Literal["enabled", "paused", "disabled"] = "enabled"
    reason: str | None = None
    requested: tuple[str, ...] | None = None  # types of events; None: all
    description: str | None = None
    without: tuple[IdentityId, ...] = ()  # people whom it is not about, sorted
    endpoint: Endpoint | None = None  # None: as configured


class SqlSignalStreams:
    """The table of them."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def get(self, ident: str) -> StreamState:
        """How one stands."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(t.signal_stream).where(t.signal_stream.c.id == ident)
            ).one_or_none()
        return self._read(ident, row)

    def change(self, ident: str, make: Callable[[StreamState], StreamState]) -> StreamState:
        """Change one, as it stands then. ``make`` may raise; nothing changes then."""
        c = t.signal_stream.c
        with writing(self._engine) as connection:
            query = select(t.signal_stream).where(c.id == ident).with_for_update()
            made = make(self._read(ident, connection.execute(query).one_or_none()))
            state = msgspec.json.encode(made)
            connection.execute(delete(t.signal_stream).where(c.id == ident))
            connection.execute(
                t.signal_stream.insert().values(
                    id=ident, state=state, mark=self._marker.of(_marked(ident, state))
                )
            )
        return made

    def _read(self, ident: str, row: object) -> StreamState:
        if row is None:
            return StreamState()
        state = blob(getattr(row, "state", None))
        if not self._marker.holds(_marked(ident, state), blob(getattr(row, "mark", None))):
            log.critical(
                "a stream of signals was changed by something else than Muniment; it is as configured",
                stream=ident,
                remedy="Find out who can write to the database.",
            )
            return StreamState()
        return msgspec.json.decode(state, type=StreamState)


def _marked(ident: str, state: bytes) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment signal stream mark v1\0" + msgspec.json.encode([ident, state])
