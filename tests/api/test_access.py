"""AuthZEN: answers from observed grants, at once, and to nobody who may not ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from api.conftest import ANN, BO, CYD, OPS, Api, deactivate, without
from muniment.config import load
from muniment.core.instants import parse_instant
from muniment.core.scope import Privilege
from muniment.main import open_desk
from muniment.service import deciding, holding
from muniment.service.desk import Desk
from muniment.service.holding import Holdings


def question(
    who: str = "ann@example.com", name: str = "web-admin", target: str = "bastion", kind: str = "user"
) -> dict[str, Any]:
    return {
        "subject": {"type": kind, "id": who},
        "action": {"name": name},
        "resource": {"type": "target", "id": target},
    }


def decision(api: Api, asked: dict[str, Any], **how: Any) -> bool:
    answer = api("POST", "/access/v1/evaluation", asked, **how)
    assert answer.status_code == 200, answer.text
    found: bool = answer.json()["decision"]
    return found


@pytest.fixture
def gateway(api: Api) -> str:
    """An enforcement point's token."""
    return api.token("service_account:deploy", "check")


def test_yes_while_it_is_held_and_no_at_once_after(api: Api, gateway: str) -> None:
    assert decision(api, question(), token=gateway) is False
    waiting = api.filed()
    assert decision(api, question(), token=gateway) is False
    ticket = api.active()
    assert waiting["id"] != ticket["id"]
    for asked in (question(), question(kind="human"), question("Ann@Example.com")):
        assert decision(api, asked, token=gateway) is True
    for other in (
        question("bo@example.com"),
        question(name="root"),
        question(target="nowhere"),
        question(kind="workload"),
    ):
        assert decision(api, other, token=gateway) is False
    assert api("POST", f"/v1/requests/{ticket['id']}/revoke", {"reason": "x"}, who=OPS).status_code == 200
    # nobody has taken it away from the target yet: it is over all the same
    assert decision(api, question(), token=gateway) is False


def test_the_context_names_the_ticket(api: Api, gateway: str) -> None:
    ticket = api.active()
    context = api("POST", "/access/v1/evaluation", question(), token=gateway).json()["context"]
    assert context["ticket"] == ticket["id"]
    assert parse_instant(context["expires_at"]) == parse_instant(ticket["window"]["expires_at"])
    api("POST", f"/v1/requests/{ticket['id']}/return")


def test_at_its_end_it_is_over_by_the_clock(api: Api) -> None:
    ticket = api.active()
    end = parse_instant(ticket["window"]["expires_at"])
    what = Privilege(privilege="web-admin")
    index = api.office.holdings
    assert index.check(ANN, "bastion", what, end - timedelta(microseconds=1))
    assert index.check(ANN, "bastion", what, end) is None
    assert index.holders("bastion", what, end) == []
    api("POST", f"/v1/requests/{ticket['id']}/return")


def test_a_revocation_by_another_process_is_seen(api: Api, gateway: str) -> None:
    ticket = api.active()
    other = open_desk(load(api.folder / "muniment.toml"))
    deciding.revoke(other, other.caller(OPS, "local"), ticket["id"], reason="stolen")
    other.store.engine.dispose()
    for _ in range(100):
        if not decision(api, question(), token=gateway):
            return
        time.sleep(0.1)
    pytest.fail("the other process's revocation is not seen")


def test_a_new_index_holds_the_same(api: Api) -> None:
    ticket = api.active()
    index = Holdings(api.desk)
    index.start()
    now = api.desk.clock.now()
    assert index.check(ANN, "bastion", Privilege(privilege="web-admin"), now) == api.office.holdings.check(
        ANN, "bastion", Privilege(privilege="web-admin"), now
    )
    assert len(index) == len(api.office.holdings)
    index.stop()
    api("POST", f"/v1/requests/{ticket['id']}/return")


def test_an_older_read_that_comes_in_late_gives_nothing_back(api: Api, gateway: str) -> None:
    """Another process's changes are read in a thread: what it read can be older than a revocation meanwhile."""
    ticket = api.active()
    _, before = api.desk.store.read(ticket["id"])
    assert before is not None
    assert api("POST", f"/v1/requests/{ticket['id']}/revoke", {"reason": "x"}, who=OPS).status_code == 200
    api.office.holdings.take(before)
    assert decision(api, question(), token=gateway) is False


def test_what_is_over_is_not_remembered_for_ever(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    index, ticket = Holdings(api.desk), api.filed()
    _, read = api.desk.store.read(ticket["id"])
    assert read is not None
    at = 0.0
    monkeypatch.setattr(holding.time, "monotonic", lambda: at)
    for number in range(5):
        at += holding.ENDED_SECONDS
        index.take(replace(read, id=f"req_{number}"))
    assert len(index) == 0
    assert len(index._ended) == 2


def test_everybody_asks_about_themselves_alone(api: Api) -> None:
    assert decision(api, question(), who=ANN) in {True, False}
    for path in ("evaluation", "search/subject", "search/resource", "search/action"):
        answer = api("POST", f"/access/v1/{path}", question(), who=BO)
        assert (answer.status_code, answer.json()["code"]) == (403, "refused.not-yours")
    assert decision(api, question(), who=OPS) in {True, False}


def test_several_at_once(api: Api, gateway: str) -> None:
    ticket = api.active()
    yes, no = {}, {"action": {"name": "root"}}

    def ask(*evaluations: dict[str, Any], semantic: str = "execute_all") -> list[bool]:
        body = question() | {"evaluations": list(evaluations), "options": {"evaluations_semantic": semantic}}
        answer = api("POST", "/access/v1/evaluations", body, token=gateway)
        return [each["decision"] for each in answer.json()["evaluations"]]

    assert ask(yes, no, yes) == [True, False, True]
    assert ask(yes, no, yes, semantic="deny_on_first_deny") == [True, False]
    assert ask(no, yes, no, semantic="permit_on_first_permit") == [False, True]
    assert api("POST", "/access/v1/evaluations", question(), token=gateway).json()["decision"] is True
    body = {"evaluations": [question(), {"subject": {"type": "user", "id": "x"}}]}
    answer = api("POST", "/access/v1/evaluations", body, token=gateway).json()["evaluations"]
    assert answer[1]["context"]["error"]["status"] == 400
    api("POST", f"/v1/requests/{ticket['id']}/return")


def test_searching(api: Api, gateway: str) -> None:
    ticket = api.active()

    def results(path: str, asked: dict[str, Any]) -> list[dict[str, str]]:
        return api("POST", f"/access/v1/search/{path}", asked, token=gateway).json()["results"]  # type: ignore[no-any-return]

    assert results("subject", question() | {"subject": {"type": "user"}}) == [
        {"type": "user", "id": "ann@example.com"}
    ]
    assert results("resource", question() | {"resource": {"type": "target"}}) == [
        {"type": "target", "id": "bastion"}
    ]
    asked = {k: v for k, v in question().items() if k != "action"}
    assert results("action", asked) == [{"name": "web-admin"}]
    api("POST", f"/v1/requests/{ticket['id']}/return")
    assert results("action", asked) == []


@pytest.mark.parametrize("leave", [deactivate, without])
def test_somebody_who_is_gone_holds_nothing(
    api: Api, gateway: str, leave: Callable[[Desk, str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not when their access has been taken away."""
    ticket = api.active()
    searches = {
        "subject": question() | {"subject": {"type": "user"}},
        "resource": question() | {"resource": {"type": "target"}},
        "action": {k: v for k, v in question().items() if k != "action"},
    }

    def held() -> list[bool]:
        answers = [api("POST", f"/access/v1/search/{p}", q, token=gateway) for p, q in searches.items()]
        return [decision(api, question(), token=gateway), *(bool(a.json()["results"]) for a in answers)]

    assert held() == [True] * 4
    with monkeypatch.context() as patch:
        patch.setattr(api.office, "desk", leave(api.desk, ANN))
        assert held() == [False] * 4
    api("POST", f"/v1/requests/{ticket['id']}/return")


def test_metadata_and_request_id(api: Api) -> None:
    found = api("GET", "/.well-known/authzen-configuration", who=None)
    assert found.json()["access_evaluation_endpoint"] == f"{api.office.url}/access/v1/evaluation"
    assert (
        api("GET", "/healthz", who=None, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    )
    assert (
        "\n" not in api("GET", "/healthz", who=None, headers={"X-Request-ID": "a b"}).headers["x-request-id"]
    )


@pytest.mark.parametrize("missing", ["subject", "action", "resource"])
def test_a_question_without_a_part_is_none(api: Api, gateway: str, missing: str) -> None:
    asked = {k: v for k, v in question().items() if k != missing}
    assert api("POST", "/access/v1/evaluation", asked, token=gateway).status_code in {400, 422}
    extra = question() | {"context": {"time": "now"}, "unknown": 1}
    assert api("POST", "/access/v1/evaluation", extra, token=gateway).status_code == 200


def test_cyd_holds_nothing_by_approving(api: Api, gateway: str) -> None:
    assert decision(api, question("cyd@example.com"), token=gateway) is False
    assert CYD
