"""API tokens: who holds one, acts as its identity until it is over.

A token is ``mnt_ID_SECRET``. ``ID`` finds its row and is no secret; ``SECRET`` is 256 bits of chance of which only the
SHA-256 is kept: nobody can guess it from there, however fast he hashes. It is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from datetime import datetime, timedelta

import msgspec

from muniment.core.errors import Invalid, NotFound, Unauthenticated
from muniment.core.instants import wire
from muniment.ports import Authenticated, Scoped
from muniment.service.desk import Desk
from muniment.service.documents import Document
from muniment.store.tokens import SqlTokens, TokenRow

SCOPES: tuple[Scoped, ...] = msgspec.inspect.type_info(Scoped).values  # type: ignore[attr-defined]
LONGEST = timedelta(days=366)
#: how long a revoked token may still be taken for good
CACHE_SECONDS = 1.0
#: tokens remembered at once; as many ids that no token has
CACHED = 4096

_TOKEN = re.compile(r"mnt_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)


def create(desk: Desk, identity: str, *, lasts: timedelta, scopes: tuple[str, ...] = ()) -> Document:
    """Make a token for an identity. The answer is the only place where it ever stands."""
    holder = desk.caller(identity, "local").identity
    if not timedelta(0) < lasts <= LONGEST:
        raise Invalid("the token would last too long", remedy=f"Ask for at most {LONGEST.days} days.")
    if unknown := set(scopes) - set(SCOPES):
        raise Invalid(f"there is no scope {unknown.pop()!r:.40}", remedy=f"Scopes are {', '.join(SCOPES)}.")
    token_id, secret = desk.random.bytes(8).hex(), desk.random.bytes(32).hex()
    now = desk.clock.now()
    row = TokenRow(
        id=token_id, hash=_hash(secret), identity=holder.id, scopes=tuple(sorted(set(scopes))), created_at=now,
        expires_at=now + lasts,
    )  # fmt: skip
    SqlTokens(desk.store.engine, desk.store.marker).add(row)
    return {
        "token": f"mnt_{token_id}_{secret}", "id": token_id, "identity": holder.id, "scopes": list(row.scopes),
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
    """`ports.Authenticator` for API tokens. Rows are remembered for a second; time is looked at on every call."""

    def __init__(self, tokens: SqlTokens) -> None:
        """``tokens`` is where their hashes are."""
        self._tokens = tokens
        self._lock = threading.Lock()
        self._known: dict[str, tuple[datetime, TokenRow]] = {}  # by id
        self._missing: dict[str, datetime] = {}

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """See `ports.Authenticator`."""
        found = _TOKEN.fullmatch(credential)
        if found is None:
            return None
        row = self._row(found[1], now)
        # compared also where there is no row, so that the two take the same time
        same = hmac.compare_digest(_hash(found[2]), row.hash if row else bytes(32))
        if row is None or not same:
            raise Unauthenticated("the token is not known", remedy=_AGAIN)
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

    def remembered(self, credential: str, now: datetime) -> bool:
        """Whether `authenticate` would answer without asking the store."""
        found = _TOKEN.fullmatch(credential)
        return found is None or self._fresh(found[1], now) is not None or self._is_missing(found[1], now)

    def familiar(self, credential: str) -> bool:
        """Whether it was a true token when it was last looked at, perhaps long ago: nobody guesses such a one."""
        found = _TOKEN.fullmatch(credential)
        known = self._known.get(found[1]) if found else None
        return found is not None and known is not None and hmac.compare_digest(_hash(found[2]), known[1].hash)

    def _is_missing(self, token_id: str, now: datetime) -> bool:
        at = self._missing.get(token_id)
        return at is not None and timedelta(0) <= now - at < timedelta(seconds=CACHE_SECONDS)

    def _fresh(self, token_id: str, now: datetime) -> TokenRow | None:
        known = self._known.get(token_id)
        if known is None or not timedelta(0) <= now - known[0] < timedelta(seconds=CACHE_SECONDS):
            return None
        return known[1]

    def _row(self, token_id: str, now: datetime) -> TokenRow | None:
        if (fresh := self._fresh(token_id, now)) is not None:
            return fresh
        if self._is_missing(token_id, now):
            return None
        row = self._tokens.get(token_id)
        with self._lock:
            if row is None:
                self._known.pop(token_id, None)
                if len(self._missing) >= CACHED:
                    self._missing.clear()
                self._missing[token_id] = now
                return None
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[token_id] = (now, row)
        return row


_AGAIN = "Ask whoever runs Muniment for a token: `muniment token create`."


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
