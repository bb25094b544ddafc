"""The pages as they are sent: who gets them, what a browser may do with them, and what a stranger's text does in them."""

from __future__ import annotations

import csv
import html
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import event

from hostile.corpus import CORPUS, acting
from muniment.api.routes import Route
from muniment.api.signin import COOKIE
from muniment.api.table import TABLE
from muniment.core.campaign_items import Selection
from muniment.core.errors import MunimentError
from muniment.core.scope import Privilege
from muniment.ports import CatalogueEntry, Target
from muniment.service import certifying, deciding, delegating, looking
from muniment.service.certifying import Opening
from muniment.service.sessions import csrf_token
from muniment.service.tabular import to_csv
from muniment.web import lists, taking
from muniment.web.assets import asset, assets
from muniment.web.catalogue import find
from muniment.web.site import ROUTES
from web.conftest import ACCOUNTS, ANN, AUD, BO, CYD, OPS, Pages

pytestmark = pytest.mark.xdist_group("web")  # one server, one provider
NEVER = "req_00000000000000000000000000"
CLOSED = [route for route in ROUTES if route.scope]
CHANGING = [route for route in ROUTES if route.method == "POST"]
HTML = {"Accept": "text/html"}

csv.field_size_limit(1 << 24)  # the corpus has long ones
named = {"ids": lambda route: route.name}


class Reader:
    """A browser of somebody's, as far as headers, cookies and forms go."""

    def __init__(self, pages: Pages, who: str | None) -> None:
        self.url = pages.url
        self.session = pages.place.signed_in(ACCOUNTS[who]) if who else None

    @property
    def cookies(self) -> dict[str, str]:
        return {"Cookie": f"{COOKIE}={self.session.cookie}"} if self.session else {}

    def get(self, path: str, **headers: str) -> httpx.Response:
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as http:
            return http.get(path, headers=HTML | self.cookies | headers)

    def post(self, path: str, form: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """As a page of ours sends a form, unless ``headers`` say otherwise."""
        given = {"csrf": csrf_token(self.session.cookie)} if self.session else {}
        raw = urlencode(given | (form or {}), doseq=True)
        ours = HTML | self.cookies | {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"}
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as http:
            return http.post(path, content=raw, headers=ours | headers)


@pytest.fixture(scope="module")
def ann(served: Pages) -> Reader:
    return Reader(served, ANN)


@pytest.fixture(scope="module")
def cyd(served: Pages) -> Reader:
    return Reader(served, CYD)


def path(route: Route, ticket: str = NEVER) -> str:
    names = {
        "ticket": ticket,
        "target": "pg-prod",
        "asset": "muniment.css",
        "change": "chg_0",
        "backtest": "bkt_0",
        "campaign": "none",
    }
    return route.path.format(**names)


def test_a_decision_that_is_refused_is_still_on_the_page(served: Pages, ann: Reader) -> None:
    """Hostile names of campaigns and items come back as text, or not at all."""
    machines = Selection(subjects=("identity",))
    opening = Opening(name="refused", reason="<b>each quarter", selection=machines, sample=0)
    certifying.open_(served.desk, served.caller(OPS), opening)
    for form, said in (
        ({"decision": "keep"}, "No items are ticked"),
        ({"decision": "keep", "item": "99"}, "There are no items"),
        ({"decision": "keep", "item": "0;x"}, "names no items"),
        ({"decision": "keep", "item": "0", "comment": " "}, "empty"),
    ):
        answer = ann.post("/reviews/campaigns/refused/decide", {"comment": "<i>why"} | form)
        assert (answer.status_code, "<b>each" in answer.text, "<i>why" in answer.text) == (422, False, False)
        assert said in html.unescape(answer.text), said
    assert ann.post("/reviews/campaigns/refused/decide", {"decision": "burn", "item": "0"}).status_code == 400
    assert ann.post("/reviews/campaigns/refused/close", {"comment": "x"}).status_code == 403
    assert served.desk.campaigns.read("refused")[1].status == "open"
    done = ann.post(
        "/reviews/campaigns/refused/decide", {"decision": "keep", "every": "true", "comment": "needed"}
    )
    assert (done.status_code, served.desk.campaigns.read("refused")[1].status) == (303, "decided")
    assert Reader(served, CYD).get("/reviews/campaigns/refused").status_code == 404


# ── what a browser may do with them ──


class Parts(HTMLParser):
    """What a page loads, runs, links to and sends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.forms: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inline += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)
        self.loads += [v for n in ("src", "srcset", "poster") if (v := given.get(n))]
        if tag == "link" and given.get("href"):
            self.loads.append(str(given["href"]))
        if tag == "form" and given.get("method") == "post":
            self.forms.append(str(given.get("action")))


@pytest.fixture(scope="module")
def looked(served: Pages, ann: Reader, cyd: Reader) -> dict[str, httpx.Response]:
    """Pages of every kind."""
    ticket = served.given(served.filed(privileges=["orders_ro", "reporting"]))
    waiting = served.filed(privileges=["orders_rw"])
    aud = Reader(served, AUD)
    return {
        "home": ann.get("/"),
        "ticket": ann.get(f"/requests/{ticket.id}"),
        "decide": cyd.get(f"/requests/{waiting.id}"),
        "refused": ann.post(f"/requests/{waiting.id}/approve", {"digest": waiting.digest}),
        "find": ann.get("/ask?q=orders"),
        "ask": ann.get("/ask/pg-prod?privilege=orders_rw"),
        "glass": ann.get("/ask/pg-prod?privilege=orders_rw&break_glass=true"),
        "burning": ann.get("/break-glass"),
        "tickets": ann.get("/tickets?status=pending"),
        "none": ann.get("/tickets?target=web-staging"),
        "grants": ann.get("/grants"),
        "findings": cyd.get("/findings"),
        "reviews": cyd.get("/reviews?state=overdue"),
        "campaigns": cyd.get("/reviews/campaigns"),
        "targets": ann.get("/targets"),
        "target": cyd.get("/targets/pg-prod"),
        "people": aud.get("/people"),
        "person": aud.get(f"/person?id={ANN}"),
        "audit": aud.get("/audit"),
        "trends": aud.get("/audit/trends"),
        "sample": aud.get("/audit/sample?seed=x"),
        "policy": aud.get("/policy"),
        "what if": aud.get("/policy/what-if?target=pg-prod"),
        "backtests": aud.get("/policy/backtest"),
        "ledger": aud.get("/ledger"),
        "missing": ann.get(f"/requests/{NEVER}"),
        "nowhere": ann.get("/no/such/page"),
        "signed out": Reader(served, None).get("/signed-out"),
    }


def test_nothing_runs_and_nothing_loads_but_our_own_files(looked: dict[str, httpx.Response]) -> None:
    for name, answer in looked.items():
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'", name
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'", name
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'", name
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        parts = Parts(answer.text)
        assert parts.inline == [], name
        assert parts.loads
        assert all(each.startswith("/static/") for each in parts.loads), name
        assert all(each.startswith("/") and not each.startswith("//") for each in parts.forms), name


def test_a_page_with_all_that_it_loads_is_under_100_kb(
    looked: dict[str, httpx.Response], ann: Reader
) -> None:
    for name, answer in looked.items():
        loaded = 0
        for each in set(Parts(answer.text).loads):
            part = ann.get(each, **{"Accept-Encoding": "gzip"})
            assert part.status_code == 200
            loaded += int(part.headers["content-length"])
        assert len(answer.content) + loaded < 100_000, (name, len(answer.content), loaded)


def test_files_are_kept_for_ever_under_a_name_that_is_their_digest(ann: Reader) -> None:
    assert {each.partition(".")[0] for each in assets()} >= {"muniment", "htmx", "theme", "icon"}
    for each in assets().values():
        packed, plain = (
            ann.get(f"/static/{each.name}", **{"Accept-Encoding": how}) for how in ("gzip", "identity")
        )
        assert packed.content == plain.content == each.raw
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert packed.headers["vary"] == "Accept-Encoding"
    for wrong in ("muniment.css", "muniment.0000000000000000.css", "..%2f__init__.py", "htmx.LICENSE"):
        assert ann.get(f"/static/{wrong}").status_code == 404, wrong
    with pytest.raises(KeyError):
        asset("nothing.css")


def test_errors_are_pages_for_browsers_and_documents_for_programs(
    looked: dict[str, httpx.Response], ann: Reader
) -> None:
    for name, status, code in (
        ("missing", 404, "not-found"),
        ("nowhere", 404, "not-found"),
        ("refused", 403, "refused.self-approval"),
    ):
        assert looked[name].status_code == status
        assert f"<code>{code}</code>" in looked[name].text
    program = ann.get("/no/such/page", Accept="application/json")
    assert program.headers["content-type"] == "application/problem+json"


# ── who gets them ──


def test_pages_and_the_api_are_apart() -> None:
    assert {route.name for route in ROUTES}.isdisjoint({route.name for route in TABLE})
    assert {route.path for route in ROUTES}.isdisjoint({route.path for route in TABLE})
    assert {route.path for route in ROUTES if route.scope is None} == {
        "/signed-out",
        "/static/{asset}",
        "/auth/link",
    }
    read = {route.name for route in CHANGING if route.scope != "write"}
    assert read == {"preview_ask", "start_backtest", "enter_by_link"}  # the last is bound to no session yet
    assert all(route.form for route in CHANGING)


@pytest.mark.parametrize("route", CLOSED, **named)
def test_nobody_gets_a_page_who_did_not_sign_in(served: Pages, route: Route) -> None:
    stranger = Reader(served, None)
    if route.method == "GET":
        answer = stranger.get(path(route))
        assert answer.status_code == 302
        assert answer.headers["location"].startswith("/auth/login?return_to=%2F")
    else:
        assert stranger.post(path(route)).status_code == 401


@pytest.mark.parametrize("route", CLOSED, **named)
def test_a_token_is_no_session(served: Pages, route: Route) -> None:
    """A program asks the API; a page's forms would have nothing to be bound to."""
    headers = {"Authorization": f"Bearer {served.place.api.token(OPS)}"}
    stranger, where = Reader(served, None), path(route)
    answer = stranger.get(where, **headers) if route.method == "GET" else stranger.post(where, **headers)
    assert answer.status_code in {302, 401}


@pytest.mark.parametrize("route", [r for r in CHANGING if r.scope], **named)
def test_no_other_site_sends_our_forms(served: Pages, cyd: Reader, route: Route) -> None:
    ticket = served.filed()
    reader = Reader(served, OPS) if route.roles else cyd
    form = {"digest": ticket.digest, "comment": "x", "outcome": "appropriate"}
    if "campaign" in route.names:
        form = {"comment": "x"} | ({"decision": "keep"} if route.name == "decide_items" else {})
    if "target" in route.names:
        form = {"privilege": "orders_rw", "comment": "x", "duration": "1h"}
    count = served.desk.store.count_tickets()
    before = served.desk.store.read(ticket.id)[1]
    for headers, more in (
        ({"Origin": "https://evil.example"}, {}),
        ({"Origin": "null"}, {}),
        ({}, {"csrf": ""}),
        ({}, {"csrf": "0" * 64}),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, {}),
    ):
        answer = reader.post(path(route, ticket.id), form | more, **headers)
        assert (answer.status_code, "refused.csrf" in answer.text) == (403, True), (headers, more)
    assert served.desk.store.read(ticket.id)[1] == before
    assert served.desk.store.count_tickets() == count
    assert reader.get("/").status_code == 200  # still signed in


def test_what_one_may_not_see_looks_like_what_is_not_there(served: Pages, ann: Reader) -> None:
    other = served.filed(BO)
    hidden, absent = ann.get(f"/requests/{other.id}"), ann.get(f"/requests/{NEVER}")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace(other.id, NEVER) == absent.text
    for act in ("approve", "deny", "withdraw", "return", "revoke", "collect", "offer", "extend"):
        form = {"digest": other.digest, "comment": "x"} | (
            {"duration": "1h"} if act in {"offer", "extend"} else {}
        )
        refused = ann.post(f"/requests/{other.id}/{act}", form)
        assert refused.status_code == 404, act
    assert other.id not in ann.get("/").text


def test_what_is_offered_is_what_the_core_would_let_happen(served: Pages, ann: Reader, cyd: Reader) -> None:
    """Nobody is shown a button that would be refused, and nobody who may act is left without one."""
    ticket = served.filed()
    shown = {
        who: {
            each.rpartition("/")[2]
            for each in Parts(Reader(served, who).get(f"/requests/{ticket.id}").text).forms
        }
        for who in (ANN, CYD, OPS, AUD)
    }
    assert shown[ANN] - {"sign-out"} == {"withdraw"}
    assert shown[CYD] - {"sign-out"} == {"approve", "deny", "offer"}
    assert shown[OPS] - {"sign-out"} == set()
    assert shown[AUD] - {"sign-out"} == set()
    served.given(ticket)
    after = {
        who: {
            each.rpartition("/")[2]
            for each in Parts(Reader(served, who).get(f"/requests/{ticket.id}").text).forms
        }
        for who in (ANN, CYD, OPS, AUD)
    }
    assert after[ANN] - {"sign-out"} == {"return", "extend"}
    assert after[OPS] - {"sign-out"} == {"revoke"}
    assert after[AUD] - {"sign-out"} == set()


# ── what a stranger's text does in them ──


@pytest.mark.parametrize("name", CORPUS)
def test_foreign_text_is_text(served: Pages, ann: Reader, name: str) -> None:
    text = CORPUS[name]
    try:
        ticket = served.filed(justification=text, privileges=["reporting"])
    except MunimentError:
        return  # refused where it came in
    page = ann.get(f"/requests/{ticket.id}").text
    deciding.withdraw(served.desk, served.caller(ANN), ticket.id)
    assert Parts(page).inline == []
    assert "<script>alert" not in page
    assert acting(page.replace("\n", ""), "\u200c\u200d") == []
    shown = [html.unescape(each) for each in re.findall(r"<blockquote>(.*?)</blockquote>", page, re.DOTALL)]
    assert shown
    assert len(set(shown)) == 1


def test_a_form_takes_nothing_that_is_not_its_own(served: Pages, cyd: Reader) -> None:
    ticket = served.filed()
    for form in (
        {"digest": ticket.digest, "surprise": "1"},
        {"digest": [ticket.digest, ticket.digest]},
        {"comment": "x" * 9000},
    ):
        answer = cyd.post(f"/requests/{ticket.id}/approve", form)
        assert (answer.status_code, "invalid.form" in answer.text) == (400, True), form
    assert (
        cyd.post(f"/requests/{ticket.id}/approve", {"comment": "x"}).status_code == 422
    )  # without what was shown
    assert served.desk.store.read(ticket.id)[1].status == "pending"


# ── deciding on what is not there any more ──


def test_a_decision_on_what_changed_meanwhile_says_what_changed(served: Pages, cyd: Reader) -> None:
    ticket = served.filed()
    offered = deciding.counter(
        served.desk,
        served.caller(CYD),
        ticket.id,
        digest=ticket.digest,
        duration=timedelta(minutes=30),
        comment="shorter",
    )
    deciding.accept(served.desk, served.caller(ANN), ticket.id, offer=offered.offer.digest)
    answer = cyd.post(f"/requests/{ticket.id}/approve", {"digest": ticket.digest, "comment": "my words"})
    assert answer.status_code == 409
    assert "refused.stale-approval" in answer.text
    assert re.search(r"<del>2 h</del>.*<ins>30 min</ins>", answer.text, re.DOTALL)
    assert "my words" in answer.text
    now = served.desk.store.read(ticket.id)[1]
    assert (now.status, now.decisions) == ("pending", ())
    assert cyd.post(f"/requests/{ticket.id}/approve", {"digest": now.digest}).status_code == 303


def test_lengths_are_taken_as_the_pages_say_them(served: Pages, ann: Reader, cyd: Reader) -> None:
    ticket = served.filed(duration=timedelta(hours=2, minutes=30, seconds=15))
    [shown] = re.findall(r'<input name="duration" value="([^"]*)"', cyd.get(f"/requests/{ticket.id}").text)
    form = {"digest": ticket.digest, "comment": "Less will do", "scope": "0"}
    assert shown == "2 h 30 min 15 s"
    same = cyd.post(f"/requests/{ticket.id}/offer", form | {"duration": shown})  # it offers nothing less
    assert (same.status_code, "is not a duration" in same.text) == (422, False)
    assert cyd.post(f"/requests/{ticket.id}/offer", form | {"duration": "30 min"}).status_code == 303
    assert served.desk.store.read(ticket.id)[1].offer.terms.duration == 1800
    filed = ann.post("/ask/pg-prod", ASKED | {"other": "1 h 30 min", "key": ""})
    assert filed.status_code == 303
    active = served.given(served.filed(privileges=["orders_ro"]))
    more = ann.post(f"/requests/{active.id}/extend", {"duration": "30 min", "comment": "More to do"})
    assert more.status_code == 303
    deciding.give_back(served.desk, served.caller(ANN), active.id)
    served.pursued(active)


def test_what_narrows_a_privilege_is_shown_with_it(
    served: Pages, ann: Reader, cyd: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a target calls a resource: a privilege on one namespace is not the privilege as such."""
    active = served.given(served.filed(privileges=["orders_ro"]))
    offered = served.filed(privileges=["orders_ro", "reporting"])
    narrowed = (Privilege(privilege="orders_ro", resource="shop & <b>"),)
    deciding.counter(
        served.desk, served.caller(CYD), offered.id, digest=offered.digest, duration=timedelta(minutes=30), comment="less"
    )  # fmt: skip
    page_of, story_of = looking.grants_page, looking.story

    def grants_page(*given: Any, **more: Any) -> looking.Rows:
        rows = page_of(*given, **more)
        return replace(rows, items=[row | {"resource": narrowed[0].resource} for row in rows.items])

    def story(*given: Any) -> looking.Story:
        told = story_of(*given)
        offer = told.document["offer"] | {"scope": msgspec.to_builtins(narrowed)}
        return replace(told, document=told.document | {"offer": offer})

    monkeypatch.setattr(looking, "grants_page", grants_page)
    monkeypatch.setattr(looking, "story", story)
    said = '<code class="priv">orders_ro (shop &amp; &lt;b&gt;)</code>'
    assert said in cyd.get("/targets/pg-prod").text
    assert said in cyd.get("/grants").text
    assert said in ann.get(f"/requests/{offered.id}").text
    deciding.give_back(served.desk, served.caller(ANN), active.id)
    served.pursued(active)


def test_signing_out_ends_the_session(served: Pages) -> None:
    reader = Reader(served, BO)
    assert reader.get("/").status_code == 200
    out = reader.post("/sign-out")
    assert (out.status_code, out.headers["location"]) == (303, "/signed-out")
    assert "max-age=0" in out.headers["set-cookie"].lower()
    assert reader.get("/").status_code in {302, 401}


# ── lists ──


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment;")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def test_a_list_shows_what_one_may_see_and_is_narrowed_by_its_address(served: Pages, ann: Reader) -> None:
    mine, other = served.filed(privileges=["reporting"]), served.filed(BO, privileges=["reporting"])
    page = ann.get("/tickets").text
    assert (mine.id in page, other.id in page) == (True, False)
    assert mine.id not in ann.get("/tickets?status=closed").text
    assert mine.id not in ann.get("/tickets?target=bastion").text
    assert mine.id in ann.get("/tickets?beneficiary=ann@example.com&status=pending&target=pg-prod").text
    assert other.id not in ann.get("/tickets?beneficiary=bo@example.com").text
    for wrong in ("?status=nonsense", "?beneficiary=%00", "?beneficiary=robot:x"):
        answer = ann.get(f"/tickets{wrong}")
        assert (answer.status_code, 'role="alert"' in answer.text) == (200, True), wrong
    assert ann.get("/tickets?surprise=1").status_code == 422
    auditor = Reader(served, AUD).get("/tickets").text
    assert mine.id in auditor
    assert other.id in auditor


def test_a_long_list_goes_on(served: Pages, ann: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "SHOWN", 2)
    filed = [served.filed(privileges=["orders_ro"]).id for _ in range(5)]
    found: list[str] = []
    where = "/tickets?status=pending"
    while set(filed) - set(found):
        page = ann.get(where).text
        shown = re.findall(r'<th scope="row"><a href="/requests/(req_\w+)"', page)
        assert 1 <= len(shown) <= 2
        found += shown
        where = html.unescape(re.search(r'<a class="button is-main" href="([^"]+)" rel="next"', page)[1])  # type: ignore[index]
    assert len(found) == len(set(found))
    assert [each for each in found if each in filed] == filed[::-1]


def test_a_list_taken_along_has_every_row_of_it(
    served: Pages, ann: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE", 3)
    for _ in range(4):
        served.filed(privileges=["orders_ro"])
    active = served.given(served.filed(privileges=["orders_ro", "reporting"]))
    found = {row["id"]: row for row in rows(ann.get("/tickets.csv"))}
    assert len(found) > 3
    row = found[active.id]
    assert (row["status"], row["granted"], row["beneficiary"]) == ("active", "orders_ro; reporting", ANN)
    assert {r["status"] for r in rows(ann.get("/tickets.csv?status=active"))} == {"active"}
    assert [r["privilege"] for r in rows(ann.get("/grants.csv")) if r["ticket"] == active.id] == [
        "orders_ro",
        "reporting",
    ]
    rows(ann.get("/findings.csv"))
    monkeypatch.setattr(taking, "MOST", 3)
    assert ann.get("/tickets.csv").status_code == 422
    deciding.give_back(served.desk, served.caller(ANN), active.id)
    served.pursued(active)


@pytest.mark.parametrize("name", CORPUS)
def test_nothing_in_a_csv_is_a_formula(name: str) -> None:
    text = CORPUS[name]
    for value in (text, f" {text}", f"={text}", f"@{text}"):
        raw = to_csv(["a", "b"], [[value, "end"]])
        header, row = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
        assert (header, row[1], len(row)) == (["a", "b"], "end", 2)
        assert not row[0].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_only_whoever_may_is_told_what_a_target_holds(served: Pages, ann: Reader, cyd: Reader) -> None:
    assert "Ask the target now" in cyd.get("/targets/pg-prod").text
    assert "Ask the target now" not in ann.get("/targets/pg-prod").text
    assert "muniment_pages" in cyd.get("/targets/pg-prod/holdings").text
    assert ann.get("/targets/pg-prod/holdings").status_code == 404
    assert ann.get("/targets/nowhere").status_code == ann.get("/ask/nowhere").status_code == 404


def test_whoever_decides_reads_the_policy_that_asks_them(served: Pages, ann: Reader, cyd: Reader) -> None:
    ticket = served.filed(privileges=["reporting"])
    page = html.unescape(cyd.get(f"/requests/{ticket.id}").text)
    assert '@id("engineers-in-production")' in page
    assert '@max_duration("4h")' in page
    assert "The policy that asks you" not in ann.get(f"/requests/{ticket.id}").text


def test_more_time_is_a_request_of_its_own(served: Pages, ann: Reader) -> None:
    active = served.given(served.filed(privileges=["orders_ro"]))
    refused = ann.post(f"/requests/{active.id}/extend", {"duration": "9h", "comment": "More to do"})
    assert (refused.status_code, "More to do" in refused.text) == (403, True)
    filed = ann.post(f"/requests/{active.id}/extend", {"duration": "1h", "comment": "More to do"})
    ticket = served.desk.store.read(filed.headers["location"].split("/")[2].partition("?")[0])[1]
    assert (ticket.terms.extends, ticket.terms.duration, ticket.status) == (active.id, 3600, "pending")
    deciding.give_back(served.desk, served.caller(ANN), active.id)
    served.pursued(active)


# ── asking ──

ASKED = {
    "privilege": "orders_rw",
    "duration": "1h",
    "comment": "Set the state of stuck orders",
    "key": "0" * 32,
}


def test_a_request_is_filed_once_for_each_form(served: Pages, ann: Reader) -> None:
    first, again = (ann.post("/ask/pg-prod", ASKED | {"change": "CHG-7"}) for _ in range(2))
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    ticket = served.desk.store.read(first.headers["location"].split("/")[2].partition("?")[0])[1]
    assert (str(ticket.terms.scope[0]), ticket.terms.duration, ticket.terms.references) == (
        "orders_rw",
        3600,
        {"change": "CHG-7"},
    )
    assert "Your request is filed" in ann.get(first.headers["location"]).text


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"comment": " "}, "invalid"),
        ({"privilege": "superuser"}, "invalid.unknown-privilege"),
        ({"privilege": []}, "invalid"),
        ({"duration": "", "other": "for ever"}, "invalid"),
        ({"other": "9h"}, "refused.too-long"),
        ({"beneficiary": "human:nobody@example.com"}, "invalid.unknown-identity"),
        ({"starts_at": "tomorrow"}, "invalid"),
        ({"public_key": "ssh-ed25519 AAAA"}, "invalid.public-key"),
    ],
    ids=str,
)
def test_what_cannot_be_filed_is_said_and_what_was_typed_stays(
    served: Pages, ann: Reader, change: dict[str, Any], code: str
) -> None:
    before = served.desk.store.count_tickets()
    answer = ann.post("/ask/pg-prod", ASKED | {"change": "CHG-99", "key": ""} | change)
    assert answer.status_code in {403, 422}
    assert f"<code>{code}</code>" in answer.text
    assert 'value="CHG-99"' in answer.text
    assert served.desk.store.count_tickets() == before


def test_the_preview_says_who_decides_and_records_nothing(served: Pages, ann: Reader) -> None:
    before = served.desk.store.count_tickets()
    said = ann.post("/ask/pg-prod/preview", ASKED | {"comment": ""}).text
    assert "You can ask for this" in said
    assert "Cyd Moreau, Dee Okafor" in said
    assert "4 h" in said
    assert "This would be refused" in ann.post("/ask/pg-prod/preview", ASKED | {"other": "9h"}).text
    assert "<html" not in said
    assert served.desk.store.count_tickets() == before


def test_one_asks_for_machines_that_one_answers_for_and_for_no_other(served: Pages, ann: Reader) -> None:
    assert "service_account:deploy" in ann.get("/ask/pg-prod").text
    assert "service_account:deploy" not in Reader(served, BO).get("/ask/pg-prod").text
    filed = ann.post("/ask/pg-prod", ASKED | {"beneficiary": "service_account:deploy", "key": "1" * 32})
    ticket = served.desk.store.read(filed.headers["location"].split("/")[2].partition("?")[0])[1]
    assert (ticket.terms.requester, ticket.terms.beneficiary) == (ANN, "service_account:deploy")


def test_glass_is_broken_on_its_own_form_alone(served: Pages) -> None:
    bo = Reader(served, BO)
    form = ASKED | {"privilege": "reporting", "incident": "INC-42", "key": ""}
    ordinary = bo.post("/ask/pg-prod", form)  # an incident alone breaks nothing
    ticket = served.desk.store.read(ordinary.headers["location"].split("/")[2].partition("?")[0])[1]
    assert ticket.terms.kind == "standard"
    assert bo.post("/ask/pg-prod", form | {"break_glass": "true", "incident": ""}).status_code == 422
    broken = bo.post("/ask/pg-prod", form | {"break_glass": "true"})
    ticket = served.desk.store.read(broken.headers["location"].split("/")[2].partition("?")[0])[1]
    assert (ticket.terms.kind, ticket.terms.incident, ticket.status) == ("break_glass", "INC-42", "approved")
    deciding.give_back(served.desk, served.caller(BO), served.pursued(ticket).id)


def test_thousands_of_privileges_are_found_by_any_of_their_words() -> None:
    targets = [
        Target(
            id=f"db-{n}", kind="postgresql", environment="prod", owners=(), connector=None,
            catalogue=tuple(
                CatalogueEntry(privilege=Privilege(privilege=f"role_{k}"), description=f"ledger {k} of {n}")
                for k in range(50)
            ),
        )
        for n in range(100)
    ]  # fmt: skip
    found, count = find(targets, "")
    assert (len(found), count) == (60, 5000)
    found, count = find(targets, "role_7 db-42")
    assert (str(found[0].entry.privilege), found[0].target.id) == ("role_7", "db-42")
    assert find(targets, "ledger 13 of 99")[1] >= 1
    assert find(targets, "nothing like it") == ([], 0)


# ── how often the store is asked ──


@contextmanager
def counted(pages: Pages) -> Iterator[list[str]]:
    asked: list[str] = []

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen = "session" in statement  # that a session is used is noted once a minute
        if threading.current_thread().name.startswith("muniment-api") and not seen:
            asked.append(statement)

    engine = pages.desk.store.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", count)


def test_a_page_asks_the_store_as_often_for_many_tickets_as_for_few(
    served: Pages, ann: Reader, cyd: Reader
) -> None:
    def once(reader: Reader, where: str) -> int:
        with counted(served) as asked:
            assert reader.get(where).status_code == 200
        return len(asked)

    def queries(reader: Reader, where: str) -> int:
        """What is looked up now and then, whoever asks, is not counted: the least of a few times."""
        return min(once(reader, where) for _ in range(4))

    readers = {"ann": ann, "cyd": cyd, "bo": Reader(served, BO), "ops": Reader(served, OPS)}

    def asked() -> dict[str, int]:
        where = (
            "/",
            "/tickets",
            "/tickets.csv",
            "/grants",
            "/findings",
            "/targets/pg-prod",
            "/people",
            "/ask/pg-prod",
        )
        found = {
            f"{name} {each}": queries(reader, each) for name, reader in readers.items() for each in where
        }
        over = (
            "/audit",
            f"/person?id={ANN}",
            "/audit/sample?seed=x",
            "/audit/sample.csv?seed=x",
            "/policy",
            "/ledger",
        )
        return found | {each: queries(readers["ops"], each) for each in over}

    handed = delegating.give(
        served.desk, served.caller(CYD), to=BO, reason="holidays", length=timedelta(hours=1)
    )
    served.filed()
    before = asked()
    for _ in range(8):
        served.filed()
    assert asked() == before
    delegating.end(served.desk, served.caller(CYD), handed.id)
