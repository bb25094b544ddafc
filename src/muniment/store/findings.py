"""Findings of drift, to be looked for. What they are is in their entries; this is the read model."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Engine, select

from muniment.core.drift import Drift, Status
from muniment.store import tables as t
from muniment.store.engine import blob, folded, reading
from muniment.store.projecting import DRIFT

#: rows read at once
CHUNK = 500
#: statuses of findings that are not over
UNRESOLVED: tuple[Status, ...] = ("open", "explained", "accepted")

_decode = msgspec.json.Decoder(Drift).decode


class SqlFindings:
    """The table of drift."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def page(
        self,
        *,
        targets: Collection[str] | None,
        statuses: Collection[Status],
        after: str = "",
        limit: int = CHUNK,
    ) -> list[Drift]:
        """Those behind ``after``, by their names; of all targets, if none are given."""
        c = t.drift.c
        query = select(c.state).where(c.status.in_(list(statuses)), c.stream > DRIFT + after)
        if targets is not None:
            query = query.where(c.target.in_(list(targets)))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(c.stream).limit(limit)).scalars()
            return [folded(_decode, blob(state)) for state in rows]

    def unresolved(self, target: str) -> dict[str, Drift]:
        """All of a target that are not over, by their names."""
        found: dict[str, Drift] = {}
        page = self.page(targets=[target], statuses=UNRESOLVED)
        while page:
            found |= {each.id: each for each in page}
            page = self.page(targets=[target], statuses=UNRESOLVED, after=page[-1].id)
        return found
