"""AuthZEN's access requests, draft 1: denied, asked for, approved, asked again. Experimental, and off by default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.conftest import ANN, BO, CYD, KEY, Api
from muniment.service.pursuing import pursue

URN = "urn:openid:authzen:access-request:error:"
ASKED = {
    "subject": {"type": "user", "id": "ann@example.com"}, "action": {"name": "web-admin"},
    "resource": {"type": "target", "id": "bastion"},
}  # fmt: skip


def until(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.office, "access_requests", True)


def evaluated(api: Api, **more: Any) -> Any:
    answer = api("POST", "/access/v1/evaluation", ASKED | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def asked(api: Api, denied: Any, **changes: Any) -> Any:
    body = ASKED | {
        "denial": {"evaluation_id": denied["context"]["evaluation_id"], "reason": "approval_required"},
        "requested_access": {"requested_until": until(1)},
        "context": {"justification": "to look", "public_key": KEY},
    }  # fmt: skip
    return api("POST", "/access/v1/requests", body | changes)


def test_it_is_off_by_default(api: Api) -> None:
    assert evaluated(api) == {"decision": False, "context": {"reason": "no_active_grant"}}
    denial = {"context": {"evaluation_id": "1-x"}}
    assert asked(api, denial).status_code == 404
    assert "access_request_endpoint" not in api("GET", "/.well-known/authzen-configuration", who=None).json()


@pytest.mark.usefixtures("on")
def test_from_a_denial_to_access(api: Api) -> None:
    denial = evaluated(api)
    said = denial["context"]
    assert (denial["decision"], said["reason"]) == (False, "approval_required")
    assert said["access_request"]["endpoint"] == f"{api.office.url}/access/v1/requests"
    answer = asked(api, denial)
    assert answer.status_code == 202, answer.text
    task = answer.json()["task"]
    assert (task["status"], task["progress"]) == (
        "pending",
        {"current_step": 1, "total_steps": 1, "step_name": task["progress"]["step_name"]},
    )
    assert answer.headers["location"] == task["status_endpoint"]
    where = task["status_endpoint"].removeprefix(api.office.url)
    ticket = api("GET", f"/v1/requests/{task['id']}").json()
    api(
        "POST",
        f"/v1/requests/{task['id']}/decisions",
        {"decision": "approve", "digest": ticket["digest"]},
        who=CYD,
    )
    approved = api("GET", where).json()
    assert approved["task"]["status"] == "approved"
    approval = approved["result"]["approval"]
    assert approval["id"] == task["id"]
    again = evaluated(api, context={"approval": approval})
    assert again == {
        "decision": False,
        "context": {"reason": "grant_pending", "next_action": "retry", "retry_after": 2},
    }
    assert pursue(api.desk, task["id"]).status == "active"
    assert evaluated(api, context={"approval": approval})["decision"] is True
    # an approval gives nothing by itself
    other = api("POST", "/access/v1/evaluation", ASKED | {
        "subject": {"type": "user", "id": "bo@example.com"}, "context": {"approval": approval},
    }, who=BO)  # fmt: skip
    assert other.json()["decision"] is False
    assert other.json()["context"] == {"reason": "approval_unverifiable", "next_action": "none"}
    assert api("GET", where, who=BO).json()["type"] == f"{URN}unknown_task"
    api("POST", f"/v1/requests/{task['id']}/return")
    assert pursue(api.desk, task["id"]).status == "closed"


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"denial": {"evaluation_id": "x"}}, 400, "invalid_denial_binding"),
        ({"denial": {"evaluation_id": "1700000000-" + "0" * 40}}, 400, "invalid_denial_binding"),
        ({"action": {"name": "root"}}, 400, "invalid_denial_binding"),
        ({"subject": {"type": "user", "id": "bo@example.com"}}, 400, "invalid_denial_binding"),
        ({"requested_access": {"requested_until": "2020-01-01T00:00:00Z"}}, 422, None),
        ({"context": {}}, 422, None),
        ({"context": {"justification": ["x"]}}, 422, None),
    ],
)
def test_what_is_refused(api: Api, changes: dict[str, Any], status: int, error: str | None) -> None:
    before = api.tickets()
    answer = asked(api, evaluated(api), **changes)
    assert answer.status_code == status, answer.text
    if error:
        assert answer.json()["type"] == URN + error
    assert api.tickets() == before


@pytest.mark.usefixtures("on")
def test_an_old_denial_is_over(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    denial = evaluated(api)
    now = api.desk.clock.now() + timedelta(minutes=11)
    monkeypatch.setattr(type(api.desk.clock), "now", lambda _: now)
    answer = asked(api, denial)
    assert (answer.status_code, answer.json()["type"]) == (410, f"{URN}expired_denial")


@pytest.mark.usefixtures("on")
def test_what_cannot_be_asked_for_is_a_plain_denial(api: Api) -> None:
    for change in ({"action": {"name": "nonsense"}}, {"resource": {"type": "target", "id": "nowhere"}}):
        assert evaluated(api, **change)["context"] == {"reason": "no_active_grant"}


@pytest.mark.usefixtures("on")
def test_the_same_key_files_once(api: Api) -> None:
    denial, before = evaluated(api), api.tickets()
    body = ASKED | {
        "denial": {"evaluation_id": denial["context"]["evaluation_id"]},
        "requested_access": {"requested_until": until(2)}, "context": {"justification": "once", "public_key": KEY},
    }  # fmt: skip
    first, second = (
        api("POST", "/access/v1/requests", body, who=ANN, headers={"Idempotency-Key": "arap-1"})
        for _ in range(2)
    )
    assert first.json()["task"]["id"] == second.json()["task"]["id"]
    assert api.tickets() == before + 1
