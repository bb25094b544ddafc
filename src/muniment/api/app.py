"""The application: the table of routes on Litestar, and the one gate that every request passes.

    limits → who calls → may they call this → body → handler → answer or problem

Litestar finds the route, streams and serves the lifecycle; what a route means stands in its table.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import HttpMethod, Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import ServerSentEvent
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from muniment.api import pages
from muniment.api.dialects import PLAIN, dialect_at
from muniment.api.gate import Sent, Shown, admit, in_thread, require_ours
from muniment.api.office import Office
from muniment.api.peers import peer_of
from muniment.api.routes import Call, Plain, Route
from muniment.api.sending import Answer, Sender, answer_of, refusal
from muniment.api.table import TABLE
from muniment.core.errors import MunimentError, NotFound, Unauthenticated
from muniment.core.identity import SYSTEM
from muniment.service import signing_in
from muniment.tracing import span

#: within which a body must be there
BODY_SECONDS = 10.0
#: and so long what is refused unread is waited for: a connection with half a request on it cannot be used again, and a
#: client that finds it closed does not know whether its next request was heard
REST_SECONDS = 1.0

log = structlog.get_logger("muniment.api")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_PROCESS = uuid.uuid4().hex[:16]
_numbers = count()


class _Gone(Exception):
    """The client went away before all of its body was here: there is nobody to answer."""


def application(office: Office) -> Litestar:
    """The ASGI application."""
    entrance = _Entrance(office)
    table = (*TABLE, *office.site)

    async def close() -> None:
        office.closing = True
        await asyncio.get_running_loop().run_in_executor(None, office.close)

    return Litestar(
        route_handlers=[
            entrance.of(path, {str(r.method): r for r in table if r.path == path})
            for path in dict.fromkeys(r.path for r in table)
        ],
        openapi_config=None,
        exception_handlers={HTTPException: entrance.unrouted, Exception: entrance.unrouted},
        on_startup=[office.open],
        on_shutdown=[close],
        logging_config=None,
    )


class _Entrance:
    """Where every request comes in, and its answer goes out."""

    def __init__(self, office: Office) -> None:
        self._office, self._sender = office, Sender(secure=office.url.startswith("https://"))

    def of(self, path: str, routes: dict[str, Route]) -> HTTPRouteHandler:
        """All methods of a path. Litestar finds them; what it would do with a request is done here, as its middleware."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            request = cast("HTTPScope", scope)  # nothing here is a WebSocket
            await self._serve(routes[request["method"]], request, receive, send)

        def instead(app: ASGIApp) -> ASGIApp:
            del app
            return serve

        async def unreached() -> None:
            pass

        named = re.sub(r"{(\w+)}", r"{\1:str}", path)
        methods = [HttpMethod(name) for name in routes]
        route = HTTPRouteHandler(named, http_method=methods, status_code=HTTPStatus.OK, middleware=[instead])
        return route(unreached)

    async def _serve(self, route: Route, scope: HTTPScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        sent = Sent(scope["headers"])
        given = sent.get(b"x-request-id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else _new_id()
        attributes = {"http.request.method": route.method, "http.route": route.path}
        with span(f"{route.method} {route.path}", attributes) as note:
            try:
                answer, who = await self._answer(route, sent, scope, receive)
            except _Gone:
                return
            except Exception as error:
                log.exception(
                    "a request failed unexpectedly", route=route.name, request=request_id, exc_info=error
                )
                page = self._page(route, sent)
                wrong = _internal()
                answer, who = refusal(wrong, route.dialect, page(wrong) if page else None), ""
            status = int(answer.status_code or 0) if isinstance(answer, ServerSentEvent) else answer.status
            note("http.response.status_code", status)
        seconds = time.perf_counter() - began
        self._office.numbers.answered(route, status, seconds)
        if not route.quick:
            log.info(
                "answered", method=route.method, route=route.path, status=status, request=request_id,
                ms=round(seconds * 1000, 1), who=who,
            )  # fmt: skip
        if isinstance(answer, ServerSentEvent):
            await self._stream(answer, request_id, scope, receive, send)
        else:
            await self._sender.send(send, answer, request_id)

    async def _stream(
        self, answer: ServerSentEvent, request_id: str, scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        for name, value in (self._sender.fixed | {"x-request-id": request_id}).items():
            answer.headers.setdefault(name, value)
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        await answer.to_asgi_response(None, request)(scope, receive, send)

    def _page(self, route: Route, sent: Sent) -> Callable[[MunimentError], Plain] | None:
        """How an error is shown to whoever asks; None: as a document."""
        return self._office.problem_page if route.browser and _wants_page(sent) else None

    async def _answer(
        self, route: Route, sent: Sent, scope: HTTPScope, receive: Receive
    ) -> tuple[Answer | ServerSentEvent, str]:
        """The answer, and whose request it was, if that is known."""
        office, who, unread = self._office, "", route.method != "GET"
        try:
            shown = Shown.of(office, sent)
            caller, proof = await admit(office, route, shown)
            who = caller.identity.id
            with office.load.one(route):
                if proof.identity == SYSTEM:
                    office.load.count_stranger(peer_of(scope, office.proxies), route)
                else:
                    office.load.count(who, route)
                if not unread:
                    raw = shown.credential.encode()
                else:
                    unread = False
                    raw = await _body(sent, receive, route.largest, BODY_SECONDS)
                    if shown.session and route.scope is not None:
                        require_ours(office, route, sent, shown.credential, raw)
                call = Call(
                    route=route,
                    desk=office.desk,
                    caller=caller,
                    scopes=proof.scopes,
                    names={name: str(value) for name, value in scope["path_params"].items()},
                    parameters=_parameters(scope),
                    raw=raw,
                    cookies=shown.cookies,
                    key=sent.get(b"idempotency-key" if route.keyed else b"last-event-id"),
                    header=sent.get,
                    office=office,
                )
                threads = None if route.quick else office.threads_for(route)
                result = _run(call) if threads is None else await in_thread(threads, _run, call)
                return result if isinstance(result, ServerSentEvent) else answer_of(route, result), who
        except HTTPException as error:  # a query that nobody can read
            return refusal(_translated(error), route.dialect), who
        except MunimentError as error:
            if unread:
                with suppress(MunimentError):  # too long, or too slow
                    await _body(sent, receive, route.largest, REST_SECONDS)
            page = self._page(route, sent)
            first = page and route.scope is not None and route.method == "GET" and office.signin is not None
            if first and isinstance(error, Unauthenticated):
                return _sign_in_first(scope), who
            return refusal(error, route.dialect, page(error) if page else None), who

    def unrouted(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        """What fails before a route is found."""
        dialect = dialect_at(request.scope["path"])
        if isinstance(error, HTTPException):
            asks = self._office.site and request.scope["method"] == "GET" and dialect is PLAIN
            page = asks and _wants_page(Sent(request.scope["headers"]))
            said = _translated(error)
            answer = refusal(said, dialect, self._office.problem_page(said) if page else None)
            answer = answer._replace(headers={**answer.headers, **(error.headers or {})})
        else:
            log.error("a request failed unexpectedly", exc_info=error)
            answer = refusal(_internal(), dialect)
        headers = self._sender.headers(answer)
        return Response(
            answer.body, status_code=answer.status, media_type=answer.media_type,
            headers=headers | {"x-request-id": _new_id()},
        )  # fmt: skip


def _wants_page(sent: Sent) -> bool:
    """Whether a browser asks, and not a program."""
    return "text/html" in (sent.get(b"accept") or "")


def _new_id() -> str:
    """Of a request: unique, and no secret."""
    return f"{_PROCESS}-{next(_numbers):x}"


def _sign_in_first(scope: HTTPScope) -> Answer:
    """To the identity provider, and back here."""
    query = scope["query_string"].decode("latin-1")
    back = scope["path"] + (f"?{query}" if query else "")
    where = f"/auth/login?{urlencode({'return_to': back})}" if signing_in.is_path(back) else "/auth/login"
    return Answer(HTTPStatus.FOUND, b"", pages.MEDIA_TYPE, {"Location": where})


async def _body(sent: Sent, receive: Receive, largest: int, seconds: float) -> bytes:
    """All of it, soon: whoever sends a byte now and then would hold a place for ever."""
    length = sent.get(b"content-length") or ""
    if length.isdecimal() and (len(length) > len(str(largest)) or int(length) > largest):
        raise _too_long()
    try:
        async with asyncio.timeout(seconds):
            whole = b""
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Gone
                whole += message["body"]
                if len(whole) > largest:
                    raise _too_long()
                if not message["more_body"]:
                    return whole
    except TimeoutError as error:
        raise MunimentError(
            f"the body did not come within {seconds:g} seconds",
            remedy="Send it together with its headers.",
            code="too-slow",
        ) from error


def _parameters(scope: HTTPScope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if not scope["query_string"]:
        return found
    connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
    for name, value in connection.query_params.multi_items():
        found.setdefault(name, []).append(value)
    return found


def _run(call: Call) -> Any:
    """Handle and encode, both in the thread of the call."""
    result = call.route.run(call)
    return result if isinstance(result, Plain | ServerSentEvent) else msgspec.json.encode(result)


def _too_long() -> MunimentError:
    return MunimentError("the body is too long", remedy="Send less.", code="too-large")


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
            return _too_long()
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return MunimentError(
                f"the request cannot be read: {error.detail:.200}",
                remedy="/openapi.json says what belongs here.",
                code="invalid.json",
            )
        case _:
            return _internal()
