"""Leases: work that is one worker's for a while, under a fence that only ever rises (I19).

A lease is efficiency; the fence is the safety: it is compared in the transaction that records what was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert as PostgreSQLInsert
from sqlalchemy.dialects.sqlite import Insert as SQLiteInsert

from muniment.core.instants import wire
from muniment.ports import Claim, Lease
from muniment.store import tables as t

_FREE = ""  # an instant before every other: nobody holds the lease


def take(connection: Connection, claims: Sequence[Claim], now: datetime) -> dict[tuple[str, str], Lease]:
    """Take leases that are free or over; a lease's fence rises with every holder. By key and holder.

    Two statements however many claims: first everybody tries, then we look who has it.
    """
    if not claims:
        return {}
    wanted = {(claim.key, claim.holder): claim for claim in sorted(claims, key=lambda c: c.key)}
    rows = [
        {
            "key": c.key,
            "holder": c.holder,
            "until": wire(now + timedelta(seconds=c.seconds)),
            "fence": 1,
            "now": wire(now),
        }
        for c in wanted.values()
    ]
    connection.execute(_taking(connection.dialect.name), rows)
    held = connection.execute(_HOLDERS, {"keys": [key for key, _ in wanted]})
    return {
        (row.key, row.holder): Lease(key=row.key, fence=row.fence)
        for row in held
        if (row.key, row.holder) in wanted
    }


@cache
def _taking(dialect: str) -> PostgreSQLInsert | SQLiteInsert:
    insert = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(t.lease).values(
        {name: bindparam(name) for name in ("key", "holder", "until", "fence")}
    )
    return insert.on_conflict_do_update(
        index_elements=["key"],
        set_={"holder": insert.excluded.holder, "until": insert.excluded.until, "fence": t.lease.c.fence + 1},
        where=t.lease.c.until <= bindparam("now"),
    )


def free(connection: Connection, leases: Sequence[Lease]) -> None:
    """Give leases back. The row stays, so that the fence goes on rising."""
    if leases:
        connection.execute(_RELEASE, [{"b_key": lease.key, "b_fence": lease.fence} for lease in leases])


def fences_of(connection: Connection, keys: list[str]) -> dict[str, int]:
    if not keys:
        return {}
    # FOR SHARE (ignored by SQLite, which has one writer): nobody takes a lease over while we record under it
    rows = connection.execute(_FENCES, {"keys": list(set(keys))})
    return {row.key: row.fence for row in rows}


_FENCES = (
    select(t.lease.c.key, t.lease.c.fence)
    .where(t.lease.c.key.in_(bindparam("keys", expanding=True)))
    .with_for_update(read=True)
)
_HOLDERS = select(t.lease.c.key, t.lease.c.holder, t.lease.c.fence).where(
    t.lease.c.key.in_(bindparam("keys", expanding=True))
)
_RELEASE = (
    update(t.lease)
    .where(t.lease.c.key == bindparam("b_key"), t.lease.c.fence == bindparam("b_fence"))
    .values(until=_FREE)
)
