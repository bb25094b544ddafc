"""Opening a store: file, schema, origin, clock."""

from __future__ import annotations

from sqlalchemy import Engine, select, text

from muniment.core.errors import Misconfigured
from muniment.ledger.merkle import Frontier
from muniment.ports import Clock
from muniment.store import tables as t
from muniment.store.engine import create_file, open_engine, reading, shown, writing
from muniment.store.events import SqlStore
from muniment.store.marking import Marker
from muniment.store.migrations import migrate
from muniment.store.rows import Into, put


def open_store(url: str, origin: str, mark_key: bytes, clock: Clock | None = None) -> SqlStore:
    """Open the store at ``url``, making or migrating it where needed.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``.
        origin: the ledger's name; a store belongs to one ledger for ever.
        mark_key: 32 secret bytes that mark our entries (`marking.Marker`).
        clock: instead of the store's own, in tests.

    Raises:
        Misconfigured: the store belongs to another ledger, or is not durable.
        StoreUnavailable: it cannot be reached, read or written.
    """
    engine = open_engine(url)
    try:
        create_file(url)
        return _opened(engine, url, origin, mark_key, clock)
    except BaseException:
        engine.dispose()
        raise


def _opened(engine: Engine, url: str, origin: str, mark_key: bytes, clock: Clock | None) -> SqlStore:
    migrate(engine)
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            durable = connection.execute(text("SHOW synchronous_commit")).scalar_one()
            if durable == "off":
                raise Misconfigured(
                    "the PostgreSQL store runs with synchronous_commit=off: an acknowledged approval could be lost",
                    remedy="Set synchronous_commit to on, or to remote_apply with a standby.",
                )
        there = connection.execute(select(t.head.c.origin)).scalar()
    if there is None:
        empty = {"id": 1, "origin": origin, "size": 0, "frontier": Frontier().to_bytes()}
        with writing(engine) as connection:  # another node may open it at the same time, for whichever ledger
            put(connection, Into(t.head, [empty], "keep"))
            there = connection.execute(select(t.head.c.origin)).scalar()
    if there != origin:
        raise Misconfigured(
            f"the store {shown(url)} belongs to the ledger {there}, not {origin}",
            remedy="Set [ledger] origin back, or use another store.",
        )
    return SqlStore(engine, origin, Marker(mark_key), clock)
