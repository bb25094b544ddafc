"""API tokens as rows. What a token is, is in `service.tokens`.

Each row carries a mark over all that it lets somebody do, so that one which foreign SQL wrote or changed lets nobody in
(I11). Against an older row of ours that is put back, as it was before its revocation, the mark says nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import structlog
from sqlalchemy import Engine, select, update

from muniment.core.instants import parse_instant, wire
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.marking import Marker

log = structlog.get_logger("muniment.store")


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    id: str
    hash: bytes
    identity: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    marked: bool = True  # False: it is older than marks, and nobody knows whose it is


class SqlTokens:
    """The table of tokens."""

    def __init__(self, engine: Engine, marker: Marker) -> None:
        """Share the store's engine and marker."""
        self._engine, self._marker = engine, marker

    def add(self, token: TokenRow) -> None:
        """Keep a new one."""
        values: dict[str, Any] = {
            "id": token.id,
            "hash": token.hash,
            "identity": token.identity,
            "scopes": " ".join(token.scopes),
            "expires_at": wire(token.expires_at),
            "revoked_at": None,
        }
        mark = self._marker.of(_marked(values))
        with writing(self._engine) as connection:
            connection.execute(
                t.token.insert().values(**values, created_at=wire(token.created_at), mark=mark)
            )

    def get(self, token_id: str) -> TokenRow | None:
        """One token, if its row is ours."""
        with reading(self._engine) as connection:
            row = connection.execute(select(t.token).where(t.token.c.id == token_id)).one_or_none()
        if row is None:
            return None
        if row.mark is not None and not self._marker.holds(_marked(_said(row)), blob(row.mark)):
            log.critical(
                "a token was written or changed by something else than Muniment; it lets nobody in",
                token=token_id,
                remedy="Find out who can write to the database; a token that was good must be made anew.",
            )
            return None
        return TokenRow(
            id=row.id,
            hash=blob(row.hash),
            identity=row.identity,
            scopes=tuple(row.scopes.split()),
            created_at=parse_instant(row.created_at),
            expires_at=parse_instant(row.expires_at),
            revoked_at=parse_instant(row.revoked_at) if row.revoked_at else None,
            marked=row.mark is not None,
        )

    def revoke(self, token_id: str, at: datetime) -> bool:
        """End a token; return whether there is one. It stays in the table, so that nobody wonders."""
        with writing(self._engine) as connection:
            row = connection.execute(select(t.token).where(t.token.c.id == token_id)).one_or_none()
            if row is None:
                return False
            # marked anew also where the mark was not ours: what is revoked lets nobody in, whoever wrote it
            revoked = _said(row) | {"revoked_at": wire(at)}
            connection.execute(
                update(t.token)
                .where(t.token.c.id == token_id, t.token.c.revoked_at.is_(None))
                .values(revoked_at=wire(at), mark=self._marker.of(_marked(revoked)))
            )
        return True


def _said(row: Any) -> dict[str, Any]:
    """What the mark is over, as it stands in the row."""
    return {
        "id": row.id,
        "hash": blob(row.hash),
        "identity": row.identity,
        "scopes": row.scopes,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def _marked(said: dict[str, Any]) -> bytes:
    """The bytes that are marked. No entry begins like this: entries are JSON objects."""
    names = ("id", "hash", "identity", "scopes", "expires_at", "revoked_at")
    return b"muniment token mark v1\0" + msgspec.json.encode([said[name] for name in names])
