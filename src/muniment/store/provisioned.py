"""Rows of people, groups and agents that somebody outside keeps here. What they mean is in `directory.provisioned`.

Each carries a mark over all it says, so that one which foreign SQL wrote makes nobody a member of anything (I11): it
counts as gone. Against an older row of ours that is put back, the mark says nothing; the ledger has what was recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, select, update

from muniment.core.errors import Conflict, NotFound
from muniment.core.instants import parse_instant, wire
from muniment.ports import Provisioned
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.marking import Marker

log = structlog.get_logger("muniment.store")


class SqlProvisioned:
    """The table of them."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def revision(self) -> int:
        """Higher with every change."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(t.provisioned_head.c.revision)).scalar() or 0)

    def since(self, revision: int) -> list[Provisioned]:
        """What changed after a revision, oldest change first; a row that is not ours as if it was removed."""
        query = (
            select(t.provisioned)
            .where(t.provisioned.c.revision > revision)
            .order_by(t.provisioned.c.revision)
        )
        with reading(self._engine) as connection:
            return [self._read(row) for row in connection.execute(query)]

    def of(self, kind: str, *, name: str | None = None) -> list[Provisioned]:
        """Those of a kind that are there, oldest first; with ``name``, that one."""
        c = t.provisioned.c
        query = (
            select(t.provisioned).where(c.kind == kind, c.removed_at.is_(None)).order_by(c.created_at, c.id)
        )
        if name is not None:
            query = query.where(c.name == name.casefold())
        with reading(self._engine) as connection:
            found = [self._read(row) for row in connection.execute(query)]
        return [each for each in found if each.removed_at is None]

    def get(self, kind: str, ident: str) -> Provisioned | None:
        """One that is there."""
        query = select(t.provisioned).where(t.provisioned.c.id == ident, t.provisioned.c.kind == kind)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        found = None if row is None else self._read(row)
        return None if found is None or found.removed_at is not None else found

    def add(self, ident: str, kind: str, name: str, body: bytes, at: datetime) -> Provisioned:
        """Keep a new one. Raises `Conflict` when another of its kind has the name."""

        def insert(connection: Connection, revision: int) -> Provisioned:
            self._require_free(connection, kind, name, ident)
            made = Provisioned(
                id=ident, kind=kind, name=name.casefold(), revision=revision, body=body, created_at=at, changed_at=at
            )  # fmt: skip
            connection.execute(t.provisioned.insert().values(**self._written(made)))
            return made

        return self._change(insert)

    def change(self, known: Provisioned, name: str, body: bytes, at: datetime) -> Provisioned:
        """Replace one as it was read. Raises `Conflict` when it changed since, or another has the name."""

        def write(connection: Connection, revision: int) -> Provisioned:
            self._require_free(connection, known.kind, name, known.id)
            return self._replace(
                connection, known,
                replace(known, name=name.casefold(), revision=revision, body=body, changed_at=at),
            )  # fmt: skip

        return self._change(write)

    def remove(self, known: Provisioned, at: datetime) -> None:
        """It is gone, and remembered as gone. Raises `Conflict` when it changed since it was read."""

        def write(connection: Connection, revision: int) -> Provisioned:
            return self._replace(
                connection, known, replace(known, revision=revision, changed_at=at, removed_at=at)
            )

        self._change(write)

    def _change(self, make: Callable[[Connection, int], Provisioned]) -> Provisioned:
        """One writer at a time: the head's row is locked first, so revisions commit in their order."""
        head = t.provisioned_head
        with writing(self._engine) as connection:
            moved = update(head).values(revision=head.c.revision + 1).returning(head.c.revision)
            return make(connection, connection.execute(moved).scalar_one())

    def _replace(self, connection: Connection, known: Provisioned, after: Provisioned) -> Provisioned:
        c = t.provisioned.c
        query = update(t.provisioned).where(
            c.id == known.id, c.revision == known.revision, c.removed_at.is_(None)
        )
        if connection.execute(query.values(**self._written(after))).rowcount != 1:
            there = connection.execute(select(c.id).where(c.id == known.id, c.removed_at.is_(None))).first()
            if there is None:
                raise NotFound("it is not there any more", remedy="Somebody else removed it.")
            raise Conflict("it changed since it was read", remedy="Read it again, then change it again.")
        return after

    def _require_free(self, connection: Connection, kind: str, name: str, ident: str) -> None:
        c = t.provisioned.c
        query = select(c.id).where(
            c.kind == kind, c.name == name.casefold(), c.removed_at.is_(None), c.id != ident
        )
        if connection.execute(query).first() is not None:
            raise Conflict(
                f"there is another {kind} of this name", remedy="Change that one.", code="conflict.name-taken"
            )

    def _written(self, each: Provisioned) -> dict[str, Any]:
        values = {
            "id": each.id, "kind": each.kind, "name": each.name, "revision": each.revision, "body": each.body,
            "created_at": wire(each.created_at), "changed_at": wire(each.changed_at),
            "removed_at": wire(each.removed_at) if each.removed_at else None,
        }  # fmt: skip
        return values | {"mark": self._marker.of(_marked(values))}

    def _read(self, row: Any) -> Provisioned:
        values = {name: getattr(row, name) for name in _NAMES} | {"body": blob(row.body)}
        removed = parse_instant(row.removed_at) if row.removed_at else None
        if not self._marker.holds(_marked(values), blob(row.mark)):
            log.critical(
                "a provisioned identity or group was written by something else than Muniment; it counts as gone",
                id=row.id, kind=row.kind, remedy="Find out who can write to the database; have it provisioned anew.",
            )  # fmt: skip
            removed = removed or parse_instant(row.changed_at)
        return Provisioned(
            id=row.id, kind=row.kind, name=row.name, revision=row.revision, body=values["body"],
            created_at=parse_instant(row.created_at), changed_at=parse_instant(row.changed_at), removed_at=removed,
        )  # fmt: skip


_NAMES = ("id", "kind", "name", "revision", "body", "created_at", "changed_at", "removed_at")


def _marked(said: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    return b"muniment provisioned mark v1\0" + msgspec.json.encode([said[name] for name in _NAMES])
