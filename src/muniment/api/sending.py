"""From what a handler answers to the bytes of an HTTP response.

Written for ASGI itself: a framework's response objects cost more than all the rest of a check of who holds what.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
import structlog
from litestar.datastructures import Cookie
from litestar.types import Send

from muniment.api import problems
from muniment.api.dialects import PLAIN, Dialect
from muniment.api.routes import Plain, Route
from muniment.core.errors import MunimentError

log = structlog.get_logger("muniment.api")

#: headers of every answer, unless it brings its own
SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
HTTPS = {"strict-transport-security": "max-age=31536000"}
_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class Answer(NamedTuple):
    """What goes back."""

    status: int
    body: bytes
    media_type: str
    headers: Mapping[str, str] = {}
    cookies: tuple[tuple[str, str, int], ...] = ()


def answer_of(route: Route, result: bytes | Plain) -> Answer:
    """What a handler gave: JSON that is encoded already, or something else."""
    if isinstance(result, Plain):
        return Answer(
            result.status or route.status, result.body, result.media_type, result.headers, result.cookies
        )
    return Answer(route.status, result, route.dialect.media_type)


def refusal(error: MunimentError, dialect: Dialect = PLAIN, page: Plain | None = None) -> Answer:
    """An error in a protocol's own words, or as a page."""
    status = problems.status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status is not HTTPStatus.SERVICE_UNAVAILABLE:
        log.error("refused", error=error.message, code=error.code)
    headers = problems.headers(status)
    if page is not None:
        return Answer(status.value, page.body, page.media_type, headers | dict(page.headers))
    said = msgspec.json.encode(dialect.refuse(error, status))
    return Answer(status.value, said, dialect.refusal_type, headers)


class Sender:
    """Sends answers, with the headers that all of them have."""

    def __init__(self, *, secure: bool) -> None:
        """``secure``: clients reach us by https."""
        self.fixed = SAFE | (HTTPS if secure else {})
        self._encoded = _encoded(self.fixed)

    def headers(self, answer: Answer) -> dict[str, str]:
        """Those of an answer, and those that all have; its own count."""
        return self.fixed | {name.lower(): value for name, value in answer.headers.items()}

    async def send(self, send: Send, answer: Answer, request_id: str) -> None:
        """All of it at once."""
        headers = self._encoded
        if answer.headers:
            headers = _encoded(self.headers(answer))
        headers = [*headers, (b"x-request-id", request_id.encode("latin-1"))]
        if answer.status not in _BODILESS:
            kind = answer.media_type
            kind += "; charset=utf-8" if kind.startswith("text/") and "charset=" not in kind else ""
            headers.append((b"content-type", kind.encode("latin-1")))
            headers.append((b"content-length", b"%d" % len(answer.body)))
        headers += [_cookie(*each) for each in answer.cookies]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _cookie(name: str, value: str, seconds: int) -> Any:
    """Lax, not strict: whoever comes back from the identity provider comes from another site."""
    made = Cookie(
        key=name, value=value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )
    return made.to_encoded_header()
