"""Programs sign in with the JWT of whoever runs them. Keys and signatures are real, as SPIFFE's and a CI system's are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwk, jwt

from api.conftest import Api, free_port, initialised
from api.test_who_may_call import CLOSED, ask, refused
from hostile.corpus import CORPUS
from muniment.api import problems
from muniment.api.routes import Route
from muniment.cli.session import record
from muniment.config import load
from muniment.core.errors import Misconfigured, MunimentError
from muniment.main import _issuer, open_api, open_desk
from muniment.signin.workloads import WorkloadAuthenticator
from small_server import Said, serving

SPIFFE_ID = "spiffe://example.com/ns/pay/sa/API"
WORKLOAD = f"workload:{SPIFFE_ID}"
CI = "https://ci.example.com"
MAIN = "repo:acme/infra:ref:refs/heads/main"

SPIFFE_KEY = jwk.generate_key("EC", "P-256", {"kid": "spiffe-1"})
X509_KEY = jwk.generate_key("EC", "P-256", {"kid": "x509-1"})
CI_KEY = jwk.generate_key("RSA", 2048, {"kid": "ci-1"})
OTHER_KEY = jwk.generate_key("EC", "P-256", {"kid": "spiffe-1"})
WEAK_KEY = {"alg": "ES256", "kid": "spiffe-1"}

SETTINGS = f"""
[workloads.mesh]
trust_domain = "example.com"
audience = "muniment"
jwks = "bundle.jwks"
[workloads.ci]
issuer = "{CI}"
audience = "https://muniment.example.com"
jwks = "ci.jwks"
subjects = {{"{MAIN}" = "service_account:deploy", "repo:acme/infra:gone" = "service_account:gone"}}
scopes = ["read"]
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("workloads") / "access"
    config = initialised(folder)
    port = free_port()
    config.write_text(config.read_text().replace("127.0.0.1:8642", f"127.0.0.1:{port}") + SETTINGS)
    people = folder / "identities.toml"
    people.write_text(f'{people.read_text()}\n[identities."{WORKLOAD}"]\nowner = "human:ann@example.com"\n')
    bundle = [
        {**SPIFFE_KEY.as_dict(private=False), "use": "jwt-svid"},
        {**X509_KEY.as_dict(private=False), "use": "x509-svid"},
    ]
    (folder / "bundle.jwks").write_text(json.dumps({"keys": bundle, "spiffe_sequence": 1}))
    (folder / "ci.jwks").write_text(json.dumps({"keys": [CI_KEY.as_dict(private=False)]}))
    settings = load(config)
    desk = open_desk(settings)
    record(desk)
    server = open_api(settings, desk)
    server.start()
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        yield Api(desk, server._office, folder, http)
    assert server.stop(30)
    desk.store.engine.dispose()


def svid(api: Api, *, key: Any = SPIFFE_KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A JWT-SVID, or one that differs in these claims; None: without."""
    now = int(api.desk.clock.now().timestamp())
    said = {"sub": SPIFFE_ID, "aud": ["muniment"], "iat": now, "exp": now + 300} | changes
    head = {"alg": "ES256", "kid": key.kid} | (header or {})
    return jwt.encode(head, {k: v for k, v in said.items() if v is not None}, key, algorithms=[head["alg"]])


def ci(api: Api, **changes: Any) -> str:
    said = {"iss": CI, "sub": MAIN, "aud": "https://muniment.example.com"} | changes
    return svid(api, key=CI_KEY, header={"alg": "RS256"}, **said)


def who(api: Api, token: str) -> httpx.Response:
    return api("GET", "/v1/whoami", token=token)


def test_a_workload_is_who_its_spiffe_id_says(api: Api) -> None:
    for token in (
        svid(api),
        svid(api, aud="muniment"),
        svid(api, header={"typ": "JOSE"}),
        svid(api, iat=None),
    ):
        assert who(api, token).json()["id"] == WORKLOAD


def test_a_pipeline_is_who_its_subject_is_mapped_to(api: Api) -> None:
    assert who(api, ci(api)).json()["id"] == "service_account:deploy"
    refused = api("POST", "/v1/requests", {}, token=ci(api))
    assert (refused.status_code, refused.json()["code"]) == (403, "refused.scope")


#: what differs → the stable code of the refusal
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("another trust domain", {"sub": "spiffe://other.example/x"}, "unauthenticated.token-issuer"),
    (
        "a trust domain that begins like ours",
        {"sub": "spiffe://example.com.evil/x"},
        "unauthenticated.token-issuer",
    ),
    ("a trust domain in capitals", {"sub": "spiffe://EXAMPLE.com/x"}, "unauthenticated.token-issuer"),
    ("no subject", {"sub": None}, "unauthenticated.token-issuer"),
    ("a subject that is no text", {"sub": 1}, "unauthenticated.token-issuer"),
    ("another path, of nobody here", {"sub": "spiffe://example.com/x"}, "unauthenticated"),
    ("the same path in other letters", {"sub": SPIFFE_ID.lower()}, "unauthenticated"),
    ("a path that climbs", {"sub": "spiffe://example.com/ns/../sa"}, "unauthenticated.token-subject"),
    ("a path with an escape", {"sub": "spiffe://example.com/n%73"}, "unauthenticated.token-subject"),
    ("for somebody else", {"aud": "other"}, "unauthenticated.token-audience"),
    ("for nobody", {"aud": []}, "unauthenticated.token-audience"),
    ("without an audience", {"aud": None}, "unauthenticated.claim"),
    ("with an audience that is no text", {"aud": [1]}, "unauthenticated.claim"),
    ("without an end", {"exp": None}, "unauthenticated.claim"),
    ("with an end that is no number", {"exp": "soon"}, "unauthenticated.claim"),
    ("with an end far away", {"exp": 2**62}, "unauthenticated.claim"),
    ("with an end before time began", {"exp": -1}, "unauthenticated.claim"),
]


@pytest.mark.parametrize(
    ("changes", "code"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_a_token_that_says_something_else(api: Api, changes: dict[str, Any], code: str) -> None:
    refused = who(api, svid(api, **changes))
    assert (refused.status_code, refused.json()["code"]) == (401, code)
    assert refused.json()["remedy"]


#: seconds from now: begins, ends → the code; clocks may differ by a minute
TIMES = [
    (0, 300, None), (-600, -30, None), (-600, -61, "unauthenticated.expired"), (59, 300, None),
    (120, 300, "unauthenticated.token-time"), (0, 86_400, None), (0, 86_500, "unauthenticated.token-lifetime"),
    (-90_000, 300, "unauthenticated.token-lifetime"),
]  # fmt: skip


@pytest.mark.parametrize(("starts", "ends", "code"), TIMES)
@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_counts_in_its_time(api: Api, claim: str, starts: int, ends: int, code: str | None) -> None:
    now = int(api.desk.clock.now().timestamp())
    answer = who(api, svid(api, **({"iat": None} | {claim: now + starts}), exp=now + ends))
    assert answer.json().get("code") == code


def test_a_token_is_by_a_key_of_its_issuer_and_signed_well(api: Api) -> None:
    body = svid(api).split(".")[1]
    secret = jwk.OctKey.import_key("a secret that is long enough to be one, for HS256")
    wrong = {
        "another key by the same name": (svid(api, key=OTHER_KEY), "unauthenticated.token"),
        "a key for certificates": (svid(api, key=X509_KEY), "unauthenticated.token-key"),
        "another issuer's key": (svid(api, key=CI_KEY, header={"alg": "RS256"}), "unauthenticated.token-key"),
        "a shared secret": (
            svid(api, key=secret, header={"alg": "HS256", "kid": "spiffe-1"}),
            "unauthenticated.token",
        ),
        "no signature": (f"eyJhbGciOiJub25lIn0.{body}.AAAA", "unauthenticated.token"),
        "a logout token": (svid(api, header={"typ": "logout+jwt"}), "unauthenticated.token-type"),
        "a security event": (svid(api, header={"typ": "secevent+jwt"}), "unauthenticated.token-type"),
    }
    for name, (token, code) in wrong.items():
        refused = who(api, token)
        assert (refused.status_code, refused.json()["code"]) == (401, code), name
    good = svid(api)
    head, said, signature = good.split(".")
    assert who(api, good).status_code == 200
    for changed in (f"{head}.{said}.{signature[:-4]}AAAA", f"{head}.{ci(api).split('.')[1]}.{signature}"):
        assert who(api, changed).status_code == 401


def test_who_is_not_here_is_nobody(api: Api) -> None:
    assert (
        who(api, ci(api, sub="repo:acme/infra:ref:refs/heads/x")).json()["code"]
        == "unauthenticated.token-subject"
    )
    assert who(api, ci(api, sub="repo:acme/infra:gone")).status_code == 401
    assert who(api, ci(api, iss="https://evil.example")).json()["code"] == "unauthenticated.token-issuer"
    assert who(api, ci(api, aud="muniment")).json()["code"] == "unauthenticated.token-audience"


def test_keys_change(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key counts once a token names it; one that is gone counts no more, after a while."""
    new = jwk.generate_key("RSA", 2048, {"kid": "ci-2"})
    path = api.folder / "ci.jwks"
    before = path.read_text()
    assert who(api, ci(api)).status_code == 200
    path.write_text(json.dumps({"keys": [new.as_dict(private=False)]}))
    clock = type(api.desk.clock)
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda self: real(self) + timedelta(seconds=11))
    assert (
        who(
            api,
            svid(api, key=new, header={"alg": "RS256"}, iss=CI, sub=MAIN, aud="https://muniment.example.com"),
        ).status_code
        == 200
    )
    assert who(api, ci(api, jti="not seen yet")).json()["code"] == "unauthenticated.token-key"
    path.unlink()  # what cannot be read changes nothing
    monkeypatch.setattr(clock, "now", lambda self: real(self) + timedelta(hours=1))
    assert (
        who(
            api,
            svid(api, key=new, header={"alg": "RS256"}, iss=CI, sub=MAIN, aud="https://muniment.example.com"),
        ).status_code
        == 200
    )
    path.write_text(before)


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)
def test_a_token_for_somebody_else_opens_nothing(api: Api, route: Route) -> None:
    answer = ask(api, route, token=svid(api, aud="other"))
    assert refused(answer, 401, "unauthenticated.token-audience")


@pytest.mark.parametrize("hostile", [v for v in CORPUS.values() if len(v) < 5000], ids=repr)
def test_hostile_subjects(api: Api, hostile: str) -> None:
    try:
        tokens = [ci(api, sub=hostile), svid(api, sub=f"spiffe://example.com/{hostile}")]
    except UnicodeEncodeError:
        return
    for token in tokens:
        assert who(api, token).status_code == 401


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('trust_domain = "example.com"\n', ""),
        ("service_account:deploy", "human:ann@example.com"),
        ("service_account:deploy", "nobody"),
        ('["read"]', '["admin"]'),
        ('"bundle.jwks"', '"http://idp.example.com/jwks"'),
        (CI, "not a url"),
        ('audience = "muniment"', 'audience = ""'),
    ],
)
def test_settings_that_cannot_be_meant(api: Api, tmp_path: Path, old: str, new: str) -> None:
    text = (api.folder / "muniment.toml").read_text()
    assert old in text
    config = tmp_path / "muniment.toml"
    config.write_text(text.replace(old, new))
    with pytest.raises(Misconfigured) as refused:
        load(config)
    assert "workloads" in refused.value.message


# ── keys at a URL ──


def from_url(folder: Path, url: str) -> WorkloadAuthenticator:
    """As the configuration has it."""
    path = initialised(folder)
    path.write_text(path.read_text() + SETTINGS.replace('"ci.jwks"', f'"{url}"'))
    config = load(path)
    return WorkloadAuthenticator((_issuer(config, "ci", config.workloads["ci"]),))


def test_keys_at_a_url_change(api: Api, tmp_path: Path) -> None:
    new, now = jwk.generate_key("RSA", 2048, {"kid": "ci-2"}), api.desk.clock.now()

    def key_set(*keys: Any) -> Said:
        return 200, json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode(), {}

    def by(key: Any, **changes: Any) -> str:
        said = {"iss": CI, "sub": MAIN, "aud": "https://muniment.example.com"} | changes
        return svid(api, key=key, header={"alg": "RS256"}, exp=int(now.timestamp()) + 7200, **said)

    def fares(token: str, minutes: float) -> str:
        try:
            found = authenticator.authenticate(token, now + timedelta(minutes=minutes))
        except MunimentError as error:
            return error.code
        assert found is not None
        return found.identity

    deploy = "service_account:deploy"
    with serving(lambda _: key_set(CI_KEY)) as server:
        authenticator = from_url(tmp_path / "access", f"{server.url}/jwks")
        assert fares(by(CI_KEY), 0) == deploy
        assert fares(by(new), 0) == "unauthenticated.token-key"
        server.answer = lambda _: key_set(CI_KEY, new)
        assert fares(by(new), 0.1) == "unauthenticated.token-key"  # asked seldom
        assert fares(by(new), 0.2) == deploy
        server.answer = lambda _: key_set(new)
        assert fares(by(CI_KEY, jti="a"), 0.3) == deploy
        assert fares(by(CI_KEY, jti="b"), 11) == "unauthenticated.token-key"  # withdrawn
        asked = len(server.asked)
        server.answer = lambda _: (302, b"", {"Location": "http://169.254.169.254/"})
        assert fares(by(new, jti="c"), 25) == deploy  # while nobody answers, what is known counts …
        server.answer = lambda _: None
        assert fares(by(new, jti="d"), 36) == deploy
        assert len(server.asked) == asked + 2
        assert {(each.method, each.path) for each in server.asked} == {("GET", "/jwks")}


@pytest.mark.parametrize(
    "said", [None, (200, b"<html>", {}), (200, b"[" * 99_999, {}), (500, b"", {})], ids=str
)
def test_keys_at_a_url_that_are_none_let_nobody_in(api: Api, tmp_path: Path, said: Any) -> None:
    with serving(lambda _: said) as server:
        authenticator = from_url(tmp_path / "access", server.url)
        with pytest.raises(MunimentError) as refused:
            authenticator.authenticate(ci(api), api.desk.clock.now())
    assert refused.value.code.startswith(("unavailable", "config.jwks"))
    assert problems.status_of(refused.value) == 503  # nobody's fault who asks
