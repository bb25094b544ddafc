"""The lines of inventories, beside the ledger that has their digests. Of each target the newest ones are kept."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Engine, delete, insert, select

from muniment.core.errors import IntegrityError
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing

#: lines in one row, about a megabyte before it is deflated
PART = 8192


class SqlInventories:
    """The table of parts. What is read back counts only if its digest is the ledger's."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def keep(self, target: str, inventory: str, lines: Sequence[bytes]) -> None:
        """Write the lines of a new inventory, before it is recorded. A crash in between leaves rows that `forget` removes."""
        for part, start in enumerate(range(0, len(lines), PART)):
            body = zlib.compress(b"".join(line + b"\n" for line in lines[start : start + PART]), 1)
            row = {"inventory": inventory, "part": part, "target": target, "body": body}
            with writing(self._engine) as connection:
                connection.execute(insert(t.inventory_part).values(**row))

    def lines(self, inventory: str) -> Iterator[bytes]:
        """Its lines in their order; none if they are kept no more. Raises `IntegrityError` for rows that are damaged."""
        c, part = t.inventory_part.c, 0
        while True:
            with reading(self._engine) as connection:
                query = select(c.body).where(c.inventory == inventory, c.part == part)
                body = connection.execute(query).scalar()
            if body is None:
                return
            try:
                yield from zlib.decompress(blob(body)).splitlines()
            except zlib.error as error:
                raise IntegrityError(
                    f"the lines of {inventory} are damaged", remedy="Take another inventory of the target."
                ) from error
            part += 1

    def kept(self, target: str) -> set[str]:
        """The inventories of a target whose lines are there."""
        c = t.inventory_part.c
        with reading(self._engine) as connection:
            return set(connection.execute(select(c.inventory).where(c.target == target).distinct()).scalars())

    def forget(self, target: str, but: Collection[str]) -> None:
        """Delete the lines of all inventories of a target but these."""
        c = t.inventory_part.c
        with writing(self._engine) as connection:
            connection.execute(
                delete(t.inventory_part).where(c.target == target, c.inventory.not_in(list(but)))
            )
