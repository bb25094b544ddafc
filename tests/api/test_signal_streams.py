"""A receiver manages its own stream as SSF 1.0, section 8.1, has it; and only its own."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from api.conftest import AUD, OPS, Api
from hostile.corpus import CORPUS
from muniment.service.pursuing import pursue
from muniment.service.sealing import seal
from muniment.service.sending import look
from muniment.signals.tokens import CAEP
from muniment.store import tables as t
from muniment.store.delivering import SqlDeliveries
from muniment.store.engine import writing

REVOKED = f"{CAEP}session-revoked"
ABOUT_ANN = {"format": "email", "email": "ann@example.com"}


def ask(api: Api, method: str, path: str, body: Any = None, *, who: str = OPS, **more: Any) -> Any:
    return api(method, f"/ssf/{path}", body, token=api.token(who, "signals"), **more)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture(autouse=True)
def fresh(api: Api) -> None:
    """As configured, and nothing waits."""
    ask(api, "DELETE", "streams", params={"stream_id": "idp"})
    made = ask(api, "POST", "streams", {})
    assert made.status_code == 201, made.text
    told(api)
    polled(api)


def told(api: Api) -> None:
    stream = next(each for each in api.office.outward.sinks if each.name == "signals:idp")
    seal(api.desk)
    while look(api.desk, SqlDeliveries(api.desk.store.engine), stream):
        pass


def ended(api: Api) -> None:
    """Access of Ann's ends, and the stream has looked."""
    ticket = api.active()
    api("POST", f"/v1/requests/{ticket['id']}/revoke", {"reason": "x"}, who=OPS)
    pursue(api.desk, ticket["id"])
    told(api)


def polled(api: Api) -> int:
    """How many come; they are acknowledged."""
    answer = ask(api, "POST", "poll/idp", {})
    assert answer.status_code == 200, answer.text
    found = list(answer.json()["sets"])
    assert ask(api, "POST", "poll/idp", {"ack": found, "maxEvents": 0}).json()["sets"] == {}
    return len(found)


def test_endpoints_are_where_the_metadata_says(api: Api) -> None:
    said = api("GET", "/.well-known/ssf-configuration", who=None).json()
    for name, path in {
        "configuration_endpoint": "streams", "status_endpoint": "status", "verification_endpoint": "verify",
        "add_subject_endpoint": "subjects/add", "remove_subject_endpoint": "subjects/remove",
    }.items():  # fmt: skip
        assert said[name] == f"{said['issuer']}/ssf/{path}"
    assert said["default_subjects"] == "ALL"


def test_a_stream_is_read_changed_and_replaced(api: Api) -> None:
    (first,) = ask(api, "GET", "streams").json()
    assert ask(api, "GET", "streams", params={"stream_id": "idp"}).json() == first
    assert first["events_delivered"] == first["events_requested"] == first["events_supported"] == [REVOKED]
    wanted = {
        "stream_id": "idp",
        "events_requested": ["https://other.example/x"],
        "description": "of the IdP",
    }
    changed = ask(api, "PATCH", "streams", wanted | {"what_nobody_knows": 1}).json()
    assert (changed["events_requested"], changed["events_delivered"]) == (wanted["events_requested"], [])
    assert changed["description"] == "of the IdP"
    kept = ask(api, "PATCH", "streams", {"stream_id": "idp", "events_requested": [REVOKED]}).json()
    assert (kept["events_delivered"], kept["description"]) == ([REVOKED], "of the IdP")
    whole = ask(api, "PUT", "streams", first)  # with all that only we say, unchanged
    assert whole.json() == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"}, {"aud": "https://evil.example"}, {"events_supported": []},
        {"events_delivered": ["x"]}, {"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "http://169.254.169.254/"}},
        {"delivery": {"method": "urn:ietf:rfc:8936", "endpoint_url": "https://evil.example/"}}, {"delivery": {"method": "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_only_we_say_is_not_changed(api: Api, wrong: dict[str, Any]) -> None:
    before = ask(api, "GET", "streams").json()
    for method in ("PATCH", "PUT"):
        assert code(ask(api, method, "streams", {"stream_id": "idp"} | wrong)) == (400, "invalid.stream")
    assert ask(api, "GET", "streams").json() == before
    ask(api, "DELETE", "streams", params={"stream_id": "idp"})
    assert code(ask(api, "POST", "streams", wrong)) == (400, "invalid.stream")
    assert ask(api, "GET", "streams").json() == []


def test_a_stream_is_deleted_and_created_again(api: Api) -> None:
    ended(api)
    ask(api, "POST", "subjects/remove", {"stream_id": "idp", "subject": ABOUT_ANN})
    assert code(ask(api, "POST", "streams", {})) == (409, "conflict.stream-exists")
    assert ask(api, "DELETE", "streams", params={"stream_id": "idp"}).status_code == 204
    for answer in (
        ask(api, "GET", "streams", params={"stream_id": "idp"}),
        ask(api, "DELETE", "streams", params={"stream_id": "idp"}),
        ask(api, "GET", "status", params={"stream_id": "idp"}),
        ask(api, "POST", "status", {"stream_id": "idp", "status": "enabled"}),
        ask(api, "POST", "verify", {"stream_id": "idp"}),
        ask(api, "POST", "poll/idp", {}),
        ask(api, "PATCH", "streams", {"stream_id": "idp"}),
        ask(api, "POST", "subjects/add", {"stream_id": "idp", "subject": ABOUT_ANN}),
    ):
        assert code(answer) == (404, "not-found")
    assert ask(api, "GET", "streams").json() == []
    ended(api)  # meanwhile
    delivery = {"method": "urn:ietf:rfc:8936"}
    made = ask(api, "POST", "streams", {"events_requested": [REVOKED], "delivery": delivery})
    assert (made.status_code, made.json()["stream_id"]) == (201, "idp")
    assert polled(api) == 0  # what waited, and what happened while it was not there, is not sent
    ended(api)
    assert polled(api) == 1  # and Ann is not left out any more


def test_paused_it_keeps_and_disabled_it_does_not(api: Api) -> None:
    for status, kept in (("paused", 2), ("disabled", 0)):
        ended(api)
        said = ask(api, "POST", "status", {"stream_id": "idp", "status": status, "reason": "moving"})
        assert said.json() == {"stream_id": "idp", "status": status, "reason": "moving"}
        assert ask(api, "GET", "status", params={"stream_id": "idp"}).json() == said.json()
        ended(api)
        assert ask(api, "POST", "verify", {"stream_id": "idp", "state": "x"}).status_code == 204
        answer = ask(api, "POST", "poll/idp", {}).json()
        assert answer == {"sets": {}, "moreAvailable": False}
        assert (
            ask(api, "POST", "status", {"stream_id": "idp", "status": "enabled"}).json()["status"]
            == "enabled"
        )
        assert polled(api) == kept + 1  # and the verification
    ended(api)
    assert polled(api) == 1


def test_people_who_are_left_out(api: Api) -> None:
    def subject(what: str, about: Any) -> int:
        status: int = ask(api, "POST", f"subjects/{what}", {"stream_id": "idp", "subject": about}).status_code
        return status

    assert (
        subject("remove", {"format": "complex", "user": {"format": "email", "email": "ANN@example.com"}})
        == 204
    )
    ended(api)
    assert polled(api) == 0
    assert subject("add", ABOUT_ANN) == 200
    ended(api)
    assert polled(api) == 1
    # nobody learns who is known here, or that a format is not
    for about in (
        {"format": "email", "email": "nobody@example.com"}, {"format": "email", "email": "a b\n"},
        {"format": "opaque", "id": "ann@example.com"}, {"format": "iss_sub", "iss": "x", "sub": "ann@example.com"},
        {"format": "x"}, {"format": "complex", "user": {"format": "complex"}},
    ):  # fmt: skip
        assert (subject("remove", about), subject("add", about)) == (204, 200)
    for about in ({}, {"format": 1}, {"format": ["email"]}, {"email": "ann@example.com"}):
        assert subject("remove", about) == 400
    ended(api)
    assert polled(api) == 1


def test_as_many_people_as_a_stream_leaves_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muniment.service.transmitting.LEFT_OUT", 0)
    refused = ask(api, "POST", "subjects/remove", {"stream_id": "idp", "subject": ABOUT_ANN})
    assert code(refused) == (403, "refused.too-many-subjects")


def test_events_that_nobody_asked_for_are_not_sent(api: Api) -> None:
    ask(api, "PATCH", "streams", {"stream_id": "idp", "events_requested": []})
    ended(api)
    assert polled(api) == 0


def test_nobody_manages_anothers_stream(api: Api) -> None:
    """I33: somebody else's stream is not there; where none is configured, none is made."""
    assert ask(api, "GET", "streams", who=AUD).json() == []
    assert code(ask(api, "POST", "streams", {}, who=AUD)) == (403, "refused.no-stream")
    for answer in (
        ask(api, "GET", "streams", params={"stream_id": "idp"}, who=AUD),
        ask(api, "DELETE", "streams", params={"stream_id": "idp"}, who=AUD),
        ask(api, "PATCH", "streams", {"stream_id": "idp"}, who=AUD),
        ask(api, "PUT", "streams", {"stream_id": "idp"}, who=AUD),
        ask(api, "POST", "status", {"stream_id": "idp", "status": "disabled"}, who=AUD),
        ask(api, "POST", "subjects/remove", {"stream_id": "idp", "subject": ABOUT_ANN}, who=AUD),
    ):
        assert code(answer) == (404, "not-found")
    assert ask(api, "GET", "status", params={"stream_id": "idp"}).json()["status"] == "enabled"


def test_a_stream_that_sql_silenced_goes_on(api: Api) -> None:
    ask(api, "POST", "status", {"stream_id": "idp", "status": "enabled"})
    with writing(api.desk.store.engine) as connection:
        connection.execute(update(t.signal_stream).values(state=b'{"there":false}'))
    ended(api)
    assert polled(api) == 1


@pytest.mark.parametrize("hostile", CORPUS.values(), ids=CORPUS.keys())
def test_hostile_values(api: Api, hostile: str) -> None:
    if len(hostile) > 5000:  # who sends more is cut off before they have sent it
        return
    try:
        hostile.encode()
    except UnicodeEncodeError:
        return
    for method, path, body in (
        ("POST", "streams", {"description": hostile}), ("PATCH", "streams", {"stream_id": hostile}),
        ("PATCH", "streams", {"stream_id": "idp", "description": hostile}),
        ("PATCH", "streams", {"stream_id": "idp", "events_requested": [hostile]}),
        ("PUT", "streams", {"stream_id": "idp", "iss": hostile}),
        ("POST", "status", {"stream_id": "idp", "status": hostile}),
        ("POST", "status", {"stream_id": "idp", "status": "enabled", "reason": hostile}),
        ("POST", "subjects/remove", {"stream_id": "idp", "subject": {"format": hostile}}),
        ("POST", "subjects/remove", {"stream_id": "idp", "subject": {"format": "email", "email": hostile}}),
        ("POST", "subjects/add", {"stream_id": hostile, "subject": {hostile: hostile}}),
    ):  # fmt: skip
        assert ask(api, method, path, body).status_code in {200, 204, 400, 404, 409, 413, 422}
    assert ask(api, "DELETE", "streams", params={"stream_id": hostile}).status_code in {404, 422}

    assert ask(api, "GET", "streams").status_code == 200
