"""What a serving process has, for all requests together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from muniment.api import openapi, pages
from muniment.api.load import LOOKING, RESERVED, Load
from muniment.api.numbers import Numbers, Watch
from muniment.api.peers import Network
from muniment.api.routes import Call, Plain, Route
from muniment.api.stream import events
from muniment.api.table import TABLE
from muniment.core.errors import MunimentError, Unauthenticated
from muniment.ports import Authenticated, Authenticator
from muniment.service.backtests import Backtests
from muniment.service.desk import Caller, Desk
from muniment.service.holding import Holdings
from muniment.service.outward import Outward
from muniment.service.signing_in import SignIn
from muniment.service.tokens import TokenAuthenticator
from muniment.store.tokens import SqlTokens

VIA = "api"
#: what to do for whoever is not known
HOW = "Send Authorization: Bearer with a token that `muniment token create` made, or sign in: /auth/login."


@dataclass(kw_only=True)
class Office:
    """What a serving process has: the desk, who may call, how much is taken on, what is held."""

    desk: Desk
    url: str = "http://127.0.0.1:8642"  # as clients reach it
    public_ledger: bool = False
    certificates: bytes = b""  # of time-stamping authorities, for evidence
    rate: int = 200
    at_once: int = 64
    proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For counts
    scim: Any = None  # `service.scim.Scim`, where identities come by it
    access_requests: bool = False  # the draft of AuthZEN
    policies: Path | None = None  # the folder that changes are proposed from
    outward: Outward = field(default_factory=Outward)  # whom we tell, and whom we hear
    authenticators: tuple[Authenticator, ...] = ()
    signin: SignIn | None = None  # people sign in with an identity provider
    site: tuple[Route, ...] = ()  # what a person's browser asks for, beside the API
    problem_page: Callable[[MunimentError], Plain] = pages.problem_page  # how a browser is told of an error
    load: Load = field(init=False)
    holdings: Holdings = field(init=False)
    numbers: Numbers = field(init=False)
    described: dict[str, Any] = field(init=False)
    backtests: Backtests = field(init=False)
    threads: ThreadPoolExecutor = field(init=False)
    urgent: ThreadPoolExecutor = field(init=False)  # for what takes access away, by callers who are known
    lookups: ThreadPoolExecutor = field(init=False)  # of tokens that anybody may have made up
    visitors: ThreadPoolExecutor = field(
        init=False
    )  # of people who sign in: an identity provider may not answer
    followers: ThreadPoolExecutor = field(init=False)
    streams: int = 0
    closing: bool = False
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        """Build what has no life of its own yet."""
        self.load = Load(rate=self.rate, at_once=self.at_once)
        self.holdings = Holdings(self.desk)
        self.numbers = Numbers(self.desk, self.load, self.holdings)
        self.described = openapi.document(TABLE, self.url)
        self.backtests = Backtests(self.desk)
        self._watch = Watch(self.desk, self.load)
        self.threads = ThreadPoolExecutor(self.load.threads, "muniment-api")
        self.urgent = ThreadPoolExecutor(RESERVED, "muniment-urgent")
        self.lookups = ThreadPoolExecutor(LOOKING, "muniment-lookup")
        self.visitors = ThreadPoolExecutor(LOOKING, "muniment-signin")
        self.followers = ThreadPoolExecutor(4, "muniment-stream")
        if not self.authenticators:
            self.authenticators = (TokenAuthenticator(SqlTokens(self.desk.store)),)

    def open(self) -> None:
        """Fill the index, begin to watch."""
        self.holdings.start()
        self._watch.start()

    def close(self) -> None:
        """Let what runs end."""
        self.closing = True
        self._watch.stop()
        self.holdings.stop()
        self.backtests.stop()
        for threads in (self.lookups, self.visitors, self.threads, self.urgent):
            threads.shutdown(wait=True)
        self.followers.shutdown(wait=False)

    def threads_for(self, route: Route) -> ThreadPoolExecutor:
        """Where a route runs: what takes access away waits for nothing else (I40), and nothing for strangers."""
        if route.scope is None:
            return self.visitors
        return self.urgent if route.urgent else self.threads

    # ── who calls ──

    def known(
        self, credential: str, ways: tuple[Authenticator, ...] | None = None
    ) -> tuple[Caller, Authenticated]:
        """Who presents a credential, in one of these ways; None: as a bearer.

        Raises:
            Unauthenticated: nobody, or somebody the directory does not know or knows as deactivated.
        """
        now = self.desk.clock.now()
        for authenticator in self.authenticators if ways is None else ways:
            found = authenticator.authenticate(credential, now)
            if found is not None:
                identity = self.desk.directory.get(found.identity)
                if identity is None or not identity.active:
                    raise Unauthenticated(
                        "whose token this is, is not active any more", remedy="An operator can see to it."
                    )
                if found.without:
                    counted = tuple(group for group in identity.groups if group not in found.without)
                    identity = msgspec.structs.replace(identity, groups=counted)
                return Caller(identity=identity, via=VIA, login=found.login), found
        raise Unauthenticated("the credential is of no known kind", remedy=HOW)

    def follow(self, call: Call) -> Any:
        """A client's stream; over when its token or session is, or when we close. It keeps no session from idling."""
        credential, start = call.raw.decode(), call.key
        ways = (self.signin.sessions.unused,) if self.signin and call.caller.login else None

        def caller() -> Caller:
            return self.known(credential, ways=ways)[0]

        async def counted() -> Any:
            self.streams += 1
            try:
                sound = start and start.isascii() and start.isdigit() and len(start) < 16
                begin = int(start) + 1 if start and sound else None
                async for event in events(self.desk, caller, begin, self.followers, lambda: self.closing):
                    yield event
            finally:
                self.streams -= 1

        return counted()
