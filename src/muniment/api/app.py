"""The application: the table of routes on Litestar, and the one gate that every request passes.

    limits → who calls → may they call this → body → handler → answer or problem

Litestar routes, reads bodies up to a limit, streams and serves the lifecycle; what a route means stands in its table.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
import structlog
from litestar import HttpMethod, Litestar, Request, Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import ServerSentEvent

from muniment.api import (
    access,
    access_requests,
    deliveries,
    devices,
    disablements,
    estate,
    findings,
    governing,
    health,
    inventories,
    ledger,
    openapi,
    pages,
    passkeys,
    problems,
    scim,
    signals,
    signin,
    tickets,
)
from muniment.api.dialects import PLAIN, Dialect, dialect_at
from muniment.api.load import LOOKING, RESERVED, Load
from muniment.api.numbers import Numbers, Watch
from muniment.api.routes import APART, MAX_BODY, Call, Plain, Route, Routes
from muniment.api.stream import events
from muniment.core.errors import Busy, MunimentError, NotFound, Refused, Unauthenticated
from muniment.core.identity import SYSTEM, Identity
from muniment.ports import Authenticated, Authenticator
from muniment.service import signing_in
from muniment.service.desk import Caller, Desk
from muniment.service.holding import Holdings
from muniment.service.outward import Outward
from muniment.service.sessions import csrf_token
from muniment.service.signing_in import SignIn
from muniment.service.tokens import TokenAuthenticator
from muniment.store.tokens import SqlTokens
from muniment.tracing import in_context, span

#: within which a body must be there
BODY_SECONDS = 10.0
#: streams open at once
MAX_STREAMS = 256
VIA = "api"

A = TypeVar("A")
T = TypeVar("T")

log = structlog.get_logger("muniment.api")

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_NOBODY = Caller(identity=Identity(id=SYSTEM, roles=()), via=VIA)

root = Routes("operation")


@root.get("/v1/stream", answer="text/event-stream", quick=True)
def stream(call: Call) -> ServerSentEvent:
    """Follow what happens, as server-sent events in the ledger's order. Goes on after ``Last-Event-ID``."""
    office: Office = call.office
    if office.streams >= MAX_STREAMS:
        raise Busy("too many streams are open", remedy="Ask again later.")
    return ServerSentEvent(office.follow(call), headers={"X-Accel-Buffering": "no"})


@root.get("/openapi.json", answer=dict[str, Any], scope=None, quick=True)
def describe_api(call: Call) -> dict[str, Any]:
    """Get the OpenAPI 3.1 document."""
    described: dict[str, Any] = call.office.described
    return described


#: everything that can be called
TABLE: tuple[Route, ...] = tuple(chain(
    tickets.routes, governing.routes, estate.routes, inventories.routes, findings.routes, ledger.routes, access.routes, access_requests.routes, scim.routes,
    signals.routes, disablements.routes, deliveries.routes, signin.routes, devices.routes, passkeys.routes, root, health.routes,
))  # fmt: skip


@dataclass(kw_only=True)
class Office:
    """What a serving process has: the desk, who may call, how much is taken on, what is held."""

    desk: Desk
    url: str = "http://127.0.0.1:8642"  # as clients reach it
    public_ledger: bool = False
    certificates: bytes = b""  # of time-stamping authorities, for evidence
    rate: int = 200
    at_once: int = 64
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
        raise Unauthenticated("the credential is of no known kind", remedy=_HOW)

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


_PROCESS = uuid.uuid4().hex[:16]
_numbers = count()


def _new_id() -> str:
    """Of a request: unique, and no secret."""
    return f"{_PROCESS}-{next(_numbers):x}"


_HOW = "Send Authorization: Bearer with a token that `muniment token create` made, or sign in: /auth/login."


def application(office: Office) -> Litestar:
    """The ASGI application."""
    secure = office.url.startswith("https://")
    table = (*TABLE, *office.site)

    async def close() -> None:
        office.closing = True
        await asyncio.get_running_loop().run_in_executor(None, office.close)

    return Litestar(
        route_handlers=[
            _handler(office, table, path, secure) for path in dict.fromkeys(r.path for r in table)
        ],
        openapi_config=None,
        request_max_body_size=MAX_BODY,
        exception_handlers={
            HTTPException: partial(_unrouted, office, secure),
            Exception: partial(_unrouted, office, secure),
        },
        on_startup=[office.open],
        on_shutdown=[close],
        logging_config=None,
    )


def _handler(office: Office, table: tuple[Route, ...], path: str, secure: bool) -> HTTPRouteHandler:
    """All methods of a path, so that Litestar answers OPTIONS for all of them, too."""
    routes = {str(route.method): route for route in table if route.path == path}
    largest = max(route.largest for route in routes.values())

    async def answer(request: Request[Any, Any, Any]) -> Response[Any]:
        return await _answer(office, routes[request.method], request, secure)

    named = re.sub(r"{(\w+)}", r"{\1:str}", path)
    return HTTPRouteHandler(
        named, http_method=[HttpMethod(name) for name in routes], status_code=HTTPStatus.OK, request_max_body_size=largest
    )(answer)  # fmt: skip


async def _answer(
    office: Office, route: Route, request: Request[Any, Any, Any], secure: bool
) -> Response[Any]:
    with span(
        f"{route.method} {route.path}", {"http.request.method": route.method, "http.route": route.path}
    ) as note:
        response = await _answered(office, route, request, secure)
        note("http.response.status_code", int(response.status_code or 0))
        return response


async def _answered(
    office: Office, route: Route, request: Request[Any, Any, Any], secure: bool
) -> Response[Any]:
    began = time.perf_counter()
    sent = Sent(request.scope["headers"])
    given = sent.get(b"x-request-id")
    request_id = given if given and _REQUEST_ID.fullmatch(given) else _new_id()
    who = ""
    page = office.problem_page if route.browser and "text/html" in (sent.get(b"accept") or "") else None
    try:
        shown = Shown.of(office, sent)
        caller, proof = await _admit(office, route, shown)
        who = caller.identity.id
        with office.load.one(route):
            office.load.count(who, route)
            raw = await _body(request) if route.method != "GET" else shown.credential.encode()
            if shown.session and route.method != "GET" and route.scope is not None:
                _require_ours(office, route, sent, shown.credential, raw)
            call = Call(
                route=route,
                desk=office.desk,
                caller=caller,
                scopes=proof.scopes,
                names={name: str(value) for name, value in request.path_params.items()},
                parameters=_parameters(request),
                raw=raw,
                cookies=shown.cookies,
                key=sent.get(b"idempotency-key" if route.keyed else b"last-event-id"),
                header=sent.get,
                office=office,
            )
            if route.quick:
                response = _respond(route, _run(call))
            else:
                response = _respond(route, await _in(office.threads_for(route), _run, call))
    except HTTPException as error:
        response = _refuse(_translated(error), route.dialect)
    except MunimentError as error:
        first = page and route.scope is not None and route.method == "GET" and office.signin is not None
        if first and isinstance(error, Unauthenticated):
            response = _sign_in_first(request)
        else:
            response = _refuse(error, route.dialect, page=page)
    except Exception as error:
        log.exception("a request failed unexpectedly", route=route.name, request=request_id, exc_info=error)
        response = _refuse(_internal(), route.dialect, page=page)
    _finish(response, request_id, secure)
    seconds = time.perf_counter() - began
    office.numbers.requests.labels(route.method, route.path, response.status_code).inc()
    office.numbers.seconds.labels(route.method, route.path).observe(seconds)
    if not route.quick:
        log.info(
            "answered", method=route.method, route=route.path, status=response.status_code, request=request_id,
            ms=round(seconds * 1000, 1), who=who,
        )  # fmt: skip
    return response


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


async def _admit(office: Office, route: Route, shown: Shown) -> tuple[Caller, Authenticated]:
    """Who calls, if they may call this."""
    if route.scope is None or (office.public_ledger and route.path.startswith("/ledger/")):
        return _NOBODY, Authenticated(identity=SYSTEM)
    credential, ways = shown.credential, shown.ways
    if not credential:
        raise Unauthenticated("nobody says who calls", remedy=_HOW)
    known = partial(office.known, ways=ways)
    now = office.desk.clock.now()
    if all(getattr(each, "remembered", _never)(credential, now) for each in ways):
        caller, proof = known(credential)
    elif any(getattr(each, "familiar", _never)(credential) for each in ways):
        caller, proof = await _in(office.threads_for(route), known, credential)
    else:
        with office.load.look_up():
            # whoever issued a JWT may not answer; nobody else waits for that
            threads = office.visitors if "." in credential else office.lookups
            caller, proof = await _in(threads, known, credential)
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


def _sign_in_first(request: Request[Any, Any, Any]) -> Response[Any]:
    """To the identity provider, and back here."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    where = f"/auth/login?{urlencode({'return_to': back})}" if signing_in.is_path(back) else "/auth/login"
    return Response(
        b"", status_code=HTTPStatus.FOUND, media_type=pages.MEDIA_TYPE, headers={"Location": where}
    )


def _require_ours(office: Office, route: Route, sent: Sent, credential: str, raw: bytes) -> None:
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


def _never(*_: Any) -> bool:
    return False


async def _in(threads: ThreadPoolExecutor, run: Callable[[A], T], given: A) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, in_context(run), given)


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """All of it, soon: whoever sends a byte now and then would hold a place for ever."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError as error:
        raise MunimentError(
            f"the body did not come within {BODY_SECONDS:g} seconds",
            remedy="Send it together with its headers.",
            code="too-slow",
        ) from error


def _parameters(request: Request[Any, Any, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if not request.scope["query_string"]:
        return found
    for name, value in request.query_params.multi_items():
        found.setdefault(name, []).append(value)
    return found


def _run(call: Call) -> Any:
    """Handle and encode, both in the thread of the call."""
    result = call.route.run(call)
    return result if isinstance(result, Plain | ServerSentEvent) else msgspec.json.encode(result)


def _respond(route: Route, result: Any) -> Response[Any]:
    if isinstance(result, ServerSentEvent):
        return result
    if isinstance(result, Plain):
        return Response(
            result.body, status_code=result.status or route.status, media_type=result.media_type,
            headers=dict(result.headers),
            cookies=[_cookie(*each) for each in result.cookies],
        )  # fmt: skip
    return Response(result, status_code=route.status, media_type=route.dialect.media_type)


def _cookie(name: str, value: str, seconds: int) -> Cookie:
    """Lax, not strict: whoever comes back from the identity provider comes from another site."""
    return Cookie(
        key=name, value=value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def _refuse(
    error: MunimentError, dialect: Dialect = PLAIN, *, page: Callable[[MunimentError], Plain] | None = None
) -> Response[Any]:
    status = problems.status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status is not HTTPStatus.SERVICE_UNAVAILABLE:
        log.error("refused", error=error.message, code=error.code)
    if page is not None:
        shown = page(error)
        return Response(
            shown.body, status_code=status.value, media_type=shown.media_type,
            headers=problems.headers(status) | dict(shown.headers),
        )  # fmt: skip
    return Response(
        msgspec.json.encode(dialect.refuse(error, status)),
        status_code=status.value,
        media_type=dialect.refusal_type,
        headers=problems.headers(status),
    )


def _finish(response: Response[Any], request_id: str, secure: bool) -> None:
    for name, value in (_SAFE | (_HTTPS if secure else {}) | {"X-Request-ID": request_id}).items():
        response.headers.setdefault(name, value)


def _internal() -> MunimentError:
    return MunimentError(
        "something went wrong that should not",
        remedy="The log says what, under the request's id.",
        code="internal",
    )


def _translated(error: HTTPException) -> MunimentError:
    """Litestar's own refusals."""
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound("there is no such path", remedy="/openapi.json lists them.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return MunimentError(
                "the path has no such method", remedy="/openapi.json lists them.", code="method-not-allowed"
            )
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return MunimentError("the body is too long", remedy="Send less.", code="too-large")
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return MunimentError(
                f"the request cannot be read: {error.detail:.200}",
                remedy="/openapi.json says what belongs here.",
                code="invalid.json",
            )
        case _:
            return _internal()


def _unrouted(
    office: Office, secure: bool, request: Request[Any, Any, Any], error: Exception
) -> Response[Any]:
    """What fails before a route is found."""
    dialect = dialect_at(request.scope["path"])
    if isinstance(error, HTTPException):
        asks = office.site and request.scope["method"] == "GET" and dialect is PLAIN
        page = asks and "text/html" in (Sent(request.scope["headers"]).get(b"accept") or "")
        response = _refuse(_translated(error), dialect, page=office.problem_page if page else None)
        for name, value in (error.headers or {}).items():
            response.headers.setdefault(name, value)
    else:
        log.error("a request failed unexpectedly", exc_info=error)
        response = _refuse(_internal(), dialect)
    _finish(response, _new_id(), secure)
    return response
