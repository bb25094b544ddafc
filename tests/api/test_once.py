"""I30: the same key and body get the same answer and have one effect; another body is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from api.conftest import ANN, CYD, DEE, OPS, REQUEST, Api
from muniment.core.errors import Invalid, Refused
from muniment.core.ticket import Ticket
from muniment.service import deciding
from muniment.service.answering import once
from muniment.service.desk import Caller


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid4())}


def test_asked_again_it_is_answered_again_and_done_once(api: Api) -> None:
    before, headers = api.tickets(), keyed()
    first = api("POST", "/v1/requests", REQUEST, headers=headers)
    again = api("POST", "/v1/requests", REQUEST, headers=headers)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert api.tickets() == before + 1


def test_the_answer_is_the_one_of_then(api: Api) -> None:
    """The ticket moved on, was sealed, and the store's cache is cold: the answer is the same, to the byte."""
    headers = keyed()
    first = api("POST", "/v1/requests", REQUEST, headers=headers)
    ticket = first.json()
    api("POST", f"/v1/requests/{ticket['id']}/withdraw", who=ANN)
    api("GET", "/v1/ledger/checkpoint", who="human:aud@example.com")
    api.desk.store.resume()
    assert api("POST", "/v1/requests", REQUEST, headers=headers).content == first.content
    assert api("GET", f"/v1/requests/{ticket['id']}").json()["status"] == "withdrawn"


@pytest.mark.parametrize(
    "change", [{"duration": "2h"}, {"justification": "other"}, {"scope": [{"privilege": "root"}]}], ids=str
)
def test_another_body_is_refused(api: Api, change: dict[str, object]) -> None:
    headers = keyed()
    api("POST", "/v1/requests", REQUEST, headers=headers)
    before = api.tickets()
    answer = api("POST", "/v1/requests", REQUEST | change, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid.idempotency-key-reused")
    assert api.tickets() == before


def test_another_route_is_refused(api: Api) -> None:
    one, two, headers = api.filed()["id"], api.filed()["id"], keyed()
    assert api("POST", f"/v1/requests/{one}/withdraw", headers=headers).status_code == 200
    assert api("POST", f"/v1/requests/{two}/withdraw", headers=headers).status_code == 422
    assert api("GET", f"/v1/requests/{two}").json()["status"] == "pending"


def test_keys_are_ones_own(api: Api) -> None:
    headers = keyed()
    one = api("POST", "/v1/requests", REQUEST, headers=headers)
    other = api("POST", "/v1/requests", REQUEST, who=DEE, headers=headers)
    assert one.json()["id"] != other.json()["id"]
    assert other.json()["requester"] == DEE


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
def test_what_is_no_key(api: Api, key: str) -> None:
    answer = api("POST", "/v1/requests", REQUEST, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid.idempotency-key"


def test_what_was_refused_holds_no_key(api: Api) -> None:
    """A refusal changed nothing, so the client mends its body and keeps the key."""
    headers = keyed()
    assert api("POST", "/v1/requests", REQUEST | {"duration": "9h"}, headers=headers).status_code == 403
    assert api("POST", "/v1/requests", REQUEST, headers=headers).status_code == 201


@pytest.mark.parametrize("clients", [16])
def test_a_race_for_one_key(api: Api, clients: int) -> None:
    for _ in range(4):
        before, headers = api.tickets(), keyed()
        with ThreadPoolExecutor(clients) as pool:
            asked = [
                pool.submit(api, "POST", "/v1/requests", REQUEST, headers=headers) for _ in range(clients)
            ]
            answers = [each.result() for each in asked]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert api.tickets() == before + 1


def test_whoever_comes_while_it_is_done_hears_the_answer_and_no_refusal(api: Api) -> None:
    """The first commits after the second looked for the key and before it decides: the ticket has ended by then."""
    ticket, key = api.filed()["id"], str(uuid4())
    ann = api.desk.caller(ANN, "api")
    first = []

    def withdraw(caller: Caller) -> Ticket:
        if not first:
            first.append(None)
            first.append(once(api.desk, ann, key, "sha256:aa", withdraw))
        return deciding.withdraw(api.desk, caller, ticket)

    assert once(api.desk, ann, key, "sha256:aa", withdraw) == first[1]
    with pytest.raises(Refused):
        once(api.desk, ann, str(uuid4()), "sha256:aa", withdraw)
    with pytest.raises(Invalid, match="something else"):
        once(api.desk, ann, key, "sha256:bb", withdraw)


def test_a_race_of_two_bodies_for_one_key(api: Api) -> None:
    for _ in range(4):
        before, headers = api.tickets(), keyed()
        bodies = [REQUEST, REQUEST | {"duration": "2h"}] * 6
        with ThreadPoolExecutor(len(bodies)) as pool:
            asked = [pool.submit(api, "POST", "/v1/requests", body, headers=headers) for body in bodies]
            answers = [each.result() for each in asked]
        won = {a.json()["window"]["duration"] for a in answers if a.status_code == 201}
        assert len(won) == 1
        assert sorted({a.status_code for a in answers}) == [201, 422]
        assert api.tickets() == before + 1


def test_a_race_to_approve(api: Api) -> None:
    """F5: one approves, whoever repeats it under the same key hears the same, everybody else that it was decided."""
    ticket = api.filed()
    where, body = (
        f"/v1/requests/{ticket['id']}/decisions",
        {"decision": "approve", "digest": ticket["digest"]},
    )
    keys = [keyed(f"race-{ticket['id']}-{n % 3}") for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda headers: api("POST", where, body, who=CYD, headers=headers), keys))
    assert sorted({a.status_code for a in answers}) == [201, 409]
    assert len({a.content for a in answers if a.status_code == 201}) == 1
    events = api("GET", f"/v1/requests/{ticket['id']}/events", who=OPS).json()["items"]
    assert [e["type"] for e in events].count("approval-recorded/1") == 1
