"""A store's ledger as something to verify: `evidence.source.Source` over its rows.

Rows are foreign here. Every entry is hashed from its bytes, and the hash that is stored beside it must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from sqlalchemy import Engine, bindparam, select

from muniment.core.errors import MunimentError
from muniment.ledger.errors import BadEntry
from muniment.ledger.merkle import leaf_hash
from muniment.ledger.scan import RANGE, Combined, RangeFound, RangeScan
from muniment.ledger.tiles import TILE
from muniment.store import tables as t
from muniment.store.engine import blob, open_engine, reading, shown
from muniment.store.sequencer import WAITING

_PAGE = 16 * TILE


class StoreSource:
    """One store, at one size. It can be sent to another process, which opens the store by itself."""

    def __init__(self, url: str, size: int) -> None:
        """``url``: with its password, if it has one. ``size``: of the tree to verify."""
        self._url, self.size = url, size

    @property
    def name(self) -> str:
        """What is verified, without secrets."""
        return f"store {shown(self._url)}"

    @cached_property
    def _engine(self) -> Engine:
        return open_engine(self._url)

    def close(self) -> None:
        """Close what this process opened of it."""
        self._engine.dispose()

    def __getstate__(self) -> dict[str, object]:
        return {"_url": self._url, "size": self.size}

    def hash_range(self, start: int, sizes: Sequence[int]) -> RangeFound:
        """Hash the range of entries from ``start``, and compare with the leaf hashes that are stored."""
        scan, count, tile = RangeScan(start, sizes), min(RANGE, self.size - start), list[bytes]()
        fault: str | None = None
        try:
            for index, body, stored in self._leaves(start, start + count):
                at = scan.at + len(tile)
                if index != at:
                    fault = f"leaf {at} is missing: leaf {index} comes in its place"
                    break
                digest = leaf_hash(body)
                if digest != stored and fault is None:
                    fault = f"leaf {index}: the hash that is stored is not that of its entry"
                tile.append(digest)
                if len(tile) == TILE:
                    scan.feed(tile)
                    tile = []
        except MunimentError as error:
            fault = fault or f"leaf {scan.at + len(tile)}: {error.message}"
        if tile:
            scan.feed(tile)
        return scan.found(fault)

    def higher_levels(self, tree: Combined) -> str | None:
        """Rows hold no other hashes."""
        del tree
        return None

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Sealed entries, then those that wait.

        Raises:
            BadEntry: what is stored is not bytes, or cannot be read.
        """
        try:
            count = 0
            for index, body, _ in self._leaves(0, self.size):
                yield index, body
                count = index + 1
            with reading(self._engine) as connection:
                waiting = [
                    *connection.execute(_BEYOND, {"start": self.size}),
                    *connection.execute(WAITING),
                ]
            yield from ((count + at, blob(row.body)) for at, row in enumerate(waiting))
        except MunimentError as error:
            raise BadEntry(error.message) from error

    def _leaves(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        while start < end:
            with reading(self._engine) as connection:
                rows = connection.execute(_LEAVES, {"start": start, "end": end, "limit": _PAGE}).all()
            if not rows:
                return
            for index, digest, body in rows:
                yield index, blob(body if body is not None else b""), blob(digest)
            start = rows[-1][0] + 1


_LEAVES = (
    select(t.leaf.c.idx, t.leaf.c.hash, t.event.c.body)
    .outerjoin(t.event, t.event.c.id == t.leaf.c.event_id)
    .where(t.leaf.c.idx >= bindparam("start"), t.leaf.c.idx < bindparam("end"))
    .order_by(t.leaf.c.idx)
    .limit(bindparam("limit"))
)
_BEYOND = (
    select(t.event.c.body)
    .join(t.leaf, t.leaf.c.event_id == t.event.c.id)
    .where(t.leaf.c.idx >= bindparam("start"))
    .order_by(t.leaf.c.idx)
)
