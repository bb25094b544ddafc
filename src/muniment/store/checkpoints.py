"""Every checkpoint that was signed, with what witnesses and time-stamp authorities said about it.

They are the ledger's memory of itself: the newest is what the next one must grow from, and all of them are the only
evidence of *when* entries were there. None is ever deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Engine, Row, and_, func, select, update

from muniment.core.errors import IntegrityError, Invalid
from muniment.core.instants import parse_instant, wire
from muniment.ledger.checkpoint import with_lines
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.rows import Into, put


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A signed checkpoint."""

    size: int
    note: str  # as the log signed it, without cosignatures
    at: datetime
    frontier: bytes | None  # what the tree it names can grow from; None: signed before that was kept
    published: bool  # whether its tiles and it are out


class CosignatureLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one witness answered."""

    name: str
    key_id: str  # 8 hex digits
    time: int  # POSIX seconds, by the witness's clock
    line: str


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 3161 time-stamp of a checkpoint's text."""

    authority: str
    at: datetime
    token: bytes  # the DER response


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint with everything that was said about it."""

    size: int
    note: str  # with the earliest cosignature by each witness: the best bound of when its entries were there
    at: datetime
    cosignatures: tuple[CosignatureLine, ...]
    stamps: tuple[Stamped, ...]


class SqlCheckpoints:
    """The checkpoints of one store."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def newest(self) -> Kept | None:
        """The newest one that was signed."""
        with reading(self._engine) as connection:
            row = connection.execute(_KEPT.order_by(t.checkpoint.c.size.desc()).limit(1)).first()
        return None if row is None else _kept(row)

    def at(self, size: int) -> Kept | None:
        """The one over so many entries."""
        with reading(self._engine) as connection:
            row = connection.execute(_KEPT.where(t.checkpoint.c.size == size)).first()
        return None if row is None else _kept(row)

    def keep(self, size: int, note: str, frontier: bytes, at: datetime) -> Kept:
        """Keep a signed checkpoint; return the one that is kept.

        Of two signers at the same size the first wins, and both go on with its bytes.
        """
        with writing(self._engine) as connection:
            row = {"size": size, "note": note, "frontier": frontier, "at": wire(at), "published": None}
            put(connection, Into(t.checkpoint, [row], "keep"))
            connection.execute(  # one from before frontiers were kept
                update(t.checkpoint)
                .where(t.checkpoint.c.size == size, t.checkpoint.c.frontier.is_(None))
                .values(frontier=frontier)
            )
            return _kept(connection.execute(_KEPT.where(t.checkpoint.c.size == size)).one())

    def mark_published(self, size: int, at: datetime) -> None:
        """Its tiles and it are out. A crash before this publishes it again, which changes nothing."""
        with writing(self._engine) as connection:
            connection.execute(
                update(t.checkpoint)
                .where(t.checkpoint.c.size == size, t.checkpoint.c.published.is_(None))
                .values(published=wire(at))
            )

    def published_size(self) -> int:
        """How many entries the newest published checkpoint covers; 0 if there is none."""
        query = select(func.max(t.checkpoint.c.size)).where(t.checkpoint.c.published.is_not(None))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar() or 0

    def add_cosignatures(self, size: int, lines: Sequence[CosignatureLine]) -> None:
        """Keep what witnesses answered. The same answer twice is kept once."""
        if not lines:
            return
        rows = [{"size": size, **msgspec.to_builtins(line)} for line in lines]
        with writing(self._engine) as connection:
            put(connection, Into(t.cosignature, rows, "keep"))

    def add_stamp(self, size: int, stamp: Stamped) -> None:
        """Keep a time-stamp."""
        row = {"size": size, "authority": stamp.authority, "at": wire(stamp.at), "token": stamp.token}
        with writing(self._engine) as connection:
            put(connection, Into(t.stamp, [row], "keep"))

    def stamps(self, size: int) -> list[Stamped]:
        """The time-stamps of one checkpoint, oldest first."""
        query = select(t.stamp).where(t.stamp.c.size == size).order_by(t.stamp.c.at)
        with reading(self._engine) as connection:
            return [_stamped(row) for row in connection.execute(query)]

    def last_stamp(self) -> datetime | None:
        """When the newest time-stamp was made."""
        with reading(self._engine) as connection:
            newest = connection.execute(select(func.max(t.stamp.c.at))).scalar()
        return None if newest is None else parse_instant(newest)

    def cosignatures(self, size: int) -> list[CosignatureLine]:
        """What is known about one checkpoint, newest answers first."""
        query = (
            select(t.cosignature).where(t.cosignature.c.size == size).order_by(t.cosignature.c.time.desc())
        )
        with reading(self._engine) as connection:
            return [_line(row) for row in connection.execute(query)]

    def last_cosigned(self, names: Collection[str]) -> dict[str, tuple[int, CosignatureLine]]:
        """Of each of these witnesses the answer to the largest checkpoint, its newest one, and that size."""
        newest = (
            select(t.cosignature.c.name, func.max(t.cosignature.c.size).label("size"))
            .where(t.cosignature.c.name.in_(names))
            .group_by(t.cosignature.c.name)
            .subquery()
        )
        query = (
            select(t.cosignature)
            .join(newest, and_(t.cosignature.c.name == newest.c.name, t.cosignature.c.size == newest.c.size))
            .order_by(t.cosignature.c.time)
        )
        with reading(self._engine) as connection:
            return {row.name: (row.size, _line(row)) for row in connection.execute(query)}

    def recent(self, *, before: int | None, limit: int) -> list[tuple[int, datetime, tuple[str, ...], int]]:
        """Published ones, largest first: size, when signed, which witnesses cosigned it, how many time-stamps it has."""
        c = t.checkpoint.c
        query = select(c.size, c.at).where(c.published.is_not(None)).order_by(c.size.desc()).limit(limit)
        if before is not None:
            query = query.where(c.size < before)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            sizes = [row.size for row in rows]
            names: dict[int, set[str]] = {}
            for size, name in connection.execute(
                select(t.cosignature.c.size, t.cosignature.c.name).where(t.cosignature.c.size.in_(sizes))
            ):
                names.setdefault(size, set()).add(name)
            counted = (
                select(t.stamp.c.size, func.count()).where(t.stamp.c.size.in_(sizes)).group_by(t.stamp.c.size)
            )
            stamps = {row[0]: row[1] for row in connection.execute(counted)}
        return [
            (row.size, parse_instant(row.at), tuple(sorted(names.get(row.size, ()))), stamps.get(row.size, 0))
            for row in rows
        ]

    def published(self) -> list[Published]:
        """Every published checkpoint, smallest first."""
        with reading(self._engine) as connection:
            kept = connection.execute(
                _KEPT.where(t.checkpoint.c.published.is_not(None)).order_by(t.checkpoint.c.size)
            ).all()
            lines, stamps = dict[int, list[CosignatureLine]](), dict[int, list[Stamped]]()
            for row in connection.execute(select(t.cosignature).order_by(t.cosignature.c.time)):
                lines.setdefault(row.size, []).append(_line(row))
            for row in connection.execute(select(t.stamp).order_by(t.stamp.c.at)):
                stamps.setdefault(row.size, []).append(_stamped(row))
        return [
            Published(
                size=each.size,
                note=with_lines(each.note, [line.line for line in lines.get(each.size, [])]),
                at=each.at,
                cosignatures=tuple(lines.get(each.size, ())),
                stamps=tuple(stamps.get(each.size, ())),
            )
            for each in map(_kept, kept)
        ]


_KEPT = select(t.checkpoint)


def _kept(row: Row[tuple[object, ...]]) -> Kept:
    """A row as it was written; in a damaged database anything can be anywhere."""
    size, note, frontier = row.size, row.note, row.frontier
    try:
        at = parse_instant(row.at)
    except (Invalid, TypeError) as error:
        raise _damaged(size) from error
    if not isinstance(size, int) or not isinstance(note, str):
        raise _damaged(size)
    edge = None if frontier is None else blob(frontier)
    return Kept(size=size, note=note, at=at, frontier=edge, published=row.published is not None)


def _damaged(size: object) -> IntegrityError:
    return IntegrityError(
        f"what is kept of the checkpoint over {size!r:.20} entries is damaged",
        remedy="Nothing is sealed any more. Keep the database as it is, and compare it with a backup.",
    )


def _line(row: Row[tuple[object, ...]]) -> CosignatureLine:
    return CosignatureLine(name=row.name, key_id=row.key_id, time=row.time, line=row.line)


def _stamped(row: Row[tuple[object, ...]]) -> Stamped:
    try:
        return Stamped(authority=row.authority, at=parse_instant(row.at), token=blob(row.token))
    except (Invalid, TypeError) as error:
        raise _damaged(row.size) from error
