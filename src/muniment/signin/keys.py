"""The public keys of one issuer, and what they signed.

Keys are read when first needed, again when they are old, and when a token names one that is not there; not more often
than once in a while, whatever tokens name. When the issuer cannot be asked, the keys that are there are believed for a
day: what is unreachable is not thereby revoked, and not for ever good either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from joserfc import jwk, jwt
from joserfc.errors import InvalidKeyIdError, JoseError

from muniment.core.errors import Misconfigured, Unauthenticated, Unavailable
from muniment.outbound import Http

#: no shared secrets, and none of the names that mean "not signed"
ALGORITHMS = tuple(f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512))
#: how much clocks may differ
SKEW = timedelta(seconds=60)
LONGEST_TOKEN = 16 * 1024

_OLD, _SOON, _GIVEN_UP = timedelta(minutes=10), timedelta(seconds=10), timedelta(days=1)
#: what keys are for, in their own words: signatures, or not said; SPIFFE says it in its own way
_USES = (None, "sig", "jwt-svid")
_WEAKEST_RSA = 2048

log = structlog.get_logger("muniment.signin")


class Keys:
    """What one issuer signs with. Safe for use by several threads."""

    def __init__(self, read: Callable[[datetime], bytes], issuer: str) -> None:
        """``read`` gets the JWK set at an instant, or raises a `MunimentError`; ``issuer`` names it in messages."""
        self._read, self._issuer = read, issuer
        self._lock = threading.Lock()
        self._keys: jwk.KeySet | None = None
        self._got: datetime | None = None  # when they were read …
        self._tried: datetime | None = None  # … or could not be

    def verify(self, token: str, now: datetime) -> jwt.Token:
        """A token by this issuer's key. Nothing but its signature is looked at.

        Raises:
            Unauthenticated: it is no JWT, is signed in a way that is not taken, or not by a key of the issuer.
            Unavailable: the keys cannot be had.
        """
        if len(token) > LONGEST_TOKEN:
            raise _bad("the token is too long", "unauthenticated.token")
        found = self._decoded(token, self._current(now))
        found = found or self._decoded(token, self._current(now, soon=True))  # by a new key, perhaps
        if found is None:
            raise _bad(
                f"the token is not by a key that {self._issuer} publishes", "unauthenticated.token-key"
            )
        return found

    def _decoded(self, token: str, keys: jwk.KeySet) -> jwt.Token | None:
        """None where it names a key that is not among these."""
        try:
            return jwt.decode(token, keys, algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            return None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _bad(
                f"the token is no token of {self._issuer}: its signature or form is wrong",
                "unauthenticated.token",
            ) from error

    def _current(self, now: datetime, *, soon: bool = False) -> jwk.KeySet:
        with self._lock:
            age = None if self._got is None else abs(now - self._got)
            tried = None if self._tried is None else abs(now - self._tried)
            due = age is None or age >= (_SOON if soon else _OLD)
            if due and (tried is None or tried >= _SOON):
                self._tried = now
                try:
                    self._keys = read_keys(self._read(now), self._issuer)
                    self._got, age = now, timedelta()
                except (Unavailable, Misconfigured) as error:
                    log.warning("keys of an issuer cannot be read", issuer=self._issuer, error=error.message)
                    if self._keys is None:
                        raise
            if self._keys is None or age is None or age >= _GIVEN_UP:
                raise Unavailable(
                    f"the keys of {self._issuer} cannot be read",
                    remedy="Tokens of Muniment's own go on working. Check that the issuer runs.",
                    code="unavailable.issuer",
                )
            return self._keys


def fetch(http: Http, url: str) -> bytes:
    """What is published at a URL. Raises `Unavailable`."""
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


def read_keys(raw: bytes, issuer: str) -> jwk.KeySet:
    """The usable keys of a JWK set: public, for signatures, and strong enough.

    Raises:
        Misconfigured: there is none.
    """
    try:
        every = msgspec.json.decode(raw, type=_Set).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Misconfigured(
            f"what {issuer} has for keys is no JWK set", remedy="Check the URL or file of its keys."
        ) from error
    usable = [key for each in every if isinstance(each, dict) and (key := _usable(each))]
    if not usable:
        raise Misconfigured(
            f"{issuer} has no key that signatures can be verified with",
            remedy=f"It must have public RSA keys of {_WEAKEST_RSA} bits or more, or EC keys.",
        )
    return jwk.KeySet(usable)


def _usable(given: Mapping[str, Any]) -> Any:
    if given.get("kty") not in {"RSA", "EC"} or given.get("use") not in _USES:
        return None
    public = {name: given[name] for name in ("kty", "kid", "alg", "n", "e", "crv", "x", "y") if name in given}
    try:
        key = jwk.import_key(public)
        strong = not isinstance(key, jwk.RSAKey) or key.raw_value.key_size >= _WEAKEST_RSA
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if strong else None


def _bad(message: str, code: str) -> Unauthenticated:
    return Unauthenticated(message, remedy="Get a new one from whoever issues them.", code=code)
