"""Bodies are closed, text is data, and nothing that a client sends makes a 5xx."""

from __future__ import annotations

import json
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest

from api.conftest import ANN, AUD, CYD, OPS, REQUEST, Api
from api.test_who_may_call import ASKED, BODIES, NEVER, path
from hostile.corpus import CORPUS
from muniment.api import bodies, problems
from muniment.api.routes import MAX_BODY, Call, Route
from muniment.api.table import TABLE
from muniment.core.errors import MunimentError
from muniment.service.tokens import SCOPES

POSTS = [route for route in TABLE if route.body is not None]
#: closed: what nobody knows is refused. Other protocols tell everybody to ignore it
OURS = [route for route in POSTS if isinstance(route.body, type) and issubclass(route.body, bodies.Body)]
#: what is wrong with a body comes before anything else
TYPED = [*OURS, *(route for route in POSTS if route.path.startswith("/access/"))]


@pytest.fixture(autouse=True)
def whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts that are off by default, too."""
    monkeypatch.setattr(api.office, "access_requests", True)


@pytest.mark.parametrize("route", OURS, ids=lambda route: route.name)
def test_a_member_that_nobody_knows_is_refused(api: Api, route: Route) -> None:
    """F1, F6: an approval cannot carry scope, nor a request its own approval."""
    ticket = api.filed()["id"]
    for extra in (
        "scope_",
        "expires_at",
        "approved",
        "status",
        "requester",
        "beneficiary_",
        "__proto__",
        "scopes",
    ):
        body = BODIES[route.name] | {extra: [{"privilege": "root"}]}
        who = OPS if route.roles else CYD
        answer = api("POST", path(route, ticket), body, token=api.token(who, *SCOPES))
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid.body"), extra
    assert api("GET", f"/v1/requests/{ticket}").json()["status"] == "pending"


def test_an_approval_cannot_carry_scope_or_time(api: Api) -> None:
    ticket = api.filed()
    where = f"/v1/requests/{ticket['id']}/decisions"
    for extra in (
        {"scope": ticket["requested"]},
        {"duration": "PT2H"},
        {"expires_at": "2030-01-01T00:00:00Z"},
    ):
        body = {"decision": "approve", "digest": ticket["digest"], **extra}
        assert api("POST", where, body, who=CYD).status_code == 422
    stale = {"decision": "approve", "digest": "sha256:" + "0" * 64}
    answer = api("POST", where, stale, who=CYD)
    assert (answer.status_code, answer.json()["code"]) == (409, "refused.stale-approval")
    denial = {"decision": "deny", "digest": "sha256:" + "0" * 64, "comment": "no"}
    answer = api("POST", where, denial, who=CYD)
    assert (answer.status_code, answer.json()["code"]) == (409, "refused.stale-approval")
    assert api("POST", where, denial | {"digest": ticket["digest"]}, who=CYD).json()["status"] == "denied"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 422), (b"null", 422), (b'"x"', 422), (b"1e999", 422),
        (b"[" * 30_000, 422), (b'{"a":' * 10_000, 400), (b'{"reason": "\\ud800"}', 400),
        (b'{"reason": ' + b"[" * 5000 + b"]" * 5000 + b"}", 422), (b"{}", 422), (b"x" * (MAX_BODY + 1), 413),
        (b'{"reason": NaN}', 400), (b'\xef\xbb\xbf{"reason": "x"}', 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", TYPED, ids=lambda route: route.name)
def test_what_is_no_sound_body(api: Api, route: Route, raw: bytes, status: int) -> None:
    answer = api(
        "POST", path(route), token=api.token(OPS, *SCOPES), content=raw, headers={"Content-Type": "application/json"}
    )  # fmt: skip
    if (route.name, raw) == ("propose_change", b"{}"):
        assert answer.status_code == 201  # sound here: in a trial of one person nobody has to be told why
        return
    assert answer.status_code in {status, 400, 422}, answer.text
    assert answer.status_code != 413 or status == 413


def places(body: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a body has strings."""
    if isinstance(body, str):
        return [at]
    parts = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [place for name, part in parts for place in places(part, (*at, name))]


def put(body: Any, place: tuple[Any, ...], text: str) -> Any:
    if not place:
        return text
    copy = json.loads(json.dumps(body))
    at = copy
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = text
    return copy


FULL = REQUEST | {
    "scope": [{"privilege": "web-admin", "resource": "r"}], "beneficiary": ANN, "starts_at": "2026-01-01T00:00:00Z",
    "references": {"change": "CHG-7"}, "incident": "INC-1",
}  # fmt: skip


_ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PERSON = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", _ENTERPRISE], "userName": "x@example.com", "externalId": "x",
    "displayName": "x", "name": {"formatted": "x", "familyName": "x"}, "emails": [{"value": "x@example.com", "type": "work"}],
    "active": "True", _ENTERPRISE: {"department": "x", "manager": {"value": "x", "$ref": "https://x.example.com/Users/x"}},
}  # fmt: skip

SENDABLE = {
    name: text
    for name, text in CORPUS.items()
    if text.isascii() or text.encode(errors="ignore").decode() == text
}


def straight(api: Api, route: Route, body: Any = None, query: dict[str, str] | None = None) -> int:
    """The status that a call ends in, without a socket: for long tables."""
    caller = api.desk.caller(OPS, "api")
    names = {"ticket": NEVER, "finding": f"{NEVER}:1", "target": "bastion", "tile": "0/000"} | dict.fromkeys(
        ("ident", "stream", "delegation", "change", "inventory", "campaign"), "0"
    )
    call = Call(
        route=route, desk=api.desk, caller=caller, scopes=frozenset(), names=names, office=api.office,
        parameters={name: [value] for name, value in (query or {}).items()}, raw=json.dumps(body).encode(),
    )  # fmt: skip
    try:
        route.run(call)
    except MunimentError as error:
        return problems.status_of(error)
    return route.status


@pytest.mark.parametrize("name", sorted(SENDABLE))
def test_hostile_text_in_every_string(api: Api, name: str) -> None:
    """Every member of every body and every parameter: refused in our words, or kept as data."""
    text = CORPUS[name]
    for route in POSTS:
        sound = FULL if route.name in {"file_request", "preview"} else BODIES[route.name]
        if route.name in {"scim_create_user", "scim_replace_user"}:
            sound = PERSON
        if route.name == "evaluate_many":
            sound = {"evaluations": [ASKED]}
        for place in places(sound):
            assert straight(api, route, put(sound, place, text)) < 500, (route.name, place)
    for route in TABLE:
        if route.query is not None:
            for parameter in (*route.query.__struct_encode_fields__, "x"):
                assert straight(api, route, query={parameter: text}) < 500, (route.name, parameter)


def test_hostile_justifications_come_back_unchanged(api: Api) -> None:
    kept = 0
    for text in SENDABLE.values():
        answer = api("POST", "/v1/requests", REQUEST | {"justification": text})
        assert answer.status_code in {201, 413, 422}
        if answer.status_code == 201:
            kept += 1
            back = answer.json()["justification"]
            assert unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", text.strip())
    assert kept > len(SENDABLE) / 4


@pytest.mark.parametrize("name", sorted(name for name, text in SENDABLE.items() if 0 < len(text) < 2000))
def test_hostile_paths(api: Api, name: str) -> None:
    for where in ("/v1/requests/{}/events", "/v1/targets/{}/holdings", "/ledger/tile/{}", "/{}"):
        answer = api.http.get(
            where.format(quote(CORPUS[name], safe="")), headers={"Authorization": f"Bearer {api.token(AUD)}"}
        )
        assert answer.status_code in {307, 308, 400, 404, 405}, (where, answer.status_code)
        assert "root:x:" not in answer.text


def test_the_ledgers_files_and_nothing_else(api: Api) -> None:
    """No path leads out of the folder of tiles."""
    (api.folder / "var" / "secret").write_text("secret")
    api("GET", "/v1/ledger/checkpoint", who=AUD)
    assert api("GET", "/ledger/checkpoint", who=AUD).text.count("\n") >= 4
    for tile in (
        "../../secret",
        "..%2f..%2fsecret",
        "0/../../../secret",
        "checkpoint",
        ".lock",
        "0/000.p/256",
        "64/000",
    ):
        answer = api.http.get(
            f"/ledger/tile/{tile}", headers={"Authorization": f"Bearer {api.token('human:aud@example.com')}"}
        )
        assert answer.status_code == 404
