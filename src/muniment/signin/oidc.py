"""An OpenID provider: code flow with PKCE, step-up, and back-channel logout.

Sources: OpenID Connect Core 1.0, Discovery 1.0 and Back-Channel Logout 1.0; RFC 7636 (PKCE), RFC 9207 (``iss`` in the
answer). Authlib writes the requests and checks an id token's claims; what is fetched is bounded by `outbound.Http`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from muniment.core.errors import Misconfigured, MunimentError, Refused, Unauthenticated, Unavailable
from muniment.core.instants import wire
from muniment.core.login import Login
from muniment.outbound import Http
from muniment.ports import SignedIn, SignedOut
from muniment.published import fetch
from muniment.signin import claims
from muniment.signin.keys import SKEW, Keys

_FORM = "application/x-www-form-urlencoded"
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
#: how long what a provider says of itself is believed before it is asked again
_OLD = timedelta(hours=1)
#: how old a logout token may be
_HEARD = 5 * SKEW
_LEVELS = (1, 2, 3)


class _Metadata(msgspec.Struct, frozen=True):
    """What we need of a provider's description. Source: OpenID Connect Discovery 1.0, section 3."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class OidcProvider:
    """`ports.IdentityProvider`. Safe for use by several threads."""

    def __init__(
        self,
        *,
        http: Http,
        issuer: str,
        client: str,
        secret: Callable[[], str] | None,
        callback: str,
        scopes: tuple[str, ...] = ("openid",),
        levels: Mapping[str, int] | None = None,
        claim: str | None = None,
        groups: str | None = None,
        longest: timedelta = timedelta(hours=12),
    ) -> None:
        """Nothing is asked yet.

        Args:
            http: how it is reached.
            issuer: its name, which is the URL of its description, too.
            client: our name there.
            secret: reads our secret there; None for a public client, which PKCE alone protects.
            callback: where it sends people back to.
            scopes: what is asked for.
            levels: which of its words for how somebody signed in (``acr``) mean which assurance; any other means 1.
            claim: the claim that says which identity somebody is.
            groups: the claim that lists somebody's groups.
            longest: how long ago somebody may have signed in there.
        """
        self.issuer = issuer
        self._http, self._client, self._secret, self._callback = http, client, secret, callback
        self._scopes, self._levels, self._claim, self._groups = scopes, dict(levels or {}), claim, groups
        self._longest = longest
        self._lock = threading.Lock()
        self._known: tuple[datetime, _Metadata] | None = None
        self._keys = Keys(lambda now: fetch(http, self._metadata(now).jwks_uri), issuer)

    # ── ports.IdentityProvider ──

    def begin(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        level: int | None,
        within: timedelta | None,
        now: datetime,
    ) -> str:
        """See `ports.IdentityProvider`."""
        wanted = self._words(level) if level else ()
        more: dict[str, Any] = {
            "nonce": nonce, "code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256",
            "max_age": str(int((within or self._longest).total_seconds())),
        }  # fmt: skip
        if wanted:
            more["acr_values"] = " ".join(wanted)
        if self._levels:
            essential = {"essential": True, "values": list(wanted)} if wanted else None
            more["claims"] = msgspec.json.encode({"id_token": {"acr": essential}}).decode()
        if within is not None:
            more["prompt"] = "login"
        return str(
            prepare_grant_uri(
                self._metadata(now).authorization_endpoint, self._client, "code", redirect_uri=self._callback,
                scope=list(self._scopes), state=state, **more,
            )
        )  # fmt: skip

    def finish(
        self, answer: Mapping[str, str], *, verifier: str, nonce: str, within: timedelta | None, now: datetime
    ) -> SignedIn:
        """See `ports.IdentityProvider`."""
        known = self._metadata(now)
        given = answer.get("iss")
        if given != self.issuer and (given or known.authorization_response_iss_parameter_supported):
            raise Refused(
                "the answer is from another identity provider",
                remedy="Sign in again, from the beginning.",
                code="refused.login-issuer",
            )
        if "code" not in answer:
            raise Refused(
                f"the identity provider did not sign you in: {_said(answer)}",
                remedy="Sign in again; whoever runs the identity provider can say more.",
                code="refused.login",
            )
        token = self._exchange(known, answer["code"], verifier)
        return self._signed_in(token, nonce, within or self._longest, now)

    def signed_out(self, token: str, now: datetime) -> SignedOut:
        """See `ports.IdentityProvider`."""
        found = self._keys.verify(token, now)
        said = found.claims
        events = said.get("events")
        self._is_ours(said)
        issued, jti = claims.instant(said, "iat"), claims.text(said, "jti")
        expires = claims.instant(said, "exp") if "exp" in said else issued + 2 * SKEW
        if not (isinstance(events, dict) and isinstance(events.get(_LOGOUT), dict)) or "nonce" in said:
            raise claims.wrong("events")
        until = min(expires + SKEW, issued + _HEARD)
        if issued > now + SKEW or until <= now:
            raise Unauthenticated(
                "the logout token is too old or not yet good",
                remedy="Compare the clocks.",
                code="unauthenticated.token-time",
            )
        subject = claims.text(said, "sub") if "sub" in said else None
        session = claims.text(said, "sid") if "sid" in said else None
        if subject is None and session is None:
            raise claims.wrong("sub")
        return SignedOut(issuer=self.issuer, subject=subject, session=session, id=jti, until=until)

    def leave(self, back: str, now: datetime) -> str | None:
        """See `ports.IdentityProvider`."""
        try:
            there = self._metadata(now).end_session_endpoint
        except MunimentError:
            return None  # whoever signs out is signed out here, whether the provider answers or not
        if there is None:
            return None
        return f"{there}?{urlencode({'client_id': self._client, 'post_logout_redirect_uri': back})}"

    # ── what it says of itself ──

    def _metadata(self, now: datetime) -> _Metadata:
        with self._lock:
            if self._known is None or abs(now - self._known[0]) >= _OLD:
                try:
                    self._known = (now, self._described())
                except (Unavailable, Misconfigured):
                    if self._known is None:
                        raise
            return self._known[1]

    def _described(self) -> _Metadata:
        where = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        raw = fetch(self._http, where)
        try:
            found = msgspec.json.decode(raw, type=_Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Misconfigured(
                f"{where} does not describe an OpenID provider: {error!s:.200}",
                remedy="Check [signin] issuer.",
            ) from error
        if found.issuer != self.issuer:
            raise Misconfigured(
                f"{where} describes {found.issuer!r:.200}, which is another issuer",
                remedy="Write [signin] issuer exactly as the provider calls itself.",
            )
        for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
            if self.issuer.startswith("https:") and urlsplit(url).scheme != "https":
                raise Misconfigured(
                    f"{where} names {url!r:.200}, which is not https", remedy="Use another identity provider."
                )
        return found

    # ── tokens ──

    def _exchange(self, known: _Metadata, code: str, verifier: str) -> str:
        """The id token for a code. The access token is thrown away: nothing is asked with it."""
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=self._callback, code_verifier=verifier
        )
        secret = self._secret() if self._secret else None
        offered = known.token_endpoint_auth_methods_supported
        how = (
            "none"
            if secret is None
            else next((m for m in _AUTHENTICATION if m in offered), _AUTHENTICATION[0])
        )
        auth = ClientAuth(self._client, secret, how)
        uri, headers, sent = auth.prepare("POST", known.token_endpoint, {"Accept": "application/json"}, body)
        answer = self._http.post(uri, sent.encode(), content_type=_FORM, headers=headers)
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = {}
        token = said.get("id_token")
        if answer.status == 200 and isinstance(token, str):
            return token
        if said.get("error") in {"invalid_client", "unauthorized_client"}:
            raise Misconfigured(
                "the identity provider does not know us by client_id and client_secret",
                remedy="Compare [signin] with what it has registered.",
                code="config.signin",
            )
        if answer.status >= 500 or not said:
            raise Unavailable(
                f"the identity provider answered {answer.status} where it gives out tokens",
                remedy="Sign in again later.",
                code="unavailable.issuer",
            )
        raise Refused(
            f"the identity provider did not sign you in: {_said(said)}",
            remedy="Sign in again: what it sent you with is good once, and soon.",
            code="refused.login",
        )

    def _signed_in(self, token: str, nonce: str, within: timedelta, now: datetime) -> SignedIn:
        found = self._keys.verify(token, now)
        said = found.claims
        self._is_ours(said)
        try:
            asked = {"nonce": nonce, "client_id": self._client, "max_age": int(within.total_seconds()) or 1}
            CodeIDToken(said, found.header, params=asked).validate(
                now=int(now.timestamp()), leeway=int(SKEW.total_seconds())
            )
        except (JoseError, ValueError, TypeError) as error:
            raise Unauthenticated(
                f"the identity provider's word cannot be taken: {error!s:.200}",
                remedy="Sign in again, from the beginning.",
                code="unauthenticated.claim",
            ) from error
        there = claims.instant(said, "auth_time")
        if there > now + SKEW or now - there > within + SKEW:
            raise Refused(
                "the identity provider did not ask you to sign in again",
                remedy="Sign out there, then sign in again.",
                code="refused.login-age",
            )
        acr = claims.text(said, "acr") if said.get("acr") is not None else None
        login = Login(
            method="oidc", issuer=self.issuer, subject=claims.text(said, "sub"), at=wire(min(there, now)),
            level=self._levels.get(acr or "", _LEVELS[0]), acr=acr,
        )  # fmt: skip
        return SignedIn(
            login=login,
            session=claims.text(said, "sid") if "sid" in said else None,
            name=self._name(said),
            groups=claims.names(said, self._groups) if self._groups else None,
        )

    def _name(self, said: Mapping[str, Any]) -> str | None:
        if self._claim is None or self._claim not in said:
            return None
        if self._claim == "email" and said.get("email_verified") is not True:
            raise Refused(
                "the identity provider has not verified that the mail address is yours",
                remedy="Verify it there, then sign in again.",
                code="refused.login-unverified",
            )
        return claims.text(said, self._claim)

    def _is_ours(self, said: Mapping[str, Any]) -> None:
        if claims.text(said, "iss", 2000) != self.issuer:
            raise claims.wrong("iss")
        if self._client not in claims.audience(said):
            raise claims.wrong("aud")

    def _words(self, level: int) -> tuple[str, ...]:
        found = tuple(sorted(acr for acr, worth in self._levels.items() if worth >= level))
        if not found and level > _LEVELS[0]:
            raise Refused(
                f"no way to sign in here has assurance {level}",
                remedy="An operator says in [signin.levels] which of the identity provider's do.",
                code="refused.no-such-assurance",
            )
        return found


_AUTHENTICATION = ("client_secret_basic", "client_secret_post")


def _said(answer: Mapping[str, Any]) -> str:
    """The provider's own words, as data: a code, and perhaps a sentence."""
    parts = (answer.get("error"), answer.get("error_description"))
    said = ": ".join(part for part in parts if isinstance(part, str))
    return "".join(c if c.isprintable() else "?" for c in said)[:200] or "it says no more"
