"""API tokens as rows. What a token is, is in `service.tokens`."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Engine, select, update

from muniment.core.instants import parse_instant, wire
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    id: str
    hash: bytes
    identity: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class SqlTokens:
    """The table of tokens."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def add(self, token: TokenRow) -> None:
        """Keep a new one."""
        with writing(self._engine) as connection:
            connection.execute(
                t.token.insert().values(
                    id=token.id,
                    hash=token.hash,
                    identity=token.identity,
                    scopes=" ".join(token.scopes),
                    created_at=wire(token.created_at),
                    expires_at=wire(token.expires_at),
                )
            )

    def get(self, token_id: str) -> TokenRow | None:
        """One token."""
        with reading(self._engine) as connection:
            row = connection.execute(select(t.token).where(t.token.c.id == token_id)).one_or_none()
        if row is None:
            return None
        return TokenRow(
            id=row.id,
            hash=blob(row.hash),
            identity=row.identity,
            scopes=tuple(row.scopes.split()),
            created_at=parse_instant(row.created_at),
            expires_at=parse_instant(row.expires_at),
            revoked_at=parse_instant(row.revoked_at) if row.revoked_at else None,
        )

    def revoke(self, token_id: str, at: datetime) -> bool:
        """End a token; return whether there is one. It stays in the table, so that nobody wonders."""
        query = (
            update(t.token)
            .where(t.token.c.id == token_id, t.token.c.revoked_at.is_(None))
            .values(revoked_at=wire(at))
        )
        with writing(self._engine) as connection:
            if connection.execute(query).rowcount:
                return True
        return self.get(token_id) is not None
