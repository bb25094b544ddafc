"""Pages for whoever looks over all of it: people, audit, policy and the ledger, where changes take two people."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from api.conftest import ANN, AUD, BO, CYD, OPS, REQUEST, Api, free_port, initialised, quiet  # noqa: F401  no line a request
from muniment.api.signin import COOKIE
from muniment.cli.session import record
from muniment.config import load
from muniment.main import open_api, open_desk
from muniment.service import changing
from muniment.service.login_links import make
from muniment.service.pursuing import pursue
from muniment.service.sealing import seal
from muniment.service.sessions import csrf_token
from muniment.service.trends import spread

OPS_2 = "human:ora@example.com"
DEPLOY = "service_account:deploy"


class Reader:
    """Somebody's browser, who came in by a link."""

    def __init__(self, api: Api, who: str) -> None:
        self.api, self.who = api, who
        token = make(api.desk, None, who, api.office.url)["link"].partition("#")[2]
        answer = api.http.post("/auth/link", data={"token": token}, headers={"Origin": api.office.url})
        self.cookie = answer.headers["set-cookie"].split(";")[0].partition("=")[2]

    def get(self, path: str, **headers: str) -> httpx.Response:
        given = {"Accept": "text/html", "Cookie": f"{COOKIE}={self.cookie}"} | headers
        return self.api.http.get(path, headers=given)

    def post(self, path: str, /, **form: str) -> httpx.Response:
        headers = {"Accept": "text/html", "Cookie": f"{COOKIE}={self.cookie}", "Origin": self.api.office.url}
        return self.api.http.post(path, data={"csrf": csrf_token(self.cookie), **form}, headers=headers)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """As `muniment init` makes it, but that changes take two people, of whom there are two."""
    port = free_port()
    config = initialised(tmp_path_factory.mktemp("overview") / "access")
    text = config.read_text().replace('listen = "127.0.0.1:8642"', f'listen = "127.0.0.1:{port}"')
    config.write_text(re.sub(r"single_person_trial = true.*", "", text))
    people = config.parent / "identities.toml"
    people.write_text(
        f'{people.read_text()}\n[identities."{OPS_2}"]\nname = "Ora"\nroles = ["member", "operator"]\n'
    )
    settings = load(config)
    desk = open_desk(settings)
    record(desk)
    server = open_api(settings, desk)
    server.start()
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        yield Api(desk, server._office, config.parent, http)
    assert server.stop(30)
    desk.store.engine.dispose()


@pytest.fixture(scope="module")
def aud(api: Api) -> Reader:
    return Reader(api, AUD)


@pytest.fixture(scope="module")
def ann(api: Api) -> Reader:
    return Reader(api, ANN)


@pytest.fixture(scope="module")
def told(api: Api) -> str:
    """A ticket's whole life, sealed. Where two have to approve, both do."""
    ticket = api.filed()
    body = {"decision": "approve", "digest": ticket["digest"]}
    for who in (CYD, "human:dee@example.com"):
        api("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=who)
    assert api.desk.store.read(ticket["id"])[1].status == "approved"
    pursue(api.desk, ticket["id"])
    api("POST", f"/v1/requests/{ticket['id']}/return")
    pursue(api.desk, ticket["id"])
    seal(api.desk)
    return str(ticket["id"])


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


# ── who sees what ──


@pytest.mark.parametrize("path", ["/audit", "/audit.csv", "/audit/trends", "/audit/sample", "/policy", "/policy/what-if", "/policy/backtest", "/ledger", "/checkpoints.csv"])  # fmt: skip
def test_only_auditors_and_operators_look_over_all_of_it(
    api: Api, aud: Reader, ann: Reader, path: str
) -> None:
    assert aud.get(path).status_code == 200
    assert ann.get(path).status_code == 403
    assert f'href="{path}"' not in ann.get("/").text


def test_one_sees_oneself_and_what_one_answers_for(api: Api, aud: Reader, ann: Reader, told: str) -> None:
    assert {r["id"] for r in rows(ann.get("/people.csv"))} == {ANN, DEPLOY}
    assert {r["id"] for r in rows(aud.get("/people.csv"))} == {i.id for i in api.desk.directory.everybody()}
    for who in (ANN, DEPLOY):
        assert ann.get(f"/person?id={quote(who)}").status_code == 200
    hidden, absent = ann.get(f"/person?id={BO}"), ann.get("/person?id=human:xo@example.com")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("bo@", "xo@") == absent.text
    page = aud.get(f"/person?id={ANN}").text
    assert told in page
    assert "Deployment" in page  # what she answers for
    assert "First on record" in page
    assert "Ann" in aud.get(f"/person?id={DEPLOY}").text


@pytest.mark.parametrize(
    "name", ["", "x", "human:", "human:" + "a" * 280, "robot:x", "human:<script>", "human:ann@example.com\0"]
)
def test_names_that_are_nobodys(aud: Reader, name: str) -> None:
    answer = aud.get(f"/person?{urlencode({'id': name})}")
    assert answer.status_code in {400, 404, 422}
    assert "<script>" not in answer.text.replace("<script src", "")


def test_people_are_narrowed(aud: Reader) -> None:
    def found(**wanted: str) -> set[str]:
        return {r["id"] for r in rows(aud.get(f"/people.csv?{urlencode(wanted)}"))}

    assert found(kind="service_account") == {DEPLOY}
    assert found(group="engineers") == {ANN, BO}
    assert found(q="ANN example") == {ANN}
    assert found(gone="true") == set()
    assert found(unowned="true") == set()


def test_who_left_is_on_record(api: Api, aud: Reader) -> None:
    people = api.folder / "identities.toml"
    before = people.read_text()
    people.write_text(f'{before}\n[identities."human:eve@example.com"]\nname = "Eve"\n')
    assert api.desk.directory.reload_if_changed()
    record(api.desk)
    people.write_text(before)
    assert api.desk.directory.reload_if_changed()
    record(api.desk)
    page = aud.get("/person?id=human:eve@example.com").text
    assert "gone from the directory" in page
    assert "Gone from the directory" in page


# ── audit ──


def test_every_entry_is_found_by_what_it_is_about(aud: Reader, told: str) -> None:
    entries = rows(aud.get(f"/audit.csv?about={told}"))
    assert [int(e["place"]) for e in entries] == list(range(len(entries)))[::-1]
    assert entries[-1]["kind"] == "request-submitted/1"
    approvals = rows(aud.get("/audit.csv?kind=approval-recorded&who=cyd@example.com"))
    assert {(e["kind"], e["actor"]) for e in approvals} == {("approval-recorded/1", CYD)}
    assert told in {e["about"] for e in rows(aud.get("/audit.csv?target=bastion"))}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert rows(aud.get(f"/audit.csv?since={today}&until={today}"))
    assert rows(aud.get("/audit.csv?until=2020-01-01")) == []
    assert "asked for" in aud.get(f"/audit?about={told}").text
    assert aud.get(f"/audit?about={ANN}").text.count(">identity-recorded/1<") == 1


def test_the_list_of_entries_goes_on(aud: Reader, told: str) -> None:
    whole = [int(e["leaf"]) for e in rows(aud.get("/audit.csv"))]
    found: list[int] = []
    path: str | None = "/audit"
    while path:
        page = aud.get(path).text
        found += map(int, re.findall(r'data-says="leaf">(\d+)<', page))
        more = re.search(r'href="([^"]+)" rel="next"', page)
        path = more[1].replace("&amp;", "&") if more else None
    assert found == whole


@pytest.mark.parametrize("query", ["kind=x", "who=", "since=x", "until=9999-12-31", "cursor=x", "cursor=2026-01-01T00:00:00Z~x", "about=%00", "about='%20OR%201=1"])  # fmt: skip
def test_what_cannot_be_searched_for(aud: Reader, query: str) -> None:
    assert aud.get(f"/audit?{query}").status_code in {200, 422}


def test_a_sample_can_be_drawn_again_by_anybody(api: Api, aud: Reader, told: str) -> None:
    for _ in range(6):
        api.filed()
    path = "/audit/sample.csv?seed=2026&count=3"
    first = rows(aud.get(path))
    assert rows(aud.get(path)) == first
    everything = sorted(t["id"] for t in rows(aud.get("/tickets.csv")))
    turns = (int(hashlib.sha256(f"2026\n{k}".encode()).hexdigest(), 16) % len(everything) for k in range(99))
    assert [t["id"] for t in first] == [everything[place] for place in list(dict.fromkeys(turns))[:3]]
    assert len({t["id"] for t in rows(aud.get("/audit/sample.csv?seed=2026&count=500"))}) == len(everything)
    assert {t["population"] for t in first} == {str(len(everything))}
    assert rows(aud.get(f"{path}&until=2020-01-01")) == []
    assert {t["status"] for t in rows(aud.get(f"{path}&status=closed"))} <= {"closed"}
    for wrong in ("count=0", "count=501", "status=x", "since=x"):
        assert aud.get(f"/audit/sample?seed=x&{wrong}").status_code == 200
        assert 'role="alert"' in aud.get(f"/audit/sample?seed=x&{wrong}").text


def test_how_it_goes_over_time_is_what_tickets_say(api: Api, aud: Reader, told: str) -> None:
    api.desk.trends._known = None
    now = rows(aud.get("/audit/trends.csv"))[-1]
    assert now["month"] == f"{datetime.now(UTC):%Y-%m}"
    tickets = rows(aud.get("/tickets.csv"))
    assert int(now["tickets"]) == len(tickets)
    assert int(now["decided"]) == sum(t["status"] not in {"pending", "withdrawn", "lapsed"} for t in tickets)
    assert int(now["gone"]) == sum(bool(t["gone_at"]) for t in tickets) >= 1
    page = aud.get("/audit/trends").text
    assert page.count('<svg viewBox="0 -16 640') == 3  # nobody looked what targets hold
    assert page.count("As a table") == 4


def test_durations_are_spread() -> None:
    assert spread([]) is None
    one = spread([7])
    assert one
    assert (one.count, one.median, one.slow) == (1, 7, 7)
    many = spread(list(range(1, 101)))
    assert many
    assert (many.count, many.median, many.slow) == (100, 50, 95)


# ── filters ──


def test_filters_are_ones_own(aud: Reader, ann: Reader) -> None:
    kept = aud.post("/filters", path="/tickets", query="status=closed", name="Done <b>")
    assert (kept.status_code, kept.headers["location"]) == (303, "/tickets?status=closed")
    page = aud.get("/tickets").text
    assert 'href="/tickets?status=closed">Done &lt;b&gt;</a>' in page
    assert "Done &lt;b&gt;" not in ann.get("/tickets").text
    assert "Done &lt;b&gt;" not in aud.get("/grants").text
    aud.post("/filters/forget", path="/tickets", query="", name="Done <b>")
    assert "Done &lt;b&gt;" not in aud.get("/tickets").text


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/nowhere", "", "x"), ("https://evil.example", "", "x"), ("/tickets", "other=x", "x"), ("/tickets", "status", "x"),
        ("/tickets", "status=x", ""), ("/tickets", "status=x", " "), ("/audit/sample", "count=x", "x"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_not_kept(aud: Reader, path: str, query: str, name: str) -> None:
    assert aud.post("/filters", path=path, query=query, name=name).status_code == 422


# ── policy ──


def proposed(api: Api, who: str = OPS) -> str:
    rules = api.folder / "policies/people.cedar"
    rules.write_text(f"{rules.read_text()}// {time.time_ns()}\n")
    change = changing.propose(
        api.desk, api.desk.caller(who, "api"), api.folder / "policies", "Shorter <days>"
    )
    return str(change["change"])


def test_a_change_takes_two_people_here_too(api: Api, aud: Reader) -> None:
    change = proposed(api)
    ops, ora = Reader(api, OPS), Reader(api, OPS_2)
    before = api.desk.policy.digest
    page = aud.get(f"/policy/changes/{change}").text
    assert "Shorter &lt;days&gt;" in page
    assert 'class="is-in"' in page
    assert "/adopt" not in page  # an auditor changes nothing
    assert aud.post(f"/policy/changes/{change}/adopt").status_code == 403
    alone = ops.post(f"/policy/changes/{change}/adopt")
    assert alone.status_code == 403
    assert 'role="alert"' in alone.text
    assert api.desk.policy.digest == before
    assert ora.post(f"/policy/changes/{change}/adopt").status_code == 303
    assert api.desk.policy.digest != before
    seal(api.desk)
    policy = aud.get("/policy").text
    assert api.desk.policy.digest in policy
    assert "Policy adopted" in policy
    other = proposed(api)
    assert ora.post(f"/policy/changes/{other}/refuse", comment="").status_code in {400, 422}
    assert ora.post(f"/policy/changes/{other}/refuse", comment="No.").status_code == 303
    assert "Refused" in aud.get(f"/policy/changes/{other}").text


def test_a_change_is_for_those_who_may_see_it(api: Api, ann: Reader) -> None:
    change = proposed(api)
    assert ann.get(f"/policy/changes/{change}").status_code == 403
    assert ann.post(f"/policy/changes/{change}/adopt").status_code == 403


def test_what_if_answers_as_policy_would(api: Api, aud: Reader) -> None:
    tickets = api.tickets()

    def asked(**more: Any) -> str:
        query = {
            "who": "ann@example.com",
            "target": "bastion",
            "privilege": "web-admin",
            "duration": "1h",
        } | more
        return aud.get(f"/policy/what-if?{urlencode(query)}").text

    privilege = str(REQUEST["scope"][0]["privilege"])  # type: ignore[index]
    assert "It could be asked for" in asked(privilege=privilege)
    assert "It would be refused" in asked(privilege=privilege, duration="300d")
    assert 'role="alert"' in asked(privilege=privilege, who="nobody@example.com")
    assert 'role="alert"' in asked(privilege="nothing")
    assert 'role="alert"' in asked(privilege=privilege, target="nowhere")
    assert 'role="alert"' in asked(privilege=privilege, by="chg_nothing")
    change = proposed(api)
    assert "It could be asked for" in asked(privilege=privilege, by=change)
    assert api.tickets() == tickets


def test_a_backtest_runs_beside_and_is_looked_at(api: Api, aud: Reader, told: str) -> None:
    begun = aud.post("/policy/backtest", by="folder", since="30d")
    assert begun.status_code == 303
    where = begun.headers["location"]
    for _ in range(200):
        part = aud.get(where, **{"HX-Request": "true"}).text
        if "It runs" not in part:
            break
        time.sleep(0.05)
    assert "would have been decided otherwise" in part
    assert f"of {api.tickets()} would" in part
    assert where in aud.get("/policy/backtest").text
    assert aud.get("/policy/backtest/bkt_nothing").status_code == 404
    for wrong in ({"by": "folder", "since": "1d"}, {"by": "chg_nothing", "since": "30d"}):
        assert aud.post("/policy/backtest", **wrong).status_code in {404, 422}
        assert 'role="alert"' in aud.post("/policy/backtest", **wrong).text


# ── the ledger ──


def test_the_ledger_says_how_far_it_is(api: Api, aud: Reader, told: str) -> None:
    seal(api.desk)
    page = aud.get("/ledger").text
    head = api.desk.ledger.head()
    assert f"<dd>{head.size}</dd>" in page
    assert api.desk.verifiers[0].vkey in page.replace("&#43;", "+")
    checkpoints = [int(c["entries"]) for c in rows(aud.get("/checkpoints.csv"))]
    assert checkpoints == sorted(checkpoints, reverse=True)
    assert checkpoints[0] == head.size
    api.filed()
    waiting = api.desk.ledger.backlog()
    assert waiting > 0
    assert f"<dd>{waiting} <span" in aud.get("/ledger").text
