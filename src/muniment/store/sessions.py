"""Sessions as rows. What a session is, is in `service.sessions`.

Each row carries a mark over all of it, so that one which foreign SQL wrote or changed is nobody's (I11).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import structlog
from sqlalchemy import ColumnElement, Connection, Engine, delete, select, update

from muniment.core.instants import parse_instant, wire
from muniment.core.login import Login
from muniment.ports import SignedOut
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.hearing import hear
from muniment.store.marking import Marker

log = structlog.get_logger("muniment.store")


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a session."""

    id: str
    hash: bytes
    identity: str
    login: Login
    sid: str | None
    without: tuple[str, ...]
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


class SqlSessions:
    """The table of sessions."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def add(self, session: SessionRow) -> None:
        """Keep a new one; those that were over before it are forgotten with it."""
        values = _values(session)
        with writing(self._engine) as connection:
            connection.execute(delete(t.session).where(t.session.c.expires_at < values["created_at"]))
            connection.execute(t.session.insert().values(**values, mark=self._mark(values)))

    def get(self, session_id: str) -> SessionRow | None:
        """One session, if its row is ours."""
        with reading(self._engine) as connection:
            row = connection.execute(select(t.session).where(t.session.c.id == session_id)).one_or_none()
        return self._read(row) if row is not None else None

    def see(self, session: SessionRow, at: datetime) -> None:
        """It is in use."""
        values = _values(msgspec.structs.replace(session, seen_at=at))
        with writing(self._engine) as connection:
            connection.execute(
                update(t.session)
                .where(t.session.c.id == session.id, t.session.c.ended_at.is_(None))
                .values(seen_at=values["seen_at"], mark=self._mark(values))
            )

    def end(self, session_id: str, at: datetime) -> list[str]:
        """End one; its id, if it was not over."""
        with writing(self._engine) as connection:
            return self._end(connection, t.session.c.id == session_id, at)

    def end_all(self, who: SignedOut, at: datetime) -> list[str]:
        """End every session of an account of a provider, or that it calls so, on a message that counts once; their ids.

        That it was heard is written with what it did: a crash leaves both or neither.

        Raises:
            Repeated: the message was heard before. Nothing is ended by it again.
        """
        named = t.session.c.issuer == who.issuer
        if who.subject is not None:
            named &= t.session.c.subject == who.subject
        if who.session is not None:
            named &= t.session.c.sid == who.session
        with writing(self._engine) as connection:
            hear(connection, who.issuer, who.id, until=who.until, now=at)
            return self._end(connection, named, at)

    def end_of(self, identity: str, at: datetime) -> list[str]:
        """End every session of somebody here; their ids."""
        with writing(self._engine) as connection:
            return self._end(connection, t.session.c.identity == identity, at)

    def _end(self, connection: Connection, named: ColumnElement[bool], at: datetime) -> list[str]:
        rows = connection.execute(select(t.session).where(named, t.session.c.ended_at.is_(None))).all()
        for row in rows:
            # marked anew also where the mark was not ours: what is over lets nobody in, whoever wrote it
            values = {name: _plain(getattr(row, name)) for name in _NAMES} | {"ended_at": wire(at)}
            connection.execute(
                update(t.session)
                .where(t.session.c.id == row.id)
                .values(ended_at=values["ended_at"], mark=self._mark(values))
            )
        return [row.id for row in rows]

    def _mark(self, values: dict[str, Any]) -> bytes:
        return self._marker.of(_marked(values))

    def _read(self, row: Any) -> SessionRow | None:
        values = {name: _plain(getattr(row, name)) for name in _NAMES}
        if not self._marker.holds(_marked(values), blob(row.mark)):
            log.critical(
                "a session was written or changed by something else than Muniment; it is nobody's",
                session=row.id,
                remedy="Find out who can write to the database.",
            )
            return None
        return SessionRow(
            id=row.id, hash=blob(row.hash), identity=row.identity, login=msgspec.json.decode(row.login, type=Login),
            sid=row.sid, without=tuple(row.without.split()), created_at=parse_instant(row.created_at),
            seen_at=parse_instant(row.seen_at), expires_at=parse_instant(row.expires_at),
            ended_at=parse_instant(row.ended_at) if row.ended_at else None,
        )  # fmt: skip


_NAMES = tuple(column.name for column in t.session.columns if column.name != "mark")


def _marked(values: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment session mark v1\0" + msgspec.json.encode([values[name] for name in _NAMES])


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else blob(value)


def _values(session: SessionRow) -> dict[str, Any]:
    return {
        "id": session.id, "hash": session.hash, "identity": session.identity,
        "login": msgspec.json.encode(session.login).decode(), "issuer": session.login.issuer,
        "subject": session.login.subject, "sid": session.sid, "without": " ".join(session.without),
        "created_at": wire(session.created_at), "seen_at": wire(session.seen_at), "expires_at": wire(session.expires_at),
        "ended_at": wire(session.ended_at) if session.ended_at else None,
    }  # fmt: skip
