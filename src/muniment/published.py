"""What somebody outside publishes, and changes now and then: their public keys (RFC 7517).

It is read when first needed, again when it is old, and when somebody needs what is not there; not more often than once
in a while, whatever is asked for. While it is read again, everybody else goes on with what is known. When it cannot be
read, what is known is believed for a day: what is unreachable is not thereby revoked, and not for ever good either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from joserfc import jwk
from joserfc.errors import JoseError
from joserfc.util import base64_to_int

from muniment.core.errors import Misconfigured, Unavailable
from muniment.outbound import Http

OLD, SOON, GIVEN_UP = timedelta(minutes=10), timedelta(seconds=10), timedelta(days=1)
_WEAKEST_RSA = 2048

T = TypeVar("T")

log = structlog.get_logger("muniment.published")


class Published(Generic[T]):
    """One such thing. Safe for use by several threads."""

    def __init__(self, read: Callable[[datetime], T], whose: str) -> None:
        """``read`` gets it at an instant, or raises a `MunimentError`; ``whose`` names them in messages."""
        self._read, self._whose = read, whose
        self._reading = threading.Lock()
        self._known: tuple[datetime, T] | None = None  # when it was read, and what …
        self._tried: datetime | None = None  # … or when that was last tried

    def current(self, now: datetime, *, soon: bool = False) -> T:
        """What is published; ``soon``: what is known was not enough, so ask again.

        Raises:
            Unavailable: it is not known, or not for a day, and cannot be read.
            Misconfigured: what is published is something else, and nothing better is known.
        """
        # whoever has nothing to go on with waits for whoever asks
        if self._is_due(now, soon) and self._reading.acquire(blocking=soon or self._known is None):
            try:
                if self._is_due(now, soon):
                    self._again(now)
            finally:
                self._reading.release()
        known = self._known
        if known is None or abs(now - known[0]) >= GIVEN_UP:
            raise Unavailable(
                f"the keys of {self._whose} cannot be read",
                remedy="Tokens of Muniment's own go on working. Check that whoever publishes them runs.",
                code="unavailable.issuer",
            )
        return known[1]

    def _is_due(self, now: datetime, soon: bool) -> bool:
        known, tried = self._known, self._tried
        old = known is None or abs(now - known[0]) >= (SOON if soon else OLD)
        return old and (tried is None or abs(now - tried) >= SOON)

    def _again(self, now: datetime) -> None:
        try:
            self._known = now, self._read(now)
        except (Unavailable, Misconfigured) as error:
            log.warning("keys cannot be read", whose=self._whose, error=error.message, code=error.code)
            if self._known is None:
                raise
        finally:
            self._tried = now


def fetch(http: Http, url: str) -> bytes:
    """What is at a URL. Raises `Unavailable`."""
    answer = http.get(url, {"Accept": "application/json"})
    if answer.status != HTTPStatus.OK:
        raise Unavailable(
            f"{url} answered {answer.status}",
            remedy="Check that whoever issues the tokens runs.",
            code="unavailable.issuer",
        )
    return answer.body


class _Set(msgspec.Struct):
    keys: list[Any]


def read_keys(raw: bytes, whose: str, *, kinds: Collection[str], uses: Collection[str | None]) -> jwk.KeySet:
    """The usable keys of a JWK set: public, of these kinds, for signatures, and strong enough. Others are left out.

    Raises:
        Misconfigured: there is none.
    """
    try:
        every = msgspec.json.decode(raw, type=_Set).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Misconfigured(
            f"what {whose} has for keys is no JWK set",
            remedy="Check the URL or file of its keys.",
            code="config.jwks",
        ) from error
    usable = [key for each in every if isinstance(each, dict) and (key := _usable(each, kinds, uses))]
    if not usable:
        raise Misconfigured(
            f"{whose} has no key that signatures can be verified with",
            remedy=f"It must have public {', '.join(sorted(kinds))} keys; RSA keys of {_WEAKEST_RSA} bits or more.",
            code="config.jwks",
        )
    return jwk.KeySet(usable)


def _usable(given: Mapping[str, Any], kinds: Collection[str], uses: Collection[str | None]) -> Any:
    if given.get("kty") not in kinds or given.get("use") not in uses:
        return None
    public = {name: given[name] for name in ("kty", "kid", "alg", "n", "e", "crv", "x", "y") if name in given}
    try:
        if public["kty"] == "RSA" and base64_to_int(public["n"]).bit_length() < _WEAKEST_RSA:
            return None
        return jwk.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
