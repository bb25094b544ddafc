"""Signals that come in: taken only when every part of the token holds, heeded once, and acted upon."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import RSAKey

from api.conftest import ANN, CYD, OPS, Api
from muniment.core.events import SignalReceived
from muniment.core.instants import wire
from muniment.core.login import Login
from muniment.ports import SignedIn
from muniment.service.logins import identity_of
from muniment.service.sealing import seal
from muniment.service.sending import look, send
from muniment.signals.tokens import CAEP, RISC
from muniment.store.delivering import SqlDeliveries
from muniment.store.sessions import SessionRow, SqlSessions

ISSUER, AUDIENCE = "https://idp.example.com", "https://muniment.example.com"
HIGH = {f"{CAEP}risk-level-change": {"principal": "USER", "current_level": "HIGH"}}
TYP = "secevent+jwt"


def claims(events: Any = HIGH, *, about: Any = None, **changes: Any) -> dict[str, Any]:
    said = {
        "iss": ISSUER, "aud": AUDIENCE, "iat": int(time.time()), "jti": uuid.uuid4().hex,
        "sub_id": about or {"format": "email", "email": "ann@example.com"}, "events": events,
    }  # fmt: skip
    return {name: value for name, value in (said | changes).items() if value is not None}


#: what the transmitter signs with, once the server is there
KEYS: dict[str, Any] = {}


def signed(said: Any, key: Any = None, **header: Any) -> bytes:
    head = {"alg": "RS256", "typ": TYP, "kid": "one"} | header
    return jws.serialize_compact(
        {n: v for n, v in head.items() if v is not None}, json.dumps(said), key or KEYS["idp"], algorithms=["RS256", "PS256", "HS256"]
    ).encode()  # fmt: skip


def push(api: Api, raw: bytes, token: str | None = None) -> Any:
    return api.http.post(
        "/ssf/events", content=raw,
        headers={"Content-Type": "application/secevent+jwt", "Authorization": f"Bearer {token or api.token(OPS, 'signals')}"},
    )  # fmt: skip


def recorded(api: Api) -> list[SignalReceived]:
    found = [last for _, last in api.desk.views.registered("signal:").values()]
    return [each for each in found if isinstance(each, SignalReceived)]


def act(api: Api) -> None:
    """What the controllers do on their beat."""
    sink = api.office.outward.signals
    assert sink is not None
    deliveries = SqlDeliveries(api.desk.store.engine)
    seal(api.desk)
    while look(api.desk, deliveries, sink):
        pass
    while send(api.desk, deliveries, sink, "test"):
        pass
    progress = deliveries.progress(sink.name)
    assert progress
    assert (progress.waiting, progress.lost) == (0, 0)
    api.desk.directory.reload_if_changed()


@pytest.fixture(autouse=True)
def begun(api: Api) -> None:
    """The sink follows the ledger from here on, and what an earlier test left is done: it ends nothing of this one's."""
    KEYS["idp"] = api.idp
    act_from_here = api.office.outward.signals
    assert act_from_here is not None
    look(api.desk, SqlDeliveries(api.desk.store.engine), act_from_here)
    act(api)


def test_a_sound_token_is_taken_once(api: Api) -> None:
    before, raw = len(recorded(api)), signed(claims())
    for _ in range(3):
        answer = push(api, raw)
        assert (answer.status_code, answer.content) == (202, b"")
    assert len(recorded(api)) == before + 1


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unsigned() -> bytes:
    return b".".join(
        (b64(json.dumps({"alg": "none", "typ": TYP}).encode()), b64(json.dumps(claims()).encode()), b"")
    )


def tampered() -> bytes:
    head, body, mac = signed(claims()).split(b".")
    said = json.loads(base64.urlsafe_b64decode(body + b"=="))
    said["sub_id"] = {"format": "email", "email": "bo@example.com"}
    return b".".join((head, b64(json.dumps(said).encode()), mac))


OTHER = RSAKey.generate_key(2048, {"kid": "one"})
BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("invalid_request", lambda: b""),
    "no token": ("invalid_request", lambda: b"\xff\x00..."),
    "two parts": ("invalid_request", lambda: b"a.b"),
    "payload no object": ("invalid_request", lambda: signed([1])),
    "payload no JSON": ("invalid_request", lambda: signed(claims()).replace(b".", b".x", 1)),
    "a plain JWT": ("invalid_request", lambda: signed(claims(), typ="JWT")),
    "no type": ("invalid_request", lambda: signed(claims(), typ=None)),
    "alg none": ("invalid_key", unsigned),
    "another alg": ("invalid_key", lambda: signed(claims(), alg="PS256")),
    "another's key": ("invalid_key", lambda: signed(claims(), OTHER)),
    "unknown key": ("invalid_key", lambda: signed(claims(), RSAKey.generate_key(2048), kid="two")),
    "tampered": ("invalid_key", tampered),
    "critical header": ("invalid_request", lambda: signed(claims(), jku="https://evil.example.com/jwks")),
    "another issuer": ("invalid_issuer", lambda: signed(claims(iss="https://evil.example.com"))),
    "issuer no text": ("invalid_issuer", lambda: signed(claims(iss=["x"]))),
    "another audience": ("invalid_audience", lambda: signed(claims(aud="https://other.example.com"))),
    "no audience": ("invalid_audience", lambda: signed(claims(aud=None))),
    "sub": ("invalid_request", lambda: signed(claims(sub="ann"))),
    "exp": ("invalid_request", lambda: signed(claims(exp=int(time.time()) + 60))),
    "no jti": ("invalid_request", lambda: signed(claims(jti=None))),
    "long jti": ("invalid_request", lambda: signed(claims(jti="x" * 300))),
    "jti with a line": ("invalid_request", lambda: signed(claims(jti="a\nb"))),
    "no iat": ("invalid_request", lambda: signed(claims(iat=None))),
    "iat true": ("invalid_request", lambda: signed(claims(iat=True))),
    "iat to come": ("invalid_request", lambda: signed(claims(iat=int(time.time()) + 3600))),
    "iat long ago": ("invalid_request", lambda: signed(claims(iat=1_500_000_000))),
    "iat without end": ("invalid_request", lambda: signed(claims(iat=10**30))),
    "no events": ("invalid_request", lambda: signed(claims(events={}))),
    "two events": ("invalid_request", lambda: signed(claims(events=HIGH | {f"{RISC}account-purged": {}}))),
    "event no object": ("invalid_request", lambda: signed(claims(events={f"{CAEP}risk-level-change": "HIGH"}))),
    "no subject": ("invalid_request", lambda: signed(claims(sub_id=None))),
    "deep": ("invalid_request", lambda: b64(b'{"alg":"RS256"}') + b"." + b64(b"[" * 40000) + b".x"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_hold_is_refused_and_not_recorded(api: Api, what: str) -> None:
    err, make = BAD[what]
    before = len(recorded(api))
    answer = push(api, make())
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"err", "description"}
    assert answer.json()["err"] == err
    assert len(recorded(api)) == before


def test_callers_need_a_token_made_for_it(api: Api) -> None:
    for token, status, err in (("x", 401, "authentication_failed"), (api.token(OPS), 403, "access_denied")):
        answer = push(api, signed(claims()), token)
        assert (answer.status_code, answer.json()["err"]) == (status, err)


def sent(api: Api, name: str, said: dict[str, Any], base: str = CAEP, about: Any = None) -> None:
    assert push(api, signed(claims({base + name: said}, about=about))).status_code == 202
    act(api)


def standing(api: Api, ticket: dict[str, Any]) -> Any:
    return api.desk.store.read(ticket["id"])[1]


@pytest.mark.parametrize(
    ("name", "said", "ends"),
    [
        ("risk-level-change", {"principal": "USER", "current_level": "HIGH"}, True),
        ("risk-level-change", {"principal": "USER", "current_level": "LOW"}, False),
        (
            "device-compliance-change",
            {"previous_status": "compliant", "current_status": "not-compliant"},
            True,
        ),
        ("session-revoked", {}, False),
        ("token-claims-change", {"claims": {"groups": []}}, False),
    ],
)
def test_what_ends_access(api: Api, name: str, said: dict[str, Any], ends: bool) -> None:
    """By itself, or because the configuration says that it does."""
    ticket = api.active()
    sent(api, name, said)
    state = standing(api, ticket)
    assert state.status == ("revoking" if ends else "active")
    if ends:
        assert state.revocation.cause == "signal"
        assert [(f.type, f.severity) for f in state.findings] == [("signal", "high")]


@pytest.mark.parametrize(
    ("name", "said", "void"),
    [
        ("credential-change", {"credential_type": "fido2-roaming", "change_type": "revoke"}, True),
        ("credential-change", {"credential_type": "fido2-roaming", "change_type": "create"}, False),
        (
            "assurance-level-change",
            {"namespace": "NIST-AAL", "current_level": "1", "change_direction": "decrease"},
            True,
        ),
    ],
)
def test_approvals_that_may_not_be_theirs_are_void(
    api: Api, name: str, said: dict[str, Any], void: bool
) -> None:
    ticket = api.filed(starts_at="2099-01-01T00:00:00Z") if void is None else api.filed()
    body = {"decision": "approve", "digest": ticket["digest"]}
    assert api("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=CYD).status_code == 201
    sent(api, name, said, about={"format": "email", "email": "cyd@example.com"})
    assert standing(api, ticket).status == ("pending" if void else "approved")


def test_a_disabled_account_is_a_leavers_until_it_is_enabled(api: Api) -> None:
    api.token(ANN)
    for name in ("account-disabled", "account-purged", "credential-compromise"):
        sent(api, name, {}, RISC)
        sent(api, name, {}, RISC)
        known = api.desk.directory.get(ANN)
        assert known is not None
        assert not known.active, name
        assert api("GET", "/v1/whoami").status_code == 401
        sent(api, "account-enabled", {}, RISC)
        assert api("GET", "/v1/whoami").status_code == 200


@pytest.mark.parametrize(
    ("about", "who"),
    [
        ({"format": "email", "email": "Ann@Example.com"}, ANN),
        ({"format": "iss_sub", "iss": ISSUER, "sub": "ann@example.com"}, ANN),
        ({"format": "iss_sub", "iss": "https://evil.example.com", "sub": "ann@example.com"}, None),
        ({"format": "complex", "user": {"format": "email", "email": "ann@example.com"}, "device": {}}, ANN),
        ({"format": "complex", "user": {"format": "complex", "user": {}}}, None),
        ({"format": "opaque", "id": "u-1"}, "human:quinn@example.com"),
        ({"format": "email", "email": "nobody@example.com"}, None),
        ({"format": "email", "email": "a b\n"}, None),
        ({"format": "email", "email": 7}, None),
        ({"format": "did", "url": "did:x"}, None),
        ({}, None),
    ],
)
def test_whom_a_signal_is_about(api: Api, about: Any, who: str | None) -> None:
    user = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "quinn@example.com",
        "externalId": "u-1",
    }
    api("POST", "/scim/v2/Users", user, token=api.token(OPS, "scim"))
    api.desk.directory.reload_if_changed()
    jti = uuid.uuid4().hex
    said = claims(
        {f"{CAEP}session-revoked": {"reason_admin": {"en": "SECRET-PROSE"}}},
        about=about or {"format": "x"},
        jti=jti,
    )
    assert push(api, signed(said)).status_code == 202
    found = next(each for each in recorded(api) if each.jti == jti)
    assert found.subject == who
    assert "SECRET-PROSE" not in str(found)


def test_an_account_that_somebody_signed_in_with_is_theirs(api: Api) -> None:
    login = Login(
        method="oidc", issuer=ISSUER, subject="248289761001", at=wire(api.desk.clock.now()), level=1, acr=None
    )
    identity_of(api.desk, SignedIn(login=login, session=None, name="cyd@example.com", groups=None))
    jti = uuid.uuid4().hex
    about = {"format": "iss_sub", "iss": ISSUER, "sub": "248289761001"}
    assert push(api, signed(claims({f"{CAEP}session-revoked": {}}, about=about, jti=jti))).status_code == 202
    assert next(each for each in recorded(api) if each.jti == jti).subject == CYD


def test_streams_are_fetched_and_acknowledged(api: Api) -> None:
    """What a receiver gets is signed by the published key, comes again until it is acknowledged, and then no more."""
    token = api.token(OPS, "signals")
    stream = api.office.outward.sinks[-2]
    deliveries = SqlDeliveries(api.desk.store.engine)
    look(api.desk, deliveries, stream)
    ticket = api.active()
    api("POST", f"/v1/requests/{ticket['id']}/revoke", {"reason": "x"}, who=OPS)
    from muniment.service.pursuing import pursue  # noqa: PLC0415

    pursue(api.desk, ticket["id"])
    seal(api.desk)
    while look(api.desk, deliveries, stream):
        pass
    assert api("POST", "/ssf/verify", {"stream_id": "idp", "state": "s-1"}, token=token).status_code == 204

    def poll(**body: Any) -> Any:
        answer = api("POST", "/ssf/poll/idp", body, token=token)
        assert answer.status_code == 200, answer.text
        return answer.json()

    metadata = api("GET", "/.well-known/ssf-configuration", who=None).json()
    keys = api("GET", httpx.URL(metadata["jwks_uri"]).path, who=None).json()
    key = RSAKey.import_key(keys["keys"][0])
    assert not key.is_private
    first = poll()
    again = poll()
    events = {}
    for jti, raw in first["sets"].items():
        opened = jws.deserialize_compact(raw, key, algorithms=["RS256"])
        said = json.loads(opened.payload)
        assert opened.headers()["typ"] == TYP
        assert said.keys() == {"iss", "jti", "iat", "aud", "sub_id", "events"}
        assert (said["jti"], said["iss"], said["aud"]) == (
            jti,
            metadata["issuer"],
            "https://idp.example.com/caep",
        )
        ((kind, event),) = said["events"].items()
        events[kind.rpartition("/")[2]] = (said, event)
    assert events["verification"][1] == {"state": "s-1"}
    said, event = events["session-revoked"]
    assert said["sub_id"] == {
        "format": "complex", "user": {"format": "email", "email": "ann@example.com"},
        "application": {"format": "opaque", "id": "bastion"},
    }  # fmt: skip
    assert event["initiating_entity"] == "admin"
    assert event["reason_admin"]["en"] == f"revoked: {ticket['id']}"
    jti = said["jti"]
    assert again["sets"] == {jti: first["sets"][jti]}  # the same bytes
    assert poll(ack=[jti])["sets"] == {}
    assert poll() == {"sets": {}, "moreAvailable": False}
    assert api("GET", "/ssf/status", token=token, params={"stream_id": "idp"}).json()["status"] == "enabled"
    assert [s["stream_id"] for s in api("GET", "/ssf/streams", token=token).json()] == ["idp"]
    other = api.token(CYD, "signals")
    assert api("GET", "/ssf/streams", token=other).json() == []
    assert api("POST", "/ssf/poll/idp", {}, token=other).status_code == 404


@pytest.mark.parametrize("name", ["session-revoked", "token-claims-change"])
def test_sessions_here_end_with_the_one_there(api: Api, name: str) -> None:
    act(api)  # what other tests have sent about the same person
    now = api.desk.clock.now()
    rows = SqlSessions(api.desk.store.engine, api.desk.store.marker)
    login = Login(method="oidc", issuer=ISSUER, subject="1", at=wire(now), level=1, acr=None)
    row = SessionRow(
        id=uuid.uuid4().hex, hash=b"x" * 32, identity=ANN, login=login, sid=None, without=(), created_at=now, seen_at=now,
        expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    rows.add(row)
    sent(api, name, {"claims": {}})
    found = rows.get(row.id)
    assert found is not None
    assert (found.ended_at is not None) == (name == "session-revoked")
