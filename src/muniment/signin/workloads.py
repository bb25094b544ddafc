"""Programs that show who they are by a JWT of whoever runs them: SPIFFE, Kubernetes, a CI system.

A token counts when it is by a key of an issuer that is configured, for us, in time, and its subject is somebody here.
There is no secret of ours to keep, and none to leak. Sources: RFC 7519, RFC 8725; JWT-SVID for SPIFFE.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jws import extract_compact
from joserfc.jwt import Token

from muniment.core.errors import Invalid, Unauthenticated
from muniment.core.identity import IdentityId, is_human, parse_identity
from muniment.ports import Authenticated, Scoped
from muniment.signin import claims
from muniment.signin.keys import LONGEST_TOKEN, SKEW, Keys

#: a token that is good for longer is no short-lived credential
LONGEST = timedelta(hours=24)
#: how long a verified token is not verified again; a key that its issuer withdraws counts for so long, at most
REMEMBERED = timedelta(minutes=1)
CACHED = 4096

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_SPIFFE = re.compile(r"spiffe://([^/]+)/.+", re.ASCII)
#: what a token calls itself; others are for other purposes (RFC 8725, section 3.11)
_TYPES = (None, "JWT", "JOSE", "at+jwt")


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer, as configured."""

    name: str
    audience: str  # what tokens for us say
    keys: Any  # `Keys`
    issuer: str | None = None  # ``iss``; None: a SPIFFE trust domain, whose tokens need none
    trust_domain: str | None = None
    subjects: Mapping[str, IdentityId] = {}
    scopes: frozenset[Scoped] = frozenset()


class WorkloadAuthenticator:
    """`ports.Authenticator` for such tokens. Safe for use by several threads."""

    def __init__(self, issuers: tuple[Issuer, ...]) -> None:
        """Nothing is read yet."""
        self._issuers = issuers
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[datetime, Authenticated]] = {}  # until when, by hash

    def authenticate(self, credential: str, now: datetime) -> Authenticated | None:
        """See `ports.Authenticator`."""
        if not _is_one(credential):
            return None
        found = self._known.get(_hash(credential))
        if found is not None and now < found[0]:
            return found[1]
        issuer = self._issuer(credential)
        keys: Keys = issuer.keys
        who, until = self._who(keys.verify(credential, now), issuer, now)
        known = Authenticated(identity=who, scopes=issuer.scopes)
        with self._lock:
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[_hash(credential)] = (min(until, now + REMEMBERED), known)
        return known

    def remembered(self, credential: str, now: datetime) -> bool:
        """Whether `authenticate` would answer without verifying."""
        if not _is_one(credential):
            return True
        found = self._known.get(_hash(credential))
        return found is not None and now < found[0]

    def familiar(self, credential: str) -> bool:
        """Whether it was a true one when it was last looked at."""
        return _is_one(credential) and _hash(credential) in self._known

    def _issuer(self, credential: str) -> Issuer:
        """By what the token says of itself, which nobody has verified: only which keys to try."""
        said = _unverified(credential)
        domain = _domain(said.get("sub"))
        for each in self._issuers:
            if each.issuer is not None:
                if said.get("iss") == each.issuer and each.trust_domain in {None, domain}:
                    return each
            elif each.trust_domain == domain:
                return each
        raise Unauthenticated(
            "the token is of no issuer that is known here",
            remedy="An operator adds its issuer under [workloads].",
            code="unauthenticated.token-issuer",
        )

    def _who(self, token: Token, issuer: Issuer, now: datetime) -> tuple[IdentityId, datetime]:
        said = token.claims
        if token.header.get("typ") not in _TYPES:
            raise Unauthenticated(
                "the token is for another purpose",
                remedy="Send one that says who you are.",
                code="unauthenticated.token-type",
            )
        if issuer.audience not in claims.audience(said):
            raise Unauthenticated(
                "the token is for somebody else: its audience is not ours",
                remedy=f"Ask {issuer.name} for one with the audience {issuer.audience}.",
                code="unauthenticated.token-audience",
            )
        until = _in_time(said, now)
        subject = claims.text(said, "sub", 2048)
        who = issuer.subjects.get(subject)
        if who is None and issuer.trust_domain is not None and _domain(subject) == issuer.trust_domain:
            who = f"workload:{subject}"
        try:
            found = parse_identity(who or "")
        except Invalid as error:
            raise Unauthenticated(
                f"{subject!r:.200} of {issuer.name} is nobody here",
                remedy=f"An operator adds it to [workloads.{issuer.name}] subjects.",
                code="unauthenticated.token-subject",
            ) from error
        if is_human(found):
            raise Unauthenticated(
                "a program's token stands for a person",
                remedy=f"Map it to who runs there in [workloads.{issuer.name}] subjects.",
                code="unauthenticated.token-subject",
            )
        return found, until


def _in_time(said: Mapping[str, Any], now: datetime) -> datetime:
    """Until when it is good."""
    until = claims.instant(said, "exp")
    starts = [claims.instant(said, name) for name in ("iat", "nbf") if name in said]
    if until + SKEW <= now:
        raise Unauthenticated("the token is over", remedy="Get a new one.", code="unauthenticated.expired")
    if any(start > now + SKEW for start in starts):
        raise Unauthenticated(
            "the token is not good yet", remedy="Compare the clocks.", code="unauthenticated.token-time"
        )
    if until - min([*starts, now]) > LONGEST:
        raise Unauthenticated(
            f"the token is good for more than {LONGEST.total_seconds() / 3600:.0f} hours",
            remedy="Have its issuer make short ones.",
            code="unauthenticated.token-lifetime",
        )
    return until + SKEW


def _is_one(credential: str) -> bool:
    return len(credential) <= LONGEST_TOKEN and bool(_JWT.fullmatch(credential))


def _unverified(credential: str) -> dict[str, Any]:
    try:
        raw = extract_compact(credential.encode()).payload
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (JoseError, msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unauthenticated(
            "the token is no JWT", remedy="Send one of a known issuer.", code="unauthenticated.token"
        ) from error


def _domain(subject: Any) -> str | None:
    found = _SPIFFE.fullmatch(subject) if isinstance(subject, str) else None
    return found[1] if found else None


def _hash(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
