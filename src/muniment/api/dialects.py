"""How answers and refusals are written. Ours is JSON with problem documents; some protocols bring their own.

What a refusal is, and its status, is the same everywhere: `problems` decides. A dialect only words it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from muniment.api import answers, problems
from muniment.core.errors import MunimentError


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One way of writing."""

    media_type: str  # of bodies and answers
    refusal: Any  # the type of a refusal's document
    refusal_type: str  # its media type
    refuse: Callable[[MunimentError, HTTPStatus], Any]  # the document


PLAIN = Dialect(
    media_type="application/json",
    refusal=answers.Problem,
    refusal_type=problems.MEDIA_TYPE,
    refuse=lambda error, _: problems.problem(error),
)


def _scim(error: MunimentError, status: HTTPStatus) -> dict[str, Any]:
    kind = getattr(error, "scim_type", None) or (
        "uniqueness" if error.code == "conflict.name-taken" else None
    )
    said = {"schemas": [SCIM_ERROR], "status": str(status.value), "detail": error.message}
    return said | ({"scimType": kind} if kind else {})


SCIM_ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
#: RFC 7644, section 3.12
SCIM = Dialect(
    media_type="application/scim+json",
    refusal=answers.ScimError,
    refusal_type="application/scim+json",
    refuse=_scim,
)


def _signals(error: MunimentError, status: HTTPStatus) -> dict[str, Any]:
    named = {HTTPStatus.UNAUTHORIZED: "authentication_failed", HTTPStatus.FORBIDDEN: "access_denied"}
    err = getattr(error, "err", None) or named.get(status, "invalid_request")
    return {"err": err, "description": error.message}


#: RFC 8935, section 2.4
SIGNALS = Dialect(
    media_type="application/secevent+jwt",
    refusal=answers.SignalError,
    refusal_type="application/json",
    refuse=_signals,
)

_OAUTH = {
    "conflict.authorization-pending": "authorization_pending", "conflict.slow-down": "slow_down",
    "refused.device-denied": "access_denied", "invalid.device-expired": "expired_token",
    "invalid.device-grant": "invalid_grant", "invalid.client": "invalid_client", "invalid.scope": "invalid_scope",
    "invalid.grant-type": "unsupported_grant_type",
}  # fmt: skip


def _oauth(error: MunimentError, status: HTTPStatus) -> dict[str, Any]:
    away = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status is HTTPStatus.TOO_MANY_REQUESTS
    named = _OAUTH.get(error.code, "temporarily_unavailable" if away else "invalid_request")
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in error.message)
    return {"error": named, "error_description": plain}


#: RFC 6749, section 5.2, with the names of RFC 8628
OAUTH = Dialect(
    media_type="application/json",
    refusal=answers.OAuthError,
    refusal_type="application/json",
    refuse=_oauth,
)

#: of the AuthZEN Access Request and Approval Profile, draft 1
_ARAP = "urn:openid:authzen:access-request:error:"
_ARAP_TYPES = {
    "not-found": "unknown_task", "invalid.denial-binding": "invalid_denial_binding",
    "refused.denial-expired": "expired_denial", "invalid.privilege": "not_requestable", "invalid.target": "not_requestable",
}  # fmt: skip


def _access_requests(error: MunimentError, _: HTTPStatus) -> dict[str, Any]:
    said = problems.problem(error)
    return said | ({"type": _ARAP + _ARAP_TYPES[error.code]} if error.code in _ARAP_TYPES else {})


ACCESS_REQUESTS = Dialect(
    media_type="application/json",
    refusal=answers.Problem,
    refusal_type=problems.MEDIA_TYPE,
    refuse=_access_requests,
)

_AT = {"/scim/": SCIM, "/ssf/events": SIGNALS}


def dialect_at(path: str) -> Dialect:
    """What is spoken below a path, also where there is no route."""
    return next((dialect for start, dialect in _AT.items() if path.startswith(start)), PLAIN)
