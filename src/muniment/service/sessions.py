"""Sessions of people who signed in: begun by a login, over when idle, when their time is up, and when somebody ends them.

The cookie is the only place where a session's secret stands. What shows that a request is the page's own and not
another site's (against CSRF) is derived from it, so that nobody who has not seen the session can make one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from muniment.core.errors import Unauthenticated
from muniment.core.identity import IdentityId
from muniment.core.login import Login
from muniment.ports import Authenticated, Authenticator, Random, SignedIn, SignedOut
from muniment.service.credentials import Credentials, new_credential
from muniment.store.sessions import SessionRow, SqlSessions

#: how exactly it is known when a session was used last
SEEN_EVERY = timedelta(minutes=1)


class Sessions:
    """`ports.Authenticator` for sessions, with their beginning and end. Safe for use by several threads."""

    def __init__(self, rows: SqlSessions, random: Random, *, idle: timedelta, longest: timedelta) -> None:
        """``idle``: without use a session ends after so long; ``longest``: with use, too."""
        self._rows, self._random, self._idle, self._longest = rows, random, idle, longest
        self._credentials = Credentials("mns", lambda session, _: rows.get(session), _unknown)
        self.remembered, self.familiar = self._credentials.remembered, self._credentials.familiar

    @property
    def longest(self) -> timedelta:
        """After which a session is over, whatever happens."""
        return self._longest

    def begin(self, identity: IdentityId, signed: SignedIn, without: tuple[str, ...], now: datetime) -> str:
        """A new session. The answer is for the cookie, and stands nowhere else."""
        made, hashed, whole = new_credential("mns", self._random)
        self._rows.add(
            SessionRow(
                id=made, hash=hashed, identity=identity, login=signed.login, sid=signed.session, without=without,
                created_at=now, seen_at=now, expires_at=now + self._longest,
            )
        )  # fmt: skip
        return whole

    @property
    def unused(self) -> Authenticator:
        """The same for what a page does by itself, without its person: it does not count as use."""
        return _Unused(self)

    def authenticate(self, credential: str, now: datetime, *, used: bool = True) -> Authenticated | None:
        """See `ports.Authenticator`."""
        remembered = self.remembered(credential, now)
        row = self._credentials.find(credential, now)
        if row is None:
            return None
        if row.ended_at is not None:
            raise Unauthenticated("the session was ended", remedy=_AGAIN, code="unauthenticated.revoked")
        if row.expires_at <= now or now - row.seen_at >= self._idle:
            raise Unauthenticated("the session is over", remedy=_AGAIN, code="unauthenticated.expired")
        if used and not remembered and now - row.seen_at >= SEEN_EVERY:
            self._rows.see(row, now)
        return Authenticated(identity=row.identity, login=row.login, without=frozenset(row.without))

    def stepped_up(self, credential: str, login: Login, now: datetime) -> str:
        """A new session in place of this one, with another login. It ends when this one would have."""
        row = self._credentials.find(credential, now)
        if row is None or row.ended_at is not None:
            raise _unknown()
        made, hashed, whole = new_credential("mns", self._random)
        self._rows.add(replace(row, id=made, hash=hashed, login=login, seen_at=now))
        self.end(credential, now)
        return whole

    def end(self, credential: str, now: datetime) -> None:
        """End one, if it is one."""
        if found := self._credentials.pattern.fullmatch(credential):
            self._forget(self._rows.end(found[1], now))

    def end_all(self, who: SignedOut, now: datetime) -> int:
        """End those of an account of a provider; how many. Raises `Repeated`: this message came before."""
        return self._forget(self._rows.end_all(who, now))

    def _forget(self, ended: list[str]) -> int:
        for each in ended:
            self._credentials.forget(each)
        return len(ended)


@dataclass(frozen=True)
class _Unused:
    sessions: Sessions

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """See `ports.Authenticator`."""
        return self.sessions.authenticate(credential, now, used=False)


def csrf_token(credential: str) -> str:
    """What a page of ours sends with every change it asks for, and no other site can know."""
    return hmac.digest(credential.encode(), b"muniment csrf v1", "sha256").hex()


_AGAIN = "Sign in again: /auth/login."


def _unknown() -> Unauthenticated:
    return Unauthenticated("the session is not known", remedy=_AGAIN)
