"""API tokens: who holds one, acts as its identity until it is over. A token is shown once, when it is made."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import Invalid, NotFound, Unauthenticated
from muniment.core.instants import wire
from muniment.ports import Authenticated, Scoped
from muniment.service.credentials import Credentials, new_credential
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.store.tokens import SqlTokens, TokenRow

SCOPES: tuple[Scoped, ...] = msgspec.inspect.type_info(Scoped).values  # type: ignore[attr-defined]
LONGEST = timedelta(days=366)

_TOKEN = re.compile(r"mnt_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)


def create(desk: Desk, identity: str, *, lasts: timedelta, scopes: tuple[str, ...] = ()) -> Document:
    """Make a token for an identity. The answer is the only place where it ever stands."""
    holder = desk.caller(identity, "local").identity
    if not timedelta(0) < lasts <= LONGEST:
        raise Invalid("the token would last too long", remedy=f"Ask for at most {LONGEST.days} days.")
    if unknown := set(scopes) - set(SCOPES):
        raise Invalid(f"there is no scope {unknown.pop()!r:.40}", remedy=f"Scopes are {', '.join(SCOPES)}.")
    token_id, hashed, whole = new_credential("mnt", desk.random)
    now = desk.clock.now()
    row = TokenRow(
        id=token_id, hash=hashed, identity=holder.id, scopes=tuple(sorted(set(scopes))), created_at=now,
        expires_at=now + lasts,
    )  # fmt: skip
    SqlTokens(desk.store.engine, desk.store.marker).add(row)
    return {
        "token": whole, "id": token_id, "identity": holder.id, "scopes": list(row.scopes),
        "expires_at": wire(row.expires_at),
    }  # fmt: skip


def revoke(desk: Desk, token: str) -> Document:
    """End a token, named by its id or in full."""
    token_id = found[1] if (found := _TOKEN.fullmatch(token)) else token
    tokens = SqlTokens(desk.store.engine, desk.store.marker)
    if not re.fullmatch("[0-9a-f]{16}", token_id) or not tokens.revoke(token_id, desk.clock.now()):
        raise NotFound(
            "there is no such token", remedy="Name it by the id that `token create` gave, or in full."
        )
    return {"id": token_id, "revoked": True}


class TokenAuthenticator:
    """`ports.Authenticator` for API tokens. Time is looked at on every call."""

    def __init__(self, tokens: SqlTokens) -> None:
        """``tokens`` is where their hashes are."""
        self._tokens = tokens
        self._credentials = Credentials("mnt", lambda token, _: tokens.get(token), _unknown)
        self.remembered, self.familiar = self._credentials.remembered, self._credentials.familiar

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """See `ports.Authenticator`."""
        row = self._credentials.find(credential, now)
        if row is None:
            return None
        if not row.marked:
            raise Unauthenticated(
                "the token was made before Muniment marked tokens as its own, so nobody can tell whose it is",
                remedy=_AGAIN,
                code="unauthenticated.unmarked",
            )
        if row.revoked_at is not None:
            raise Unauthenticated("the token was revoked", remedy=_AGAIN, code="unauthenticated.revoked")
        if row.expires_at <= now:
            raise Unauthenticated("the token is over", remedy=_AGAIN, code="unauthenticated.expired")
        return Authenticated(identity=row.identity, scopes=frozenset(row.scopes))  # type: ignore[arg-type]


_AGAIN = "Ask whoever runs Muniment for a token: `muniment token create`."


def _unknown() -> Unauthenticated:
    return Unauthenticated("the token is not known", remedy=_AGAIN)
