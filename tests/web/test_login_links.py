"""A link signs one person in, once: whatever else is done with it is refused, and the ledger has both ends of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from api.conftest import ANN, AUD, OPS, Api, deactivate, free_port, initialised, quiet  # noqa: F401  no line a request
from muniment.api.signin import COOKIE
from muniment.cli.session import record
from muniment.config import load
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.events import TokenMade, TokenRevoked
from muniment.main import open_api, open_desk
from muniment.service import login_links, tokens
from muniment.service.login_links import make, open_link
from muniment.service.signing_in import SignIn
from muniment.store import tables as t
from muniment.store.engine import writing
from muniment.store.token_rows import token_row


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """As `muniment init` makes it: on this machine, and without an identity provider."""
    port = free_port()
    config = initialised(tmp_path_factory.mktemp("links") / "access")
    config.write_text(config.read_text().replace('listen = "127.0.0.1:8642"', f'listen = "127.0.0.1:{port}"'))
    settings = load(config)
    desk = open_desk(settings)
    record(desk)
    server = open_api(settings, desk)
    server.start()
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        yield Api(desk, server._office, config.parent, http)
    assert server.stop(30)
    desk.store.engine.dispose()


def token_of(api: Api, who: str = ANN, **more: Any) -> str:
    link = str(make(api.desk, None, who, api.office.url, **more)["link"])
    assert link.startswith(f"{api.office.url}/auth/link#mnt_")
    return link.partition("#")[2]


def enter(api: Api, token: str, *, origin: str | None = None, **form: str) -> httpx.Response:
    """As the page's form does."""
    headers = {"Accept": "text/html", "Origin": api.office.url if origin is None else origin}
    return api.http.post("/auth/link", data={"token": token, **form}, headers=headers)


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"].split(";")[0].partition("=")[2]


def session(api: Api, cookie: str) -> Any:
    return api.http.get("/auth/session", headers={"Cookie": f"{COOKIE}={cookie}"})


def test_a_link_signs_its_person_in_once(api: Api) -> None:
    made = make(api.desk, api.desk.caller(OPS, "local"), ANN, api.office.url)
    token = made["link"].partition("#")[2]
    answer = enter(api, token, return_to="/v1/whoami")
    assert (answer.status_code, answer.headers["location"]) == (303, "/v1/whoami")
    assert "; HttpOnly" in answer.headers["set-cookie"]
    who = session(api, cookie_of(answer)).json()
    assert (who["identity"], who["level"], who["issuer"]) == (ANN, 1, api.desk.store.origin)
    again = enter(api, token)
    assert again.status_code == 403
    assert "The link was used already" in again.text
    assert "set-cookie" not in again.headers
    story = [(each.actor, each.event) for each in api.desk.store.entries(f"token:{made['id']}")]
    assert [(actor, type(event)) for actor, event in story] == [(OPS, TokenMade), (ANN, TokenRevoked)]
    assert story[0][1].scopes == ("login",)


def test_opening_a_link_uses_nothing_up(api: Api) -> None:
    token = token_of(api)
    for _ in range(2):
        page = api.http.get("/auth/link", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "mnt_" not in page.text.replace('placeholder="mnt_…"', "")
    assert enter(api, token).status_code == 303


def test_whoever_wants_a_page_is_led_to_the_link_and_back(api: Api) -> None:
    to = api.http.get("/tickets?status=active", headers={"Accept": "text/html"})
    assert to.status_code == 302
    there = api.http.get(to.headers["location"])
    assert there.headers["location"] == "/auth/link?return_to=%2Ftickets%3Fstatus%3Dactive"
    page = api.http.get(there.headers["location"], headers={"Accept": "text/html"})
    assert 'value="/tickets?status=active"' in page.text


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x", ""]
)
def test_nobody_is_led_away(api: Api, back: str) -> None:
    assert enter(api, token_of(api), return_to=back).headers["location"] == "/"


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_no_other_site_signs_anybody_in(api: Api, origin: str) -> None:
    token = token_of(api)
    answer = enter(api, token, origin=origin)
    assert answer.status_code == 403
    assert "refused.csrf" in answer.text
    assert enter(api, token).status_code == 303  # it is still good


def test_the_session_before_is_over(api: Api) -> None:
    first = cookie_of(enter(api, token_of(api)))
    headers = {"Origin": api.office.url, "Cookie": f"{COOKIE}={first}"}
    second = cookie_of(api.http.post("/auth/link", data={"token": token_of(api, AUD)}, headers=headers))
    assert session(api, first).status_code == 401
    assert session(api, second).json()["identity"] == AUD


def test_a_link_is_good_for_nothing_else(api: Api) -> None:
    token = token_of(api)
    answer = api("GET", "/v1/requests", token=token)
    assert (answer.status_code, answer.json()["code"]) == (403, "refused.scope")
    assert enter(api, api.token(ANN)).status_code == 403  # and a token for programs is no link
    assert enter(api, api.token(ANN, "read")).status_code == 403


@pytest.mark.parametrize(
    "token",
    ["", "mnt_", "mnt_0000000000000000_" + "0" * 64, "' OR 1=1", "\u202emnt", "é" * 190, "mns_" + "0" * 16 + "_" + "0" * 64],
)  # fmt: skip
def test_what_is_no_link_is_refused(api: Api, token: str) -> None:
    answer = enter(api, token)
    assert answer.status_code == 403
    assert "refused.login-link" in answer.text


def test_somebody_elses_secret(api: Api) -> None:
    token = token_of(api)
    assert enter(api, token[:-64] + secrets.token_hex(32)).status_code == 403
    assert enter(api, token).status_code == 303


def test_a_link_that_is_over_or_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    short = token_of(api, lasts=timedelta(microseconds=1))
    assert "is over" in enter(api, short).text
    token = token_of(api)
    tokens.revoke(api.desk, None, token)
    assert "was used already, or revoked" in enter(api, token).text
    late = token_of(api)
    gone = deactivate(api.desk, ANN)
    with pytest.raises(Refused) as refused:
        open_link(gone, late)
    assert refused.value.code == "refused.inactive"


def test_of_two_at_once_one_comes_in(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(api)
    find = login_links.SqlTokens.find

    def slow(self: Any, token_id: str) -> Any:
        known = find(self, token_id)
        monkeypatch.setattr(login_links.SqlTokens, "find", find)
        assert enter(api, token).status_code == 303  # the other one, in between
        return known

    monkeypatch.setattr(login_links.SqlTokens, "find", slow)
    with pytest.raises(Refused) as refused:
        open_link(api.desk, token)
    assert refused.value.code == "refused.login-link"


def test_where_links_are_not_wanted_none_is_good(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(api)
    signin = api.office.signin
    assert signin
    without = SignIn(desk=signin.desk, sessions=signin.sessions, provider=None, links=False)
    monkeypatch.setattr(api.office, "signin", without)
    answer = enter(api, token)
    assert answer.status_code == 404
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("who", "lasts", "code"),
    [
        ("service_account:deploy", timedelta(minutes=1), "refused.not-a-person"),
        ("human:nobody@example.com", timedelta(minutes=1), "refused.unknown-identity"),
        (ANN, timedelta(hours=1, seconds=1), "invalid"),
        (ANN, timedelta(0), "invalid"),
    ],
)
def test_links_that_are_not_made(api: Api, who: str, lasts: timedelta, code: str) -> None:
    with pytest.raises(MunimentError) as error:
        make(api.desk, None, who, api.office.url, lasts)
    assert error.value.code == code


def test_who_may_make_one(api: Api) -> None:
    ann = api.desk.caller(ANN, "local")
    assert make(api.desk, ann, ANN, api.office.url)["identity"] == ANN
    with pytest.raises(Refused):
        make(api.desk, ann, OPS, api.office.url)
    with pytest.raises(Invalid):  # nor is a token that can do something besides
        tokens.create(api.desk, ann, ANN, lasts=timedelta(minutes=1), scopes=("login", "read"))


def test_a_row_that_was_put_back_lets_nobody_in_again(api: Api) -> None:
    token = token_of(api)
    rows = login_links.SqlTokens(api.desk.store)
    known = rows.find(token.split("_")[1])
    assert known
    assert enter(api, token).status_code == 303
    put_back = replace(known.row, revoked_at=None)
    row = token_row(put_back, api.desk.store.marker)
    with writing(api.desk.store.engine) as connection:
        connection.execute(t.token.update().where(t.token.c.id == known.row.id).values(**row))
    assert enter(api, token).status_code == 403
