"""Campaigns to be listed, and the lines of their items, beside the ledger that has the lists' digests."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Engine, insert, select

from muniment.core.campaign import Status
from muniment.core.errors import IntegrityError
from muniment.core.instants import wire
from muniment.store import tables as t
from muniment.store.engine import blob, folded, reading, writing
from muniment.store.inventories import PART
from muniment.store.projecting import CAMPAIGN


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign as lists show it."""

    name: str
    version: int
    status: Status
    opened_by: str
    opened_at: str
    due_at: str
    items: int
    undecided: int
    kept: int
    revoked: int
    changed: int
    unsettled: int
    signed_by: str | None
    ended_at: str | None


class SqlCampaigns:
    """The two tables. What is read back counts only if the ledger says the same."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def keep(self, digest: str, lines: Sequence[bytes]) -> None:
        """Write the lines of a list, before a campaign over it is recorded. They are named by what they are."""
        c = t.campaign_part.c
        with writing(self._engine) as connection:
            known = set(connection.execute(select(c.part).where(c.list == digest)).scalars())
            for part, start in enumerate(range(0, len(lines), PART)):
                if part not in known:
                    body = zlib.compress(b"".join(line + b"\n" for line in lines[start : start + PART]), 1)
                    connection.execute(insert(t.campaign_part).values(list=digest, part=part, body=body))

    def lines(self, digest: str) -> Iterator[bytes]:
        """The lines of a list in their order. Raises `IntegrityError` for rows that are damaged."""
        c = t.campaign_part.c
        with reading(self._engine) as connection:
            bodies = (
                connection.execute(select(c.body).where(c.list == digest).order_by(c.part)).scalars().all()
            )
        for body in bodies:
            try:
                yield from zlib.decompress(blob(body)).splitlines()
            except zlib.error as error:
                raise IntegrityError(
                    f"the items of the list {digest} are damaged",
                    remedy="Keep the database as it is, and restore a backup beside it.",
                ) from error

    def page(self, *, statuses: Collection[Status] = (), after: str = "", limit: int = 100) -> list[Listed]:
        """Those behind ``after``, by their names."""
        c = t.campaign.c
        query = select(c.state).where(c.stream > CAMPAIGN + after)
        if statuses:
            query = query.where(c.status.in_(list(statuses)))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(c.stream).limit(limit)).scalars()
            return [folded(_decode, blob(state)) for state in rows]

    def due(self, until: datetime) -> list[str]:
        """Names of those that a controller must look at by then."""
        c = t.campaign.c
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(c.stream).where(c.due_at <= wire(until)).order_by(c.due_at, c.stream)
            ).scalars()
            return [stream.removeprefix(CAMPAIGN) for stream in rows]


_decode = msgspec.json.Decoder(Listed).decode
