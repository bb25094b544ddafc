"""Overload sheds new work and never what takes access away (I40); a store that is away is a 503 (I28)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import structlog

from api.conftest import ANN, CYD, OPS, REQUEST, Api
from muniment.api.load import Load
from muniment.api.numbers import PATIENCE
from muniment.api.routes import Route
from muniment.core.errors import Busy, StoreUnavailable
from muniment.service import looking


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


def test_one_caller_does_not_take_it_all() -> None:
    load = Load(rate=5, at_once=64)
    ordinary = Route(method="GET", path="/x", run=len, answer=None, scope="read")
    urgent = Route(method="POST", path="/y", run=len, answer=None, scope="write", urgent=True)
    for _ in range(10):
        load.count(ANN, ordinary)
    with pytest.raises(Busy):
        load.count(ANN, ordinary)
    load.count(CYD, ordinary)
    for _ in range(100):
        load.count(ANN, urgent)


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
