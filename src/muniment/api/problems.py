"""Our errors as problem documents (RFC 9457). The only table of HTTP statuses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from muniment.core import errors as e

MEDIA_TYPE = "application/problem+json"

#: by class, the most particular first
_STATUS: tuple[tuple[type[e.MunimentError], HTTPStatus], ...] = (
    (e.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (e.NotFound, HTTPStatus.NOT_FOUND),
    (e.Conflict, HTTPStatus.CONFLICT),
    (e.Repeated, HTTPStatus.CONFLICT),
    (e.Invalid, HTTPStatus.UNPROCESSABLE_ENTITY),
    (e.Refused, HTTPStatus.FORBIDDEN),
    (e.Busy, HTTPStatus.TOO_MANY_REQUESTS),
    (e.TargetRejected, HTTPStatus.BAD_GATEWAY),
    (e.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (e.Misconfigured, HTTPStatus.SERVICE_UNAVAILABLE),
)
#: where the code says more than the class
_BY_CODE = {
    "invalid.json": HTTPStatus.BAD_REQUEST,
    "invalid.form": HTTPStatus.BAD_REQUEST,
    "invalid.logout-token": HTTPStatus.BAD_REQUEST,
    # OAuth answers all of these so
    "conflict.authorization-pending": HTTPStatus.BAD_REQUEST,
    "conflict.slow-down": HTTPStatus.BAD_REQUEST,
    "refused.device-denied": HTTPStatus.BAD_REQUEST,
    "invalid.device-expired": HTTPStatus.BAD_REQUEST,
    "invalid.device-grant": HTTPStatus.BAD_REQUEST,
    "invalid.client": HTTPStatus.BAD_REQUEST,
    "invalid.scope": HTTPStatus.BAD_REQUEST,
    "invalid.grant-type": HTTPStatus.BAD_REQUEST,
    "invalid.scim": HTTPStatus.BAD_REQUEST,
    "invalid.denial-binding": HTTPStatus.BAD_REQUEST,
    "refused.denial-expired": HTTPStatus.GONE,
    "invalid.token": HTTPStatus.BAD_REQUEST,
    "invalid.stream": HTTPStatus.BAD_REQUEST,
    "invalid.subject": HTTPStatus.BAD_REQUEST,
    "conflict.scim-version": HTTPStatus.PRECONDITION_FAILED,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "too-slow": HTTPStatus.REQUEST_TIMEOUT,
    "too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    # the rules would allow it to another ticket, or allowed it before: what stands in the way is the ticket's state
    "refused.stale-approval": HTTPStatus.CONFLICT,
    "refused.status": HTTPStatus.CONFLICT,
    "refused.already-decided": HTTPStatus.CONFLICT,
    "refused.stage-satisfied": HTTPStatus.CONFLICT,
    "refused.no-credential": HTTPStatus.CONFLICT,
    "refused.reviewed": HTTPStatus.CONFLICT,
}
#: seconds after which it makes sense to try again
_PATIENCE = {HTTPStatus.TOO_MANY_REQUESTS: 1, HTTPStatus.SERVICE_UNAVAILABLE: 2}


def status_of(error: e.MunimentError) -> HTTPStatus:
    """Which HTTP status says what the error says."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    return next(
        (status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR
    )


def problem(error: e.MunimentError) -> dict[str, Any]:
    """The document. ``code`` is stable, ``detail`` and ``remedy`` are for people."""
    status = status_of(error)
    return {
        "type": f"urn:muniment:error:{error.code}",
        "title": status.phrase,
        "status": status.value,
        "detail": error.message,
        "code": error.code,
        "remedy": error.remedy,
    }


def headers(status: HTTPStatus) -> dict[str, str]:
    """What goes with a status."""
    if status is HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="muniment"'}
    if status in _PATIENCE:
        return {"Retry-After": str(_PATIENCE[status])}
    return {}
