"""Security event tokens: checked before anything they say is looked at, and signed.

Sources: RFC 8417 (SET), OpenID SSF 1.0 and CAEP 1.0 with their interoperability profile: one event a token, no ``sub``,
no ``exp``, RS256 with keys of 2048 bits or more. The errors are those of RFC 8935.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from muniment.core.errors import Invalid, Misconfigured
from muniment.published import read_keys

TYPE = "secevent+jwt"
MEDIA_TYPE = f"application/{TYPE}"
#: bytes of a token at most
LARGEST = 1 << 16
#: a clock may be ahead of ours by this
SKEW = timedelta(minutes=5)
#: a token that was made longer ago is not taken: whoever sends it did not try for so long
OLDEST = timedelta(days=14)
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
#: characters of a claim that is kept
MAX_CLAIM = 255

Err: TypeAlias = Literal[
    "invalid_request",
    "invalid_key",
    "invalid_issuer",
    "invalid_audience",
    "authentication_failed",
    "access_denied",
]


class BadToken(Invalid):
    """Not a token that anything may be done on; ``err`` as RFC 8935, section 2.4 has it."""

    code = "invalid.token"

    def __init__(self, err: Err, message: str) -> None:
        super().__init__(message, remedy="See RFC 8417 and RFC 8935.")
        self.err = err


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a token that holds says."""

    issuer: str
    jti: str
    issued: datetime
    type: str  # a URI
    subject: Mapping[str, Any]  # as RFC 9493 has it
    claims: Mapping[str, Any]  # of the event


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    keys: Callable[[str, datetime], KeySet]  # those that may have signed, for a key id, at an instant


def read(raw: bytes, issuers: Mapping[str, Issuer], now: datetime) -> Event:
    """Check a token, signature first. Raises `BadToken`."""
    header, claims = _opened(raw)
    if str(header.get("typ", "")).lower().removeprefix("application/") != TYPE:
        raise BadToken("invalid_request", f"typ is not {TYPE}")
    issuer = issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
    if issuer is None:
        raise BadToken("invalid_issuer", "the issuer is not one whose signals are heeded here")
    if header.get("alg") not in issuer.algorithms:
        raise BadToken("invalid_key", f"alg is none of {', '.join(issuer.algorithms)}")
    if set(header) - {"typ", "alg", "kid"}:
        raise BadToken("invalid_request", "the header has more than typ, alg and kid")
    kid = header.get("kid")
    try:
        jws.deserialize_compact(
            raw, issuer.keys(kid if isinstance(kid, str) else "", now), algorithms=list(issuer.algorithms)
        )
    except (JoseError, ValueError, TypeError) as error:
        raise BadToken("invalid_key", "the signature does not hold") from error
    audience = claims.get("aud")
    if issuer.audience not in (audience if isinstance(audience, list) else [audience]):
        raise BadToken("invalid_audience", "the token is for somebody else")
    return _event(claims, now)


def _opened(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, which nobody vouches for yet."""
    if len(raw) > LARGEST:
        raise BadToken("invalid_request", "the token is too long")
    try:
        found = jws.extract_compact(raw.strip())
        claims = msgspec.json.decode(found.payload, type=dict[str, Any])
        header = dict(found.headers())
    except (JoseError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise BadToken("invalid_request", "this is no signed token") from error
    return header, claims


def _event(claims: Mapping[str, Any], now: datetime) -> Event:
    if {"sub", "exp"} & claims.keys():
        raise BadToken("invalid_request", "sub and exp do not belong into a security event token")
    jti, iat, events = claims.get("jti"), claims.get("iat"), claims.get("events")
    if (
        not isinstance(jti, str)
        or not 0 < len(jti) <= MAX_CLAIM
        or not jti.isascii()
        or not jti.isprintable()
    ):
        raise BadToken("invalid_request", "jti is not a short text")
    if not isinstance(iat, int) or isinstance(iat, bool) or not 0 < iat < 1 << 40:
        raise BadToken("invalid_request", "iat is not a time")
    issued = datetime.fromtimestamp(iat, tz=now.tzinfo)
    if not now - OLDEST <= issued <= now + SKEW:
        raise BadToken("invalid_request", "iat is too long ago, or in the future")
    if not isinstance(events, dict) or len(events) != 1:
        raise BadToken("invalid_request", "a token has exactly one event")
    ((kind, said),) = events.items()
    if (
        not isinstance(said, dict)
        or not 0 < len(kind) <= MAX_CLAIM
        or not kind.isascii()
        or not kind.isprintable()
    ):
        raise BadToken("invalid_request", "the event is not an object under its type")
    subject = claims.get("sub_id", said.get("subject"))
    if not isinstance(subject, dict):
        raise BadToken("invalid_request", "sub_id is missing")
    return Event(issuer=str(claims["iss"]), jti=jti, issued=issued, type=kind, subject=subject, claims=said)


class Signer:
    """Signs what goes out."""

    def __init__(self, pem: str) -> None:
        """Raises `Misconfigured`: not an RSA key of 2048 bits or more. The message never holds it."""
        try:
            key = RSAKey.import_key(pem)
            public = RSAKey.import_key(key.as_dict(private=False))
            self._key = RSAKey.import_key(pem, {"kid": key.thumbprint()})
            sound = key.is_private and key.raw_value.key_size >= 2048
        except (JoseError, ValueError, TypeError) as error:
            raise _no_key() from error
        if not sound:
            raise _no_key()
        self.kid = key.thumbprint()
        self.jwks = {
            "keys": [{**public.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": "RS256"}]
        }

    def token(self, claims: Mapping[str, Any]) -> str:
        """A signed token. The same claims give the same token."""
        header = {"typ": TYPE, "alg": "RS256", "kid": self.kid}
        return jws.serialize_compact(header, msgspec.json.encode(claims), self._key, algorithms=["RS256"])


def _no_key() -> Misconfigured:
    return Misconfigured(
        "[signals] key is not an RSA private key of 2048 bits or more",
        remedy="Make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072.",
    )


def keys_of(document: bytes, issuer: str) -> KeySet:
    """What a transmitter signs with. Raises `Misconfigured`."""
    return read_keys(document, issuer, kinds=("RSA", "EC", "OKP"), uses=(None, "sig"))
