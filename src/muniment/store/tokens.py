"""API tokens: each row with what the ledger says of it, in one question. What a token is, is in `service.tokens`.

The row has the hash, which the ledger must not; the ledger has who made the token and whether it was revoked, which no
older row can take back. A token is good where the two agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
import structlog
from sqlalchemy import bindparam, literal, select

from muniment.core.errors import IntegrityError
from muniment.core.events import TokenMade, TokenRevoked
from muniment.core.instants import parse_instant, wire
from muniment.ports import Stream, TokenRow
from muniment.store import tables as t
from muniment.store.engine import reading, writing
from muniment.store.events import SqlStore
from muniment.store.token_rows import TOKEN, Mark, end_row, read_row

log = structlog.get_logger("muniment.store")

#: tokens looked at together
CHUNK = 200


class KnownToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token as its row and the ledger have it."""

    row: TokenRow
    mark: Mark
    stream: Stream
    made: TokenMade | None = None
    revoked_at: datetime | None = None  # by the ledger

    @property
    def fault(self) -> str | None:
        """Why it lets nobody in, whatever its row says."""
        if self.mark == "foreign":
            return "a token was written or changed by something else than Muniment"
        if self.row.revoked_at is not None:
            return None
        if self.revoked_at is not None:
            return "the row of a revoked token was put back as it was before"
        if self.mark == "ours" and not self._as_made():
            return "a token has another row than the ledger says was made"
        return None

    def _as_made(self) -> bool:
        made = self.made
        return made is not None and (made.identity, made.scopes, made.expires_at) == (
            self.row.identity, self.row.scopes, wire(self.row.expires_at),
        )  # fmt: skip


class SqlTokens:
    """The table of tokens, beside the ledger's entries."""

    def __init__(self, store: SqlStore) -> None:
        """Share the store's engine and marker."""
        self._store = store

    def get(self, token_id: str) -> TokenRow | None:
        """One token, if its row is ours and is what the ledger says; as revoked, if either says so."""
        known = self.find(token_id)
        if known is None:
            return None
        if known.fault is not None:
            log.critical(
                "a token lets nobody in, for what the database holds of it is not what Muniment wrote",
                token=token_id,
                fault=known.fault,
                remedy="Find out who can write to the database; a token that was good must be made anew.",
            )
        if known.revoked_at is not None and known.mark != "foreign":
            return msgspec.structs.replace(known.row, revoked_at=known.row.revoked_at or known.revoked_at)
        return None if known.fault is not None else known.row

    def find(self, token_id: str) -> KnownToken | None:
        """One token as it is, good or not."""
        with reading(self._store.engine) as connection:
            rows = connection.execute(_ONE, {"id": token_id}).all()
        return self._known(token_id, rows) if rows else None

    def end(self, token_id: str, at: datetime) -> bool:
        """Write into the row alone that a token is over; return whether there is one. It stays, so that nobody wonders."""
        with writing(self._store.engine) as connection:
            return end_row(connection, self._store.marker, token_id, at)

    def faults(self) -> Iterator[str]:
        """What is wrong with rows that would otherwise let somebody in."""
        last = ""
        while True:
            with reading(self._store.engine) as connection:
                rows = connection.execute(_BEHIND, {"id": last, "most": CHUNK}).all()
            for token_id, mine in groupby(rows, key=lambda row: str(row.token_id)):
                last = token_id
                known = self._known(token_id, list(mine))
                if known.fault is not None and known.row.revoked_at is None:
                    yield f"{known.fault}: {token_id}"
            if not rows:
                return

    def _known(self, token_id: str, rows: Sequence[Any]) -> KnownToken:
        row, mark = read_row(rows[0], self._store.marker)
        stream = Stream(id=f"{TOKEN}{token_id}", version=0, head=None)
        try:
            stream, recorded = self._store.checked(stream, [each for each in rows if each.body is not None])
        except IntegrityError:
            return KnownToken(row=row, mark="foreign", stream=stream)
        made: TokenMade | None = None
        revoked: datetime | None = None
        for each in recorded:
            if isinstance(each.event, TokenMade):
                made = each.event
            elif isinstance(each.event, TokenRevoked):
                revoked = parse_instant(each.at)
        return KnownToken(row=row, mark=mark, stream=stream, made=made, revoked_at=revoked)


_ROW = (
    *(column.label(f"token_{column.name}") for column in t.token.columns),
    t.event.c.seq, t.event.c.body, t.event.c.mark,
)  # fmt: skip
_BOTH = t.token.outerjoin(t.event, t.event.c.stream == literal(TOKEN) + t.token.c.id)
_ONE = select(*_ROW).select_from(_BOTH).where(t.token.c.id == bindparam("id")).order_by(t.event.c.seq)
_SOME = (
    select(t.token.c.id).where(t.token.c.id > bindparam("id")).order_by(t.token.c.id).limit(bindparam("most"))
)
_BEHIND = (
    select(*_ROW).select_from(_BOTH).where(t.token.c.id.in_(_SOME)).order_by(t.token.c.id, t.event.c.seq)
)
