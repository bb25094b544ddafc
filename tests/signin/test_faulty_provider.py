"""What a provider might say that it must not: every claim that is wrong, missing or of another kind is refused.

The provider here only injects faults: its tokens are what a sound one would sign, but for one thing. Sound logins are in
`tests/api/test_signin.py`, at a real one.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwk, jwt

from muniment.core.errors import Misconfigured, MunimentError, Refused, Unavailable
from muniment.outbound import Answer
from muniment.signin.oidc import OidcProvider

ISSUER, CLIENT, NONCE = "https://idp.example", "muniment", "a nonce"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
KEY = jwk.generate_key("EC", "P-256", {"kid": "1"})
OTHER = jwk.generate_key("EC", "P-256", {"kid": "1"})
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
METADATA = {
    "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/auth", "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks", "end_session_endpoint": f"{ISSUER}/end",
}  # fmt: skip
SOUND = {
    "iss": ISSUER, "aud": CLIENT, "sub": "1", "iat": AT, "exp": AT + 300, "nonce": NONCE, "auth_time": AT - 5, "acr": "phr",
    "email": "cyd@example.com", "email_verified": True, "groups": ["leads"], "sid": "s",
}  # fmt: skip
SIGNED_OUT = {
    "iss": ISSUER, "aud": CLIENT, "sub": "1", "sid": "s", "iat": AT, "exp": AT + 120, "jti": "j", "events": {LOGOUT: {}}
}  # fmt: skip


class Faulty:
    """Answers what it was told to, and counts what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"metadata": METADATA, "keys": {"keys": [KEY.as_dict(private=False)]}} | answers
        self.asked: list[str] = []

    def get(self, url: str, _headers: Any = None) -> Answer:
        self.asked.append(url)
        return self._answer("keys" if url.endswith("/jwks") else "metadata")

    def post(self, url: str, body: bytes, **_more: Any) -> Answer:
        self.asked.append(url)
        self.sent = body
        return self._answer("token")

    def _answer(self, which: str) -> Answer:
        found = self.answers[which]
        if isinstance(found, MunimentError):
            raise found
        status, said = found if isinstance(found, tuple) else (200, found)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return Answer(status=status, headers={}, body=body)


def provider(http: Faulty, **more: Any) -> OidcProvider:
    options: dict[str, Any] = {
        "secret": lambda: "secret",
        "levels": {"phr": 2},
        "claim": "email",
        "groups": "groups",
    }
    return OidcProvider(
        http=http,  # type: ignore[arg-type]
        issuer=ISSUER, client=CLIENT, callback="https://m.example/auth/callback", **(options | more),
    )  # fmt: skip


def token(said: dict[str, Any], *, key: Any = KEY, alg: str = "ES256", **header: Any) -> str:
    claims = {name: value for name, value in said.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": "1"} | header, claims, key, algorithms=[alg])


def finish(http: Faulty, within: timedelta | None = None, **answer: str) -> Any:
    given = {"code": "c"} | answer
    return provider(http).finish(given, verifier="v" * 43, nonce=NONCE, within=within, now=NOW)


def signed_in(within: timedelta | None = None, **changes: Any) -> Any:
    return finish(Faulty(token={"id_token": token(SOUND | changes)}), within)


def test_a_sound_one_is_taken() -> None:
    found = signed_in()
    assert (found.login.subject, found.login.level, found.session, found.name) == (
        "1",
        2,
        "s",
        "cyd@example.com",
    )
    assert found.groups == ("leads",)
    assert found.login.at == "2026-11-23T09:59:55.000000Z"
    assert signed_in(acr="unheard of").login.level == 1
    assert signed_in(acr=None).login.level == 1
    assert signed_in(groups=None).groups == ()
    assert signed_in(aud=[CLIENT]).login.subject == "1"


#: what differs → the code
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://other.example"}, "unauthenticated.claim"),
    ({"iss": ISSUER + "/"}, "unauthenticated.claim"),
    ({"iss": None}, "unauthenticated.claim"),
    ({"aud": "other"}, "unauthenticated.claim"),
    ({"aud": None}, "unauthenticated.claim"),
    ({"aud": [CLIENT, "other"]}, "unauthenticated.claim"),
    ({"aud": [CLIENT, "other"], "azp": "other"}, "unauthenticated.claim"),
    ({"sub": None}, "unauthenticated.claim"),
    ({"sub": ""}, "unauthenticated.claim"),
    ({"sub": "a\nb"}, "unauthenticated.claim"),
    ({"sub": "x" * 256}, "unauthenticated.claim"),
    ({"sub": 1}, "unauthenticated.claim"),
    ({"nonce": "another"}, "unauthenticated.claim"),
    ({"nonce": None}, "unauthenticated.claim"),
    ({"exp": AT - 61}, "unauthenticated.claim"),
    ({"exp": None}, "unauthenticated.claim"),
    ({"exp": "soon"}, "unauthenticated.claim"),
    ({"iat": None}, "unauthenticated.claim"),
    ({"auth_time": None}, "unauthenticated.claim"),
    ({"auth_time": "now"}, "unauthenticated.claim"),
    ({"auth_time": True}, "unauthenticated.claim"),
    ({"auth_time": AT + 61}, "refused.login-age"),
    ({"auth_time": AT - 12 * 3600 - 61}, "refused.login-age"),
    ({"acr": ["phr"]}, "unauthenticated.claim"),
    ({"groups": {"leads": 1}}, "unauthenticated.claim"),
    ({"groups": [1]}, "unauthenticated.claim"),
    ({"email_verified": "true"}, "refused.login-unverified"),
    ({"email_verified": None}, "refused.login-unverified"),
    ({"email": 1}, "unauthenticated.claim"),
    ({"sid": 1}, "unauthenticated.claim"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG, ids=lambda each: str(each)[:50])
def test_an_id_token_that_says_something_else(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MunimentError) as refused:
        signed_in(**changes)
    assert refused.value.code == code
    assert refused.value.remedy


def test_whoever_steps_up_was_asked_again() -> None:
    assert signed_in(timedelta(minutes=5), auth_time=AT - 299).login.level == 2
    with pytest.raises(Refused) as refused:
        signed_in(timedelta(minutes=5), auth_time=AT - 361)
    assert refused.value.code == "refused.login-age"


def test_an_id_token_by_another_key_or_none() -> None:
    secret = jwk.OctKey.import_key("secret-secret-secret-secret-secret-secret")
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    body = token(SOUND).split(".")[1]
    for wrong in (
        token(SOUND, key=OTHER),
        token(SOUND, key=secret, alg="HS256"),
        f"{head}.{body}.",
        "x",
        "",
        "a.b.c",
    ):
        with pytest.raises(MunimentError) as refused:
            finish(Faulty(token={"id_token": wrong}))
        assert refused.value.code.startswith(("unauthenticated.token", "refused.login")), wrong


#: what the token endpoint answers → the code
ANSWERS: list[tuple[Any, str]] = [
    ((400, {"error": "invalid_grant", "error_description": "used"}), "refused.login"),
    ((400, {"error": "invalid_grant", "error_description": "\u202e\x1b[2J"}), "refused.login"),
    ((401, {"error": "invalid_client"}), "config.signin"),
    ((500, {"error": "x"}), "unavailable.issuer"),
    ((502, b"<html>"), "unavailable.issuer"),
    ((200, b"{"), "unavailable.issuer"),
    ((200, b"[]"), "unavailable.issuer"),
    ((200, {"access_token": "x"}), "refused.login"),
    ((200, {"id_token": 1}), "refused.login"),
    (Unavailable("away"), "unavailable"),
]


@pytest.mark.parametrize(("said", "code"), ANSWERS, ids=lambda each: str(each)[:50])
def test_a_token_endpoint_that_says_something_else(said: Any, code: str) -> None:
    with pytest.raises(MunimentError) as refused:
        finish(Faulty(token=said))
    assert refused.value.code == code
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"}, {"issuer": None}, {"token_endpoint": "http://idp.example/token"},
        {"jwks_uri": "http://idp.example/jwks"}, {"authorization_endpoint": "javascript:alert(1)"}, {"jwks_uri": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_provider_that_describes_itself_otherwise(changes: dict[str, Any]) -> None:
    http = Faulty(metadata={k: v for k, v in (METADATA | changes).items() if v is not None})
    with pytest.raises(Misconfigured):
        provider(http).begin(state="s", nonce="n", verifier="v" * 43, level=None, within=None, now=NOW)


def test_what_a_provider_says_of_itself_is_kept_and_asked_again_in_time() -> None:
    http = Faulty(token={"id_token": token(SOUND)})
    at = provider(http)

    def begin(minutes: int) -> str:
        now = NOW + timedelta(minutes=minutes)
        return at.begin(state="s", nonce="n", verifier="v" * 43, level=None, within=None, now=now)

    urls = {begin(minutes) for minutes in (0, 1, 59)}
    assert (len(urls), len(http.asked)) == (1, 1)
    begin(61)
    assert len(http.asked) == 2
    http.answers["metadata"] = Unavailable("away")
    assert begin(600) in urls  # what was known goes on
    assert (
        at.leave("https://m.example", NOW)
        == f"{ISSUER}/end?client_id=muniment&post_logout_redirect_uri=https%3A%2F%2Fm.example"
    )


def test_keys_are_asked_for_seldom_whatever_tokens_name() -> None:
    http = Faulty(token={"id_token": token(SOUND, kid="unheard of")})
    at = provider(http)
    for _ in range(5):
        with pytest.raises(MunimentError) as refused:
            at.finish({"code": "c"}, verifier="v" * 43, nonce=NONCE, within=None, now=NOW)
        assert refused.value.code == "unauthenticated.token-key"
    assert sum(url.endswith("/jwks") for url in http.asked) == 1


#: what differs in a logout token → refused; an empty one is sound
LOGOUTS: list[dict[str, Any]] = [
    {"iss": "https://other.example"}, {"aud": "other"}, {"nonce": NONCE}, {"events": None}, {"events": {}},
    {"events": {LOGOUT: 1}}, {"events": {"https://other": {}}}, {"events": [LOGOUT]}, {"sub": None, "sid": None},
    {"jti": None}, {"jti": ""}, {"iat": None}, {"iat": AT - 300}, {"iat": AT + 61}, {"exp": AT - 61}, {"sub": 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", LOGOUTS, ids=str)
def test_a_logout_token_that_says_something_else(changes: dict[str, Any]) -> None:
    with pytest.raises(MunimentError):
        provider(Faulty()).signed_out(token(SIGNED_OUT | changes, typ="logout+jwt"), NOW)


def test_a_sound_logout_token_names_an_account_a_session_or_both() -> None:
    at = provider(Faulty())
    for changes in ({}, {"sub": None}, {"sid": None}, {"exp": None}):
        found = at.signed_out(token(SIGNED_OUT | changes, typ="logout+jwt"), NOW)
        assert (found.subject, found.session) == (
            (SIGNED_OUT | changes)["sub"],
            (SIGNED_OUT | changes)["sid"],
        )
    for changes, seconds in (({"exp": AT + 30}, 90), ({"exp": AT + 3600}, 300), ({"iat": AT - 200}, 100)):
        found = at.signed_out(token(SIGNED_OUT | changes, typ="logout+jwt"), NOW)
        assert found.until == NOW + timedelta(seconds=seconds), changes  # then it would be refused
    with pytest.raises(MunimentError):
        at.signed_out(token(SIGNED_OUT, key=OTHER), NOW)


def test_an_id_token_signs_nobody_out_and_a_logout_token_nobody_in() -> None:
    with pytest.raises(MunimentError):
        provider(Faulty()).signed_out(token(SOUND), NOW)
    with pytest.raises(MunimentError):
        finish(Faulty(token={"id_token": token(SIGNED_OUT)}))


def test_an_answer_of_another_issuer_is_not_exchanged() -> None:
    http = Faulty(token={"id_token": token(SOUND)})
    with pytest.raises(Refused) as refused:
        finish(http, iss="https://other.example")
    assert refused.value.code == "refused.login-issuer"
    assert not any(url.endswith("/token") for url in http.asked)
