"""Signing in, stepping up and out, at a real OpenID provider."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from api.conftest import ANN, CYD, REQUEST, Api, free_port, initialised
from api.test_who_may_call import CLOSED, ask
from api.test_who_may_call import refused as is_refused
from hostile.corpus import CORPUS
from identity_provider import SECRET, Browser, TemporaryProvider
from muniment.api import signin as api_signin
from muniment.api.routes import Route
from muniment.cli.session import record
from muniment.config import load
from muniment.core.errors import Unauthenticated
from muniment.evidence.rules import LOGINS
from muniment.main import open_api, open_desk
from muniment.ports import SignedOut
from muniment.service.logins import unlink
from muniment.service.sealing import seal
from muniment.service.sessions import csrf_token
from muniment.service.verifying import verify_store

COOKIE = api_signin.COOKIE


@dataclass
class Place:
    """A served Muniment and the provider that its people sign in with."""

    api: Api
    provider: TemporaryProvider

    @property
    def url(self) -> str:
        return self.api.office.url

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def signed_in(self, account: str, query: str = "", **how: str) -> Session:
        session = Session(self, Browser())
        answer = session.sign_in(account, query, **how)
        assert answer.status_code == 200, answer.text
        return session

    def signed_out_at_provider(self, session: Session) -> None:
        """As a person does there: the page asks, they say yes. The provider tells everybody who wants to know."""
        answer = session.browser("GET", f"{self.provider.issuer}/session/end")
        xsrf = re.search(r'name="xsrf" value="([^"]+)"', answer.text)
        assert xsrf, answer.text
        said = {"xsrf": xsrf[1], "logout": "yes"}
        done = session.browser("POST", f"{self.provider.issuer}/session/end/confirm", data=said)
        assert done.status_code in {200, 303}, done.text


@dataclass
class Session:
    place: Place
    browser: Browser

    def sign_in(self, account: str, query: str = "", **how: str) -> httpx.Response:
        return self.browser.follow(f"{self.place.url}/auth/login{query}", account=account, **how)

    @property
    def cookie(self) -> str:
        return self.browser.jars[self.place.host][COOKIE]

    def get(self, path: str) -> httpx.Response:
        return self.browser("GET", self.place.url + path)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        ours = {"Origin": self.place.url, "X-CSRF-Token": csrf_token(self.cookie)}
        return self.browser("POST", self.place.url + path, json=body, headers=ours | headers)

    def approve(self, ticket: dict[str, Any]) -> httpx.Response:
        body = {"decision": "approve", "digest": ticket["digest"]}
        return self.post(f"/v1/requests/{ticket['id']}/decisions", body)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


SIGNIN = """
[signin]
issuer = "{issuer}"
client_id = "muniment"
client_secret = "env:MUNIMENT_TEST_SECRET"
groups_claim = "groups"
scopes = ["openid", "email", "groups"]
[signin.levels]
phr = 2
[signin.groups]
leads = "platform"
"""


def opened(folder: Path, port: int, provider: TemporaryProvider, demand: str = '@assurance("2")') -> Api:
    config = initialised(folder)
    text = config.read_text().replace("127.0.0.1:8642", f"127.0.0.1:{port}")
    text = text.replace("[server]\n", "[server]\nrate = 100000\n")  # strangers share one
    said = SIGNIN.format(issuer=provider.issuer)
    config.write_text(text + said)
    people = folder / "policies/people.cedar"
    people.write_text(people.read_text().replace('@approvers("', f'{demand} @approvers("'))
    settings = load(config)
    desk = open_desk(settings)
    record(desk)
    server = open_api(settings, desk)
    server.start()
    http = httpx.Client(base_url=server.url, timeout=60, trust_env=False)
    api = Api(desk, server._office, folder, http)
    api.server = server  # type: ignore[attr-defined]
    return api


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, TemporaryProvider(f"http://127.0.0.1:{port}") as provider:
        patch.setenv("MUNIMENT_TEST_SECRET", SECRET)
        api = opened(tmp_path_factory.mktemp("signin") / "access", port, provider)
        yield Place(api, provider)
        api.http.close()
        assert api.server.stop(30)  # type: ignore[attr-defined]
        api.desk.store.engine.dispose()


# ── in, and out ──


def test_a_person_signs_in_and_out(place: Place) -> None:
    session = place.signed_in("a-1")
    said = session.get("/auth/session").json()
    assert (said["identity"], said["level"], said["acr"], said["issuer"]) == (
        ANN,
        1,
        "pwd",
        place.provider.issuer,
    )
    assert said["csrf"] == csrf_token(session.cookie)
    assert said["fresh"] is True
    assert session.get("/v1/whoami").json()["id"] == ANN
    filed = session.post("/v1/requests", REQUEST)
    assert filed.status_code == 201, filed.text
    cookie = session.cookie
    out = session.post("/auth/logout")
    assert out.json()["signed_out"] is True
    assert urlsplit(out.json()["continue_at"]).netloc == urlsplit(place.provider.issuer).netloc
    assert COOKIE not in session.browser.jars[place.host]
    again = place.api.http.get("/v1/whoami", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert (again.status_code, code(again)) == (401, "unauthenticated.revoked")


def test_the_cookie_is_bound_to_this_host_and_out_of_reach_of_scripts_and_other_sites(place: Place) -> None:
    session = place.signed_in("a-1")
    for name in (COOKIE, api_signin.NOTE):
        said = {part.strip().lower() for part in session.browser.attributes[name].split(";")}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= said
        assert not any(part.startswith("domain") for part in said)
        assert name.startswith("__Host-")
    rows = (place.api.folder / "var/muniment.db").read_bytes() + (
        place.api.folder / "var/muniment.db-wal"
    ).read_bytes()
    secret = session.cookie.rpartition("_")[2]
    assert secret.encode() not in rows
    assert bytes.fromhex(secret) not in rows


def test_what_is_asked_of_the_provider_is_bound_to_this_login(place: Place) -> None:
    asked = []
    for _ in range(2):
        answer = place.api.http.get("/auth/login")
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        assert query["response_type"] == ["code"]
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [f"{place.url}/auth/callback"]
        asked.append({query[name][0] for name in ("state", "nonce", "code_challenge")})
    assert asked[0].isdisjoint(asked[1])


def test_a_session_ends_without_use_and_when_its_time_is_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = place.signed_in("a-1")
    clock = place.api.desk.clock
    now = clock.now()
    sessions = place.api.office.signin.sessions  # type: ignore[union-attr]
    late = lambda minutes: now + timedelta(minutes=minutes)  # noqa: E731

    def over(at: Any) -> str | None:
        try:
            sessions.authenticate(session.cookie, at)
        except Exception as error:
            return getattr(error, "code", None)
        return None

    assert over(late(29)) is None  # used, and so …
    assert over(late(58)) is None
    assert over(late(89)) == "unauthenticated.expired"  # … until it is not
    other = place.signed_in("a-1")
    session.browser.jars[place.host][COOKIE] = other.cookie
    for minutes in range(20, 741, 20):
        assert over(late(minutes)) == (None if minutes <= 720 else "unauthenticated.expired"), minutes


def test_a_stream_ends_with_its_session_and_is_no_use_of_it(place: Place) -> None:
    session = place.signed_in("o-1")
    sessions = place.api.office.signin.sessions  # type: ignore[union-attr]
    later = place.api.desk.clock.now() + timedelta(minutes=29)
    assert sessions.unused.authenticate(session.cookie, later) is not None
    with pytest.raises(Unauthenticated):  # 29 minutes of streaming were no use
        sessions.authenticate(session.cookie, later + timedelta(minutes=2))
    ticket = place.api.filed()["id"]
    seal(place.api.desk)
    headers = {"Cookie": f"{COOKIE}={session.cookie}", "Last-Event-ID": "0"}
    with place.api.http.stream("GET", "/v1/stream", headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert any(ticket in line for line in lines)
        session.post("/auth/logout")
        list(lines)  # ends


# ── answers that are not to this browser's question ──


def test_an_answer_is_good_only_in_the_browser_that_asked_and_once(place: Place) -> None:
    mine, other = Session(place, Browser()), Session(place, Browser())
    answer = mine.browser.follow(f"{place.url}/auth/login", account="a-1", stop="/auth/callback")
    link = answer.headers["location"]
    for browser in (other.browser, Browser()):
        refused = browser("GET", link)
        assert (refused.status_code, code(refused)) == (403, "refused.login-state")
    note = mine.browser.jars[place.host][api_signin.NOTE]
    for wrong in ("", "x", note[:-2], note.replace(".", "A.", 1), f"{note}.{note}", "."):
        refused = place.api.http.get(link, headers={"Cookie": f"{api_signin.NOTE}={wrong}"})
        assert (refused.status_code, code(refused)) == (403, "refused.login-state"), wrong
    assert mine.browser("GET", link).status_code == 302
    refused = place.api.http.get(link, headers={"Cookie": f"{api_signin.NOTE}={note}"})
    assert (refused.status_code, code(refused)) == (403, "refused.login")  # the code was used


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda q: {**q, "state": "x"}, "refused.login-state"),
        (lambda q: {k: v for k, v in q.items() if k != "state"}, "refused.login-state"),
        (lambda q: {**q, "iss": "https://other.example"}, "refused.login-issuer"),
        (lambda q: {k: v for k, v in q.items() if k != "iss"}, "refused.login-issuer"),
        (lambda q: {**q, "code": "x" * 43}, "refused.login"),
        (lambda q: {"state": q["state"], "iss": q["iss"], "error": "access_denied"}, "refused.login"),
    ],
)
def test_an_answer_that_was_changed(place: Place, change: Any, wanted: str) -> None:
    browser = Browser()
    answer = browser.follow(f"{place.url}/auth/login", account="a-1", stop="/auth/callback")
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    refused = browser("GET", f"{place.url}/auth/callback", params=change(query))
    assert (refused.status_code, code(refused)) == (403, wanted)
    assert COOKIE not in browser.jars[place.host]


def test_a_code_of_another_browsers_login_is_not_taken(place: Place) -> None:
    """PKCE and nonce: a code that was put into somebody's own login."""
    mine, theirs = Browser(), Browser()
    here = mine.follow(f"{place.url}/auth/login", account="a-1", stop="/auth/callback").headers["location"]
    there = theirs.follow(f"{place.url}/auth/login", account="c-1", stop="/auth/callback").headers["location"]
    stolen = parse_qs(urlsplit(here).query)["code"][0]
    refused = theirs("GET", re.sub(r"code=[^&]*", f"code={stolen}", there))
    assert (refused.status_code, code(refused)) == (403, "refused.login")


@pytest.mark.parametrize(
    "back",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:x",
        "",
        "/a b",
        "/%0d%0aX: y\r\n",
        "x",
    ],
)
def test_nobody_is_sent_elsewhere(place: Place, back: str) -> None:
    answer = place.api.http.get("/auth/login", params={"return_to": back})
    assert answer.status_code in {302, 422}
    if answer.status_code == 302:  # an empty one is none
        assert back == ""
    session = place.signed_in("a-1", "?return_to=/v1/whoami")
    assert session.get("/auth/session").status_code == 200


# ── whose an account is ──


@pytest.mark.parametrize(
    ("account", "wanted"),
    [
        ("x-1", "refused.unknown-identity"),
        ("u-1", "refused.login-unverified"),
        ("n-1", "refused.login-unnamed"),
        ("h-1", "unauthenticated.claim"),
        ("h-2", "refused.unknown-identity"),
        ("nobody", "refused.login"),
    ],
)
def test_who_is_not_let_in_is_told_why(place: Place, account: str, wanted: str) -> None:
    session = Session(place, Browser())
    refused = session.sign_in(account)
    assert (refused.status_code, code(refused)) == (401 if wanted.startswith("un") else 403, wanted)
    assert refused.json()["remedy"]
    assert "\u202e" not in refused.text
    assert COOKIE not in session.browser.jars[place.host]
    session = Session(place, Browser())
    session.browser.headers["Accept"] = "text/html"
    page = session.sign_in(account)
    assert page.headers["content-type"].startswith("text/html")
    assert wanted in page.text
    assert not re.search(r'<script(?! src="/static/)', page.text)
    assert "\u202e" not in page.text


def test_an_account_is_one_identitys_and_an_identity_has_one_account(place: Place) -> None:
    desk = place.api.desk
    place.signed_in("c-1")
    linked = [e.event for e in desk.store.entries(LOGINS)]
    assert [e.identity for e in linked if getattr(e, "subject", "") == "c-1"] == [CYD]
    place.signed_in("c-1")
    assert len(desk.store.entries(LOGINS)) == len(linked)  # once, not at each login
    refused = Session(place, Browser()).sign_in("c-2")  # another account with the same mail address
    assert (refused.status_code, code(refused)) == (403, "refused.login-linked")
    unlink(desk, desk.caller("human:ops@example.com", "local"), CYD)
    assert place.signed_in("c-2").get("/v1/whoami").json()["id"] == CYD
    refused = Session(place, Browser()).sign_in("c-1")
    assert code(refused) == "refused.login-linked"
    unlink(desk, desk.caller("human:ops@example.com", "local"), CYD)
    place.signed_in("c-1")


def test_a_group_that_the_provider_does_not_confirm_counts_for_nothing(place: Place) -> None:
    """Cyd is in the group here; the provider says ``leads`` of c-1, and of ops no group at all."""
    assert "platform" in place.signed_in("c-1").get("/v1/whoami").json()["groups"]
    ticket = place.api.filed()
    assert place.signed_in("c-1").get(f"/v1/requests/{ticket['id']}").status_code == 200
    signin = place.api.office.signin
    assert signin is not None
    narrowed = dataclasses.replace(signin, groups={"other": "platform"})
    place.api.office.signin = narrowed
    try:
        session = place.signed_in("c-1", "?level=2", acr="phr")
        assert "platform" not in session.get("/v1/whoami").json()["groups"]
        assert session.get(f"/v1/requests/{ticket['id']}").status_code == 404
        assert session.approve(ticket).status_code == 404
    finally:
        place.api.office.signin = signin


# ── stepping up ──


def test_where_policy_demands_assurance_an_approver_steps_up(place: Place) -> None:
    ticket = place.api.filed()
    by_token = place.api(
        "POST",
        f"/v1/requests/{ticket['id']}/decisions",
        {"decision": "approve", "digest": ticket["digest"]},
        who=CYD,
    )
    assert (by_token.status_code, code(by_token)) == (403, "refused.assurance-required")
    session = place.signed_in("c-1")
    refused = session.approve(ticket)
    assert (refused.status_code, code(refused)) == (403, "refused.assurance-required")
    assert "/auth/login?level=2" in refused.json()["remedy"]
    before = session.cookie
    assert session.sign_in("c-1", "?level=2", acr="phr").status_code == 200
    assert session.cookie != before
    old = place.api.http.get("/v1/whoami", headers={"Cookie": f"{COOKIE}={before}"})
    assert code(old) == "unauthenticated.revoked"  # a session is replaced, not raised
    assert session.get("/auth/session").json()["level"] == 2
    approved = session.approve(ticket)
    assert approved.status_code == 201, approved.text
    login = approved.json()["decisions"][0]["login"]
    assert (login["level"], login["acr"], login["subject"]) == (2, "phr", "c-1")
    seal(place.api.desk)
    found = verify_store(place.api.desk)
    assert found["ok"], found


def test_an_old_login_does_not_do_for_approving(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    session = place.signed_in("c-1", "?level=2", acr="phr")
    ticket = place.api.filed()
    monkeypatch.setattr("muniment.core.login.FRESH", timedelta(seconds=-1))
    refused = session.approve(ticket)
    assert (refused.status_code, code(refused)) == (403, "refused.assurance-required")


def test_no_login_has_an_assurance_that_nothing_here_means(place: Place) -> None:
    refused = place.api.http.get("/auth/login", params={"level": 3})
    assert (refused.status_code, code(refused)) == (403, "refused.no-such-assurance")


# ── other sites ──

POSTS = [route for route in CLOSED if route.method != "GET"]


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.name)
def test_a_change_with_a_cookie_comes_from_a_page_of_ours(place: Place, route: Route) -> None:
    cookie = place_cookie(place)
    good = {"Origin": place.url, "X-CSRF-Token": csrf_token(cookie)}
    for change in (
        {"Origin": None, "X-CSRF-Token": None},
        {"X-CSRF-Token": None},
        {"Origin": None},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": place.url + ".evil.example"},
        {"X-CSRF-Token": "0" * 64},
        {"X-CSRF-Token": csrf_token(cookie[:-1] + "g")},
        {"Origin": None, "Sec-Fetch-Site": "same-site"},
        {"Origin": None, "Sec-Fetch-Site": "cross-site"},
    ):
        headers = {k: v for k, v in (good | change).items() if v is not None} | {
            "Cookie": f"{COOKIE}={cookie}"
        }
        refused = ask(place.api, route, who=None, headers=headers)
        # what only a token made for it may call, no session may
        assert any(is_refused(refused, 403, why) for why in ("refused.csrf", "refused.scope")), change


_cookies: dict[int, str] = {}


def place_cookie(place: Place) -> str:
    if id(place) not in _cookies:
        _cookies[id(place)] = place.signed_in("o-1").cookie
    return _cookies[id(place)]


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)
def test_sessions_that_are_not_good(place: Place, route: Route) -> None:
    """Unknown, another's secret, ended, a token as a cookie, a session as a bearer, two cookies of one name."""
    cookie = place_cookie(place)
    head, _, secret = cookie.rpartition("_")
    ended = place.signed_in("o-1") if route is CLOSED[0] else None
    if ended:
        ended.post("/auth/logout")
    for wrong in ("x", f"mns_{'0' * 16}_{'0' * 64}", f"{head}_{secret[::-1]}", place.api.token(ANN)):
        headers = {"Cookie": f"{COOKIE}={wrong}", "Origin": place.url, "X-CSRF-Token": csrf_token(wrong)}
        refused = ask(place.api, route, who=None, headers=headers)
        assert is_refused(refused, 401, "unauthenticated"), wrong
    twice = f"{COOKIE}={cookie}; {COOKIE}={cookie}"
    assert is_refused(ask(place.api, route, who=None, headers={"Cookie": twice}), 401, "unauthenticated")
    assert is_refused(ask(place.api, route, who=None, token=cookie), 401, "unauthenticated")


@pytest.mark.parametrize("hostile", CORPUS.values(), ids=CORPUS.keys())
def test_hostile_values(place: Place, hostile: str) -> None:
    if len(hostile) > 5000 or not _sendable(hostile):
        return
    for name in ("level", "return_to"):
        assert place.api.http.get("/auth/login", params={name: hostile}).status_code in {302, 422}
    for name in ("code", "state", "iss", "error"):
        assert place.api.http.get("/auth/callback", params={name: hostile}).status_code in {403, 422}
    answer = place.api.http.post("/auth/backchannel-logout", data={"logout_token": hostile})
    assert answer.status_code == 400


def _sendable(text: str) -> bool:
    """Half a surrogate is no UTF-8: no client sends it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


# ── out, because the provider says so ──


def test_who_signs_out_at_the_provider_is_signed_out_here_at_once(place: Place) -> None:
    first, second, other = place.signed_in("c-1"), place.signed_in("c-1"), place.signed_in("a-1")
    place.signed_out_at_provider(first)
    assert code(first.get("/v1/whoami")) == "unauthenticated.revoked"
    assert second.get("/v1/whoami").status_code == 200  # another session there
    assert other.get("/v1/whoami").status_code == 200


def test_a_logout_token_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's own token, which names no session: a copy of it would end those that were begun since."""
    port = free_port()
    monkeypatch.setenv("MUNIMENT_TEST_SECRET", SECRET)
    with TemporaryProvider(f"http://127.0.0.1:{port}", sessions_named=False) as provider:
        place = Place(opened(tmp_path / "access", port, provider), provider)
        try:
            signin = place.api.office.signin
            assert signin is not None
            heard: list[str] = []
            verify = signin.provider.signed_out

            def overhear(token: str, now: datetime) -> SignedOut:
                heard.append(token)
                return verify(token, now)

            monkeypatch.setattr(signin.provider, "signed_out", overhear)
            before = place.signed_in("a-1")
            place.signed_out_at_provider(before)
            assert code(before.get("/v1/whoami")) == "unauthenticated.revoked"
            (token,) = heard
            since = place.signed_in("a-1")
            for _ in range(2):
                again = place.api.http.post("/auth/backchannel-logout", data={"logout_token": token})
                assert (again.status_code, code(again)) == (400, "invalid.logout-token")
            assert since.get("/v1/whoami").status_code == 200
            place.signed_out_at_provider(since)  # another token, which counts
            assert code(since.get("/v1/whoami")) == "unauthenticated.revoked"
        finally:
            place.api.http.close()
            assert place.api.server.stop(30)  # type: ignore[attr-defined]
            place.api.desk.store.engine.dispose()


def test_a_logout_token_that_is_not_one_ends_nothing(place: Place) -> None:
    session = place.signed_in("a-1")
    for wrong in ("", "x", "a.b.c", session.cookie):
        answer = place.api.http.post("/auth/backchannel-logout", data={"logout_token": wrong})
        assert (answer.status_code, code(answer)) == (400, "invalid.logout-token")
    assert place.api.http.post("/auth/backchannel-logout", json={"logout_token": "x"}).status_code == 400
    assert place.api.http.post("/auth/backchannel-logout").status_code == 400
    assert session.get("/v1/whoami").status_code == 200


# ── without the provider ──


def test_when_the_provider_is_away_sessions_tokens_and_broken_glass_go_on(place: Place) -> None:
    session = place.signed_in("a-1")
    place.provider.stop()
    try:
        assert session.get("/v1/whoami").status_code == 200
        glass = REQUEST | {"break_glass": True, "incident": "INC-1"}
        assert place.api("POST", "/v1/requests", glass, who="human:bo@example.com").json()["status"] in {
            "pending", "approved", "provisioning", "active",
        }  # fmt: skip
        browser = Browser()
        away = place.api.http.get("/auth/login")
        assert away.status_code == 302  # where it is, is known
        assert browser("GET", f"{place.url}/auth/callback", params={"code": "x"}).status_code == 403
        assert session.post("/auth/logout").json()["signed_out"] is True
    finally:
        place.provider.rotate()
        place.provider.start()
    again = Session(place, Browser())
    answer = again.sign_in("a-1")
    assert answer.status_code in {200, 401}  # the new keys are read at most every ten seconds


def test_no_provider_means_no_sign_in(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.office, "signin", None)  # as where links let nobody in either
    refused = api("POST", "/auth/device", who=None, data={"client_id": "muniment-cli"})
    assert (refused.status_code, refused.json()["error"]) == (404, "invalid_request")
    for path in ("/auth/login", "/auth/callback", "/.well-known/oauth-authorization-server"):
        answer = api("GET", path, who=None)
        assert (answer.status_code, code(answer)) == (404, "not-found.sign-in")
    assert code(api("GET", "/auth/session")) == "unauthenticated.no-session"
