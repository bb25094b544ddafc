"""Signing in with an identity provider.

1. `begin` sends the browser there, with a sealed note of what was asked, which comes back as a cookie. Nothing is stored,
   so whoever begins a thousand logins fills nothing;
2. `finish` opens the note, has the provider say who came back, finds whose account it is, and begins a session. A crash
   before leaves nothing but, perhaps, the link of the account, which the next login finds.

Where there is no provider, or besides one, `login_links` let somebody in who was given one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
import structlog

from muniment.core.errors import Invalid, NotFound, Refused
from muniment.core.identity import Identity
from muniment.core.instants import parse_instant, wire
from muniment.core.login import FRESH
from muniment.ports import IdentityProvider, SignedOut
from muniment.service.desk import Desk
from muniment.service.devices import Pace
from muniment.service.login_links import open_link
from muniment.service.logins import identity_of
from muniment.service.sessions import Sessions

#: how long somebody may take to sign in
PATIENCE = timedelta(minutes=10)
#: how long ago whoever steps up may have been there: they are asked again, and then decide within `FRESH`
STEP_UP = FRESH / 3

_BACK = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,499}", re.ASCII)

log = structlog.get_logger("muniment.signin")


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the provider, until its answer comes."""

    state: str
    nonce: str
    verifier: str
    level: int | None
    back: str
    until: str


@dataclass(frozen=True, kw_only=True)
class Entered:
    """Somebody who is signed in now."""

    identity: Identity
    credential: str  # for the cookie
    back: str  # where they wanted to go


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """What a process has that people can sign in at."""

    desk: Desk
    sessions: Sessions
    provider: IdentityProvider | None = None
    links: bool = False  # whether `login_links` let people in
    #: the provider's names of groups, and ours that count only while it confirms them
    groups: Mapping[str, str] = field(default_factory=dict)
    #: of programs that wait to be let in
    pace: Pace = field(default_factory=Pace)

    def begin(self, *, back: str, level: int | None) -> tuple[str, str]:
        """Where to send the browser, and the note for its cookie.

        Args:
            back: where to go once signed in: a path here.
            level: least assurance of the login; given, they are asked again, however long they are there already.
        """
        if not is_path(back):
            raise Invalid("return_to is not a path here", remedy="Write it like /v1/whoami.")
        now, chance = self.desk.clock.now(), self.desk.random
        begun = _Begun(
            state=_text(chance.bytes(16)), nonce=_text(chance.bytes(16)), verifier=_text(chance.bytes(32)), level=level,
            back=back, until=wire(now + PATIENCE),
        )  # fmt: skip
        url = self._there.begin(
            state=begun.state,
            nonce=begun.nonce,
            verifier=begun.verifier,
            level=level,
            within=_within(level),
            now=now,
        )
        return url, self._sealed(begun)

    def finish(self, note: str, answer: Mapping[str, str], before: str) -> Entered:
        """Who came back. ``before`` is the credential of the session that this one replaces, if there was one.

        Raises:
            Refused: the answer is to no question of this browser, or the provider, or the directory, says no.
        """
        now = self.desk.clock.now()
        begun = self._opened(note, now)
        if not hmac.compare_digest(begun.state.encode(), answer.get("state", "").encode()):
            raise _stray()
        within = _within(begun.level)
        signed = self._there.finish(
            answer, verifier=begun.verifier, nonce=begun.nonce, within=within, now=now
        )
        if signed.login.level < (begun.level or 0):
            raise Refused(
                f"you signed in with assurance {signed.login.level}, and {begun.level} was asked for",
                remedy="Sign in again, with the stronger way that the identity provider offers.",
                code="refused.login-assurance",
            )
        identity = identity_of(self.desk, signed)
        confirmed = None if signed.groups is None else set(signed.groups)
        without = {
            ours for theirs, ours in self.groups.items() if confirmed is not None and theirs not in confirmed
        }
        credential = self.sessions.begin(identity.id, signed, tuple(sorted(without)), now)
        self.sessions.end(before, now)
        log.info("signed in", who=identity.id, issuer=signed.login.issuer, level=signed.login.level)
        return Entered(identity=identity, credential=credential, back=begun.back)

    def enter(self, token: str, back: str, before: str) -> Entered:
        """Somebody shows the token of a link. ``before`` as in `finish`.

        Raises:
            NotFound: links let nobody in here.
            Refused: the link is not good.
        """
        if not self.links:
            raise NotFound(
                "links let nobody in here",
                remedy="Sign in: /auth/login. An operator can set [server] login_links.",
                code="not-found.sign-in",
            )
        identity, signed = open_link(self.desk, token)
        now = self.desk.clock.now()
        credential = self.sessions.begin(identity.id, signed, (), now)
        self.sessions.end(before, now)
        return Entered(identity=identity, credential=credential, back=back if is_path(back) else "/")

    def leave(self, url: str) -> str | None:
        """Where to sign out at the provider, too; None where there is nothing to do."""
        return self.provider.leave(url, self.desk.clock.now()) if self.provider else None

    @property
    def _there(self) -> IdentityProvider:
        if self.provider is None:
            raise NotFound(
                "no identity provider is configured here",
                remedy="Sign in with a link that whoever runs Muniment makes: `muniment login-link`.",
                code="not-found.sign-in",
            )
        return self.provider

    def signed_out(self, token: str) -> int:
        """Sessions that ended because the provider says so; how many. Raises `Repeated`: this message came before."""
        now = self.desk.clock.now()
        who: SignedOut = self._there.signed_out(token, now)
        ended = self.sessions.end_all(who, now)
        log.info("signed out by the identity provider", issuer=who.issuer, subject=who.subject, ended=ended)
        return ended

    def _sealed(self, begun: _Begun) -> str:
        body = msgspec.json.encode(begun)
        return f"{_text(body)}.{_text(self.desk.store.marker.of(_SEAL + body))}"

    def _opened(self, note: str, now: datetime) -> _Begun:
        try:
            body, mark = (base64.urlsafe_b64decode(part + "==") for part in note.split("."))
        except (ValueError, binascii.Error) as error:
            raise _stray() from error
        if not self.desk.store.marker.holds(_SEAL + body, mark):
            raise _stray()
        begun = msgspec.json.decode(body, type=_Begun)
        if parse_instant(begun.until) <= now:
            raise _stray()
        return begun


def is_path(back: str) -> bool:
    """Whether it leads nowhere but here."""
    return bool(_BACK.fullmatch(back))


#: no entry begins like this: entries are JSON objects
_SEAL = b"muniment sign-in v1\0"


def _within(level: int | None) -> timedelta | None:
    return None if level is None else STEP_UP


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _stray() -> Refused:
    """Another browser's answer, an old one, or one that somebody made up: login CSRF looks like this."""
    return Refused(
        "this browser did not ask to sign in, or too long ago",
        remedy="Sign in from the beginning: /auth/login.",
        code="refused.login-state",
    )
