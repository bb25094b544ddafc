"""Overload sheds new work and never what takes access away (I40); a store that is away is a 503 (I28)."""

from __future__ import annotations

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from typing import Any

import pytest
import structlog

from api.conftest import ANN, CYD, OPS, REQUEST, Api
from muniment.api import app, load
from muniment.api.load import Load
from muniment.api.numbers import PATIENCE
from muniment.api.routes import Route
from muniment.core.errors import Busy, StoreUnavailable, Unauthenticated
from muniment.service import credentials, evidencing, looking
from muniment.store.engine import CONNECTIONS


def test_while_taking_away_is_behind_no_new_work_is_taken(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = api.active()
    monkeypatch.setattr(api.office.load, "behind", True)
    api.office._watch.stop()
    for path in ("/v1/requests", "/v1/preview"):
        answer = api("POST", path, REQUEST)
        assert (answer.status_code, answer.json()["code"]) == (429, "busy.revocation")
        assert answer.headers["retry-after"]
    assert api("GET", f"/v1/requests/{ticket['id']}").status_code == 200
    assert api("POST", f"/v1/requests/{ticket['id']}/return").status_code == 200


def test_being_behind_is_access_that_is_over_and_nobodys_work(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = api.active()
    watch = api.office._watch
    watch.look()
    assert api.office.load.behind is False

    class Later:
        def now(self) -> Any:
            return (
                looking.show(api.desk, api.desk.caller(ANN, "test"), ticket["id"]).expiry
                + PATIENCE
                + timedelta(seconds=1)
            )

    clock = api.desk.store.clock
    monkeypatch.setattr(api.desk.store, "clock", Later())
    watch.look()
    monkeypatch.setattr(api.desk.store, "clock", clock)
    assert api.office.load.behind is True
    api("POST", f"/v1/requests/{ticket['id']}/return")  # its end is ordered: somebody is at it
    watch.look()
    assert api.office.load.behind is False


def test_a_full_house_lets_those_in_who_take_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = [api.active()["id"] for _ in range(2)]
    gate, inside = threading.Event(), threading.Semaphore(0)
    real = looking.show

    def slow(*args: Any) -> Any:
        inside.release()
        assert gate.wait(60)
        return real(*args)

    monkeypatch.setattr(looking, "show", slow)
    monkeypatch.setattr(api.office.load, "_at_once", 4)
    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(api, "GET", f"/v1/requests/{tickets[0]}") for _ in range(4)]
        for _ in held:
            assert inside.acquire(timeout=60)
        refused = api("GET", "/v1/targets")
        assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        assert api("GET", "/healthz", who=None).status_code == 200
        assert api("POST", f"/v1/requests/{tickets[1]}/revoke", {"reason": "x"}, who=OPS).status_code == 200
        gate.set()
        assert {each.result().status_code for each in held} == {200}


def test_guessed_tokens_hold_up_nobody_who_is_known(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many look-ups as are taken on hang in the store; whoever called before is let in, and may take away."""
    ticket = api.active()["id"]
    assert api("GET", f"/v1/requests/{ticket}", who=OPS).status_code == 200
    (tokens,) = api.office.authenticators
    monkeypatch.setattr(credentials, "CACHE_SECONDS", 0.0)
    gate, real = threading.Event(), tokens._tokens.get
    known = {token.split("_")[1] for token in api.tokens.values()}

    def slow(token_id: str) -> Any:
        assert token_id in known or gate.wait(60)
        return real(token_id)

    monkeypatch.setattr(tokens._tokens, "get", slow)
    monkeypatch.setattr(load, "LOOKUPS", 12)
    guesses = [f"mnt_{n:016x}_{'0' * 64}" for n in range(14)]
    with ThreadPoolExecutor(len(guesses)) as pool:
        asked = [
            pool.submit(api, "POST", f"/v1/requests/{ticket}/revoke", {"reason": "x"}, token=each)
            for each in guesses
        ]
        shed = [each.result() for each in itertools.islice(as_completed(asked, timeout=60), 2)]
        assert {(each.status_code, each.json()["code"]) for each in shed} == {(429, "busy")}
        assert api("GET", f"/v1/requests/{ticket}", who=OPS).status_code == 200
        assert api("POST", f"/v1/requests/{ticket}/revoke", {"reason": "x"}, who=OPS).status_code == 200
        gate.set()
        assert sorted(each.result().status_code for each in asked) == [401] * 12 + [429] * 2


def test_who_takes_away_finds_a_connection_whatever_else_holds_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I40. As many as may be under way sit on connections; ending access, and the controllers, find one at once."""
    engine = api.desk.store.engine
    assert load.ORDINARY + 3 * load.LOOKING <= CONNECTIONS - load.RESERVED
    ticket, gate, inside, real = (
        api.active()["id"],
        threading.Event(),
        threading.Semaphore(0),
        looking.tickets,
    )

    def sitting(*args: Any, **more: Any) -> Any:
        with engine.connect():
            inside.release()
            assert gate.wait(60)
        return real(*args, **more)

    monkeypatch.setattr(looking, "tickets", sitting)
    asked = api.office.at_once - 1  # and one for the look below
    with ThreadPoolExecutor(asked) as pool:
        held = [pool.submit(api, "GET", "/v1/requests") for _ in range(asked)]
        for _ in range(load.ORDINARY):
            assert inside.acquire(timeout=60)
        assert not inside.acquire(timeout=0.2), "more threads than were counted on"
        try:
            assert api("POST", f"/v1/requests/{ticket}/return").status_code == 200
            waited = [engine.connect() for _ in range(load.RESERVED)]
            for each in waited:
                each.close()
        finally:
            gate.set()
        assert {each.result().status_code for each in held} == {200}


def test_an_id_that_no_token_has_is_remembered_for_a_second(api: Api) -> None:
    (tokens,) = api.office.authenticators
    now, guess = api.desk.clock.now(), f"mnt_{'9' * 16}_{'0' * 64}"
    assert not tokens.remembered(guess, now)
    with pytest.raises(Unauthenticated):
        tokens.authenticate(guess, now)
    assert tokens.remembered(guess, now + timedelta(seconds=0.9))
    assert not tokens.remembered(guess, now + timedelta(seconds=1))
    assert not tokens.familiar(guess)
    true = api.token(ANN)
    tokens.authenticate(true, now)
    assert tokens.familiar(true)
    assert not tokens.familiar(true[:-64] + "0" * 64)


def test_a_body_that_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.2)
    head = (
        f"POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token(ANN)}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    url = api.http.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=60) as client:
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_refusal_leaves_its_connection_usable(api: Api) -> None:
    """The body of a request that is refused by its headers comes a moment later: it is read, and the next one heard."""
    url = api.http.base_url
    head = (
        b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 0), timeout=60) as client:
        for _ in range(2):
            client.sendall(head)
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):  # not answered, and so not closed, before the body is there
                client.recv(1000)
            client.settimeout(60)
            client.sendall(b"{}")
            assert client.recv(10_000).startswith(b"HTTP/1.1 401 ")


def test_two_export_evidence_at_once_and_nobody_while_taking_away_is_behind(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = api.filed()["id"]
    gate, inside, real = threading.Event(), threading.Semaphore(0), evidencing.export
    where = f"/v1/requests/{ticket}/evidence"

    def slow(*args: Any, **more: Any) -> Any:
        inside.release()
        assert gate.wait(60)
        return real(*args, **more)

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(evidencing, "export", slow)
        held = [pool.submit(api, "GET", where) for _ in range(2)]
        for _ in held:
            assert inside.acquire(timeout=60)
        refused = api("GET", where)
        assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        assert api("GET", f"/v1/requests/{ticket}").status_code == 200
        gate.set()
        assert {each.result().status_code for each in held} == {200}
    assert api("GET", where).status_code == 200
    api.office._watch.stop()
    monkeypatch.setattr(api.office.load, "behind", True)
    assert api("GET", where).json()["code"] == "busy.revocation"


def test_one_caller_does_not_take_it_all() -> None:
    loaded = Load(rate=5, at_once=64)
    ordinary = Route(method="GET", path="/x", run=len, answer=None, scope="read")
    urgent = Route(method="POST", path="/y", run=len, answer=None, scope="write", urgent=True)
    for _ in range(10):
        loaded.count(ANN, ordinary)
    with pytest.raises(Busy):
        loaded.count(ANN, ordinary)
    loaded.count(CYD, ordinary)
    for _ in range(100):
        loaded.count(ANN, urgent)


def test_a_store_that_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = api.filed()
    before = api.tickets()

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the store did not answer: disk full", remedy="Nothing was recorded.")

    with monkeypatch.context() as patch:
        patch.setattr(api.desk.store._appender, "append_many", away)
        answer = api("POST", "/v1/requests", REQUEST)
        assert (answer.status_code, answer.json()["code"]) == (503, "store.unavailable")
        assert answer.headers["retry-after"]
        body = {"decision": "approve", "digest": ticket["digest"]}
        assert api("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=CYD).status_code == 503
        patch.setattr(api.desk.store, "ping", away)
        assert api("GET", "/readyz", who=None).status_code == 503
        assert api("GET", "/healthz", who=None).status_code == 200
    assert api.tickets() == before
    assert api("GET", f"/v1/requests/{ticket['id']}").json()["status"] == "pending"
    assert api("GET", "/readyz", who=None).status_code == 200


def test_the_numbers(api: Api) -> None:
    api.active()
    text = api("GET", "/metrics", token=api.token("service_account:deploy", "metrics")).text
    for name in (
        'muniment_revocation_debt{target="bastion"}', 'muniment_revocation_lag_seconds{target="bastion"}',
        "muniment_ledger_oldest_unsealed_seconds", "muniment_approvals_oldest_pending_seconds", "muniment_findings_open",
        'muniment_tickets{status="active"}', "muniment_grants_indexed", 'muniment_http_requests_total{method="POST"',
    ):  # fmt: skip
        assert name in text, name


def test_nothing_that_is_logged_is_a_secret(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """I31: neither tokens nor texts nor keys are in a line of the log."""
    structlog.reset_defaults()
    canary = "canary-of-a-justification"
    api.filed(justification=canary)
    api("GET", "/v1/requests", params={"limit": "canary-of-a-query"})
    said = capsys.readouterr()
    assert "answered" in said.out
    assert "canary" not in said.out + said.err
    assert not [token for token in api.tokens.values() if token in said.out + said.err]
