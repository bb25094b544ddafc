"""Who calls, may they call this, and did they mean to: what every request is asked before it is read."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from muniment.api import signin
from muniment.api.office import HOW, VIA, Office
from muniment.api.routes import APART, Route
from muniment.core.errors import Refused, Unauthenticated
from muniment.core.identity import SYSTEM, Identity
from muniment.ports import Authenticated, Authenticator
from muniment.service.desk import Caller
from muniment.service.sessions import csrf_token
from muniment.tracing import in_context

A = TypeVar("A")
T = TypeVar("T")

_NOBODY = Caller(identity=Identity(id=SYSTEM, roles=()), via=VIA)


class Sent:
    """The few headers that count. Litestar's own mapping costs more than all the rest of a check."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """``raw`` as ASGI gives it, names in lower case."""
        self._found = dict(raw)

    def get(self, name: bytes) -> str | None:
        """A header, or None."""
        value = self._found.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def credential(self) -> str:
        """What is sent as a bearer."""
        scheme, _, credential = (self.get(b"authorization") or "").partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a request shows of who sends it: a bearer's credential, or else the cookie of a session."""

    credential: str
    ways: tuple[Authenticator, ...]
    session: bool
    cookies: Mapping[str, str]

    @classmethod
    def of(cls, office: Office, sent: Sent) -> Shown:
        """A bearer's credential counts before a cookie: nobody sends one by accident."""
        cookies = signin.cookies_of(sent.get(b"cookie"))
        cookie = cookies.get(signin.COOKIE, "")
        session = office.signin is not None and bool(cookie) and sent.get(b"authorization") is None
        ways = (office.signin.sessions,) if office.signin and session else office.authenticators
        return cls(
            credential=cookie if session else sent.credential, ways=ways, session=session, cookies=cookies
        )


async def admit(office: Office, route: Route, shown: Shown) -> tuple[Caller, Authenticated]:
    """Who calls, if they may call this."""
    if route.scope is None or (office.public_ledger and route.path.startswith("/ledger/")):
        return _NOBODY, Authenticated(identity=SYSTEM)
    credential, ways = shown.credential, shown.ways
    if not credential:
        raise Unauthenticated("nobody says who calls", remedy=HOW)
    known = partial(office.known, ways=ways)
    now = office.desk.clock.now()
    if all(getattr(each, "remembered", _never)(credential, now) for each in ways):
        caller, proof = known(credential)
    elif any(getattr(each, "familiar", _never)(credential) for each in ways):
        caller, proof = await in_thread(office.threads_for(route), known, credential)
    else:
        with office.load.look_up():
            # whoever issued a JWT may not answer; nobody else waits for that
            threads = office.visitors if "." in credential else office.lookups
            caller, proof = await in_thread(threads, known, credential)
    # programs ask the API: a page's forms would have nothing to be bound to
    if route.browser and not shown.session:
        raise signin.no_session()
    if (proof.scopes or route.scope in APART) and route.scope not in proof.scopes:
        raise Refused(
            f"the token is not good for this: it lacks the scope {route.scope}",
            remedy=f"Make one with --scope {route.scope}.",
            code="refused.scope",
        )
    # a token that was made for just this stands for the role
    if (
        route.roles
        and not route.roles & set(caller.identity.roles)
        and not (route.scope in {"ledger", "metrics"} and route.scope in proof.scopes)
    ):
        raise Refused(
            f"this is for the role {' or '.join(sorted(route.roles))}",
            remedy="Ask somebody who has it.",
            code="refused.role",
        )
    return caller, proof


def require_ours(office: Office, route: Route, sent: Sent, credential: str, raw: bytes) -> None:
    """A change that came with a cookie: a page of ours asks for it, as the browser says, and as only it can show."""
    origin = signin.same_origin(office.url, sent.get(b"origin"), sent.get(b"sec-fetch-site"))
    given = sent.get(b"x-csrf-token") or ""
    if route.form and not given:
        given = dict(parse_qsl(raw.decode("latin-1"))).get("csrf", "")
    if not origin or not hmac.compare_digest(given.encode(), csrf_token(credential).encode()):
        raise Refused(
            "the request does not show that a page of this server asks for it",
            remedy="Send X-CSRF-Token with what GET /auth/session says as csrf, from a page of this server.",
            code="refused.csrf",
        )


async def in_thread(threads: ThreadPoolExecutor, run: Callable[[A], T], given: A) -> T:
    """Run something that reads the store, off the event loop."""
    return await asyncio.get_running_loop().run_in_executor(threads, in_context(run), given)


def _never(*_: Any) -> bool:
    return False
