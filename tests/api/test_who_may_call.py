"""Every route with no, unknown, expired, revoked, foreign and too narrow credentials: made from the table of routes.

A route that is added is in these tests from its first day; one that takes a body needs a sound one in `BODIES`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from api.conftest import ANN, AUD, BO, CYD, OPS, REQUEST, Api, deactivate
from muniment.api.routes import Route
from muniment.api.table import TABLE
from muniment.ports import Scoped
from muniment.service import tokens
from muniment.service.devices import GRANT

NEVER = "req_00000000000000000000000000"
SUBJECT = {"type": "user", "id": "ann@example.com"}
ASKED = {"subject": SUBJECT, "action": {"name": "web-admin"}, "resource": {"type": "target", "id": "bastion"}}
CAMPAIGN = {
    "name": "q4", "reason": "x", "reviewers": ["owner"], "duration": "P14D", "escalate_to": "role:operator", "valid_for": "P90D",
    "selection": {
        "targets": ["bastion"], "environments": ["prod"], "privileges": ["root"], "groups": ["x"], "due_before": "2099-01-01T00:00:00Z"
    },
}  # fmt: skip
ITEMS = {
    "items": "0",
    "target": "x",
    "account": "x",
    "privilege": "x",
    "identity": "human:ann@example.com",
    "reviewer": "x",
}
BODIES: dict[str, Any] = {
    "file_request": REQUEST,
    "preview": REQUEST,
    "decide": {"decision": "approve", "digest": "sha256:" + "0" * 64},
    "offer": {"digest": "sha256:" + "0" * 64, "comment": "x", "duration": "PT30M"},
    "accept": {"digest": "sha256:" + "0" * 64},
    "extend": {"duration": "PT1H", "justification": "x"},
    "revoke": {"reason": "x"},
    "review": {"outcome": "appropriate", "comment": "x"},
    "waive": {"check": "gone", "reason": "x"},
    "resolve_finding": {"reason": "x"},
    "assign_finding": {"to": "human:dee@example.com"},
    "remove_finding": {"reason": "x"},
    "explain_finding": {"explanation": "x"},
    "accept_finding": {"until": "2099-01-01T00:00:00Z", "reason": "x"},
    "open_campaign": CAMPAIGN,
    "preview_campaign": CAMPAIGN,
    "decide_campaign": {"decision": "keep", "reason": "x", "where": ITEMS},
    "reassign_campaign": {"to": "human:dee@example.com", "reason": "x", "where": ITEMS},
    "explain_campaign": {"items": "0", "reason": "x"},
    "close_campaign": {"comment": "x"},
    "cancel_campaign": {"reason": "x"},
    "evaluate": ASKED,
    "evaluate_many": ASKED,
    "search_subjects": ASKED,
    "search_resources": ASKED,
    "search_actions": ASKED,
    "finish_step_up": {
        "state": "x",
        "passkey": {"authenticator_data": "x", "client_data": "x", "signature": "x"},
    },
    "finish_passkey": {"state": "x", "answer": {}},
    "end_sessions": {"logout_token": "x"},
    "begin_device": {"client_id": "muniment-cli"},
    "fetch_token": {"grant_type": GRANT, "device_code": "x", "client_id": "muniment-cli"},
    "allow_device": {"user_code": "BCDFG-HJKLM"},
    "deny_device": {"user_code": "BCDFG-HJKLM"},
    "file_bundle": {"requests": [REQUEST, REQUEST]},
    "give_delegation": {"to": "human:dee@example.com", "reason": "x", "duration": "PT1H"},
    "propose_change": {"reason": "x"},
    "refuse_change": {"reason": "x"},
    "request_access": ASKED | {"denial": {"evaluation_id": "1-x"}, "requested_access": {"requested_until": "2099-01-01T00:00:00Z"}},
    "lift_disablement": {"identity": "human:ann@example.com", "reason": "x"},
    "send_usage": {
        "target": "bastion", "source": "siem", "events": [{"at": "2026-11-26T10:00:00Z", "account": "ann", "privilege": "web-admin"}],
        "covers": {"begins": "2026-11-26T10:00:00Z", "ends": "2026-11-26T11:00:00Z"},
    },
    "receive_signal": "x",
    "verify_stream": {"stream_id": "idp", "state": "x"},
    "create_stream": {"events_requested": []},
    "update_stream": {"stream_id": "idp"},
    "replace_stream": {"stream_id": "idp"},
    "set_stream_status": {"stream_id": "idp", "status": "enabled"},
    "add_subject": {"stream_id": "idp", "subject": {"format": "email", "email": "ann@example.com"}},
    "remove_subject": {"stream_id": "idp", "subject": {"format": "email", "email": "ann@example.com"}},
    "poll_stream": {},
    "replay_deliveries": {"sink": "webhook:nobody"},
} | {
    f"scim_{verb}_{kind}": {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": []}
    for verb in ("create", "replace", "patch")
    for kind in ("user", "group", "agent")
} | {
    name: {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]}
    for name in ("scim_search", "scim_search_users", "scim_search_groups", "scim_search_agents")
}  # fmt: skip
CLOSED = [route for route in TABLE if route.scope]
OPEN = [route for route in TABLE if not route.scope]
SCOPES: tuple[Scoped, ...] = ("read", "write", "check", "ledger", "metrics", "scim", "signals", "login")

routes = pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)


def path(route: Route, ticket: str = NEVER) -> str:
    names = {
        "ticket": ticket,
        "finding": f"{ticket}:1",
        "target": "bastion",
        "tile": "0/000",
        "ident": "0",
        "stream": "idp",
        "delegation": "dlg_0",
        "change": "chg_0",
        "inventory": "newest",
        "campaign": "none",
    }
    return route.path.replace(":path", "").format(**names)


def ask(api: Api, route: Route, ticket: str = NEVER, **how: Any) -> Any:
    body = BODIES.get(route.name)
    if route.form:
        return api(route.method, path(route, ticket), data=body, **how)
    return api(route.method, path(route, ticket), body, **how)


def code_of(answer: Any) -> str | None:
    """What our own problem documents say; other protocols' errors have no such code."""
    found: str | None = answer.json().get("code") if answer.content else None
    return found


def refused(answer: Any, status: int, code: str) -> bool:
    return answer.status_code == status and code_of(answer) in {code, None}


def test_every_route_with_a_body_has_a_sound_one() -> None:
    assert {route.name for route in TABLE if route.body is not None} == BODIES.keys()


def test_only_these_need_no_credential() -> None:
    assert {route.path for route in OPEN} == {
        "/healthz", "/readyz", "/openapi.json", "/.well-known/authzen-configuration", "/auth/style.css", "/auth/passkeys.js",
        "/auth/login", "/auth/callback", "/auth/backchannel-logout", "/auth/device", "/auth/device/token",  # their credential is the provider's word
        "/.well-known/oauth-authorization-server", "/.well-known/ssf-configuration", "/ssf/jwks.json",
    }  # fmt: skip


def test_what_changes_something_is_never_a_get() -> None:
    """F7: what scanners and previews fetch does nothing. Collecting a credential is the one exception of the contract."""
    assert {r.method for r in TABLE} == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert {r.name for r in TABLE if r.method == "GET" and r.scope == "write"} == {"collect_credential"}


@pytest.mark.parametrize("route", OPEN, ids=lambda route: route.name)
def test_open_routes_answer_anybody(api: Api, route: Route) -> None:
    """Where no identity provider is configured, signing in is not there."""
    assert ask(api, route, who=None).status_code == (
        404 if route.tag == "sign-in" and not route.quick else 200
    )


@routes
@pytest.mark.parametrize(
    "credential",
    [None, "x", "mnt__", f"mnt_{'0' * 16}_{'0' * 64}", "mnt_" + "0" * 5000, "Basic YTpi"],
    ids=["none", "short", "no-parts", "unknown", "long", "basic"],
)
def test_nobody_known(api: Api, route: Route, credential: str | None) -> None:
    before = api.tickets()
    answer = ask(api, route, who=None, token=credential)
    assert refused(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert api.tickets() == before


@pytest.fixture(scope="module")
def bad(api: Api) -> dict[str, tuple[str, str]]:
    """Tokens that were good."""
    over = tokens.create(api.desk, None, OPS, lasts=timedelta(microseconds=1))["token"]
    revoked = tokens.create(api.desk, None, OPS, lasts=timedelta(days=1))
    tokens.revoke(api.desk, None, revoked["id"])
    known = api.token(OPS)
    head, _, secret = known.rpartition("_")
    other = api.token(AUD).rpartition("_")[2]
    return {
        "expired": (over, "unauthenticated.expired"),
        "revoked": (revoked["token"], "unauthenticated.revoked"),
        "another's secret": (f"{head}_{other}", "unauthenticated"),
        "one digit off": (f"{head}_{secret[:-1]}{'1' if secret[-1] == '0' else '0'}", "unauthenticated"),
    }


@routes
@pytest.mark.parametrize("kind", ["expired", "revoked", "another's secret", "one digit off"])
def test_credentials_that_are_not_good(
    api: Api, bad: dict[str, tuple[str, str]], route: Route, kind: str
) -> None:
    token, code = bad[kind]
    answer = ask(api, route, token=token)
    assert refused(answer, 401, code)


@routes
def test_somebody_deactivated(api: Api, route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    token = api.token(OPS)
    monkeypatch.setattr(api.office, "desk", deactivate(api.desk, OPS))
    assert ask(api, route, token=token).status_code == 401


@routes
@pytest.mark.parametrize("scope", SCOPES)
def test_a_narrow_token_is_good_for_its_scope_alone(api: Api, route: Route, scope: Scoped) -> None:
    if route.name == "stream" and scope == "read":
        return  # answers without end
    lasts = timedelta(hours=1 if scope == "login" else 24)
    answer = ask(api, route, token=api.token(OPS, scope, lasts=lasts))
    if route.browser:  # a page is for whoever signed in, and for no program
        assert refused(answer, 401, "unauthenticated.no-session")
    elif scope != route.scope:
        assert refused(answer, 403, "refused.scope")
    else:
        assert answer.status_code not in {401, 403} or code_of(answer) not in {"refused.scope", None}


@pytest.mark.parametrize("route", [r for r in CLOSED if r.roles], ids=lambda route: route.name)
@pytest.mark.parametrize("who", [ANN, BO, CYD, OPS, AUD])
def test_routes_for_a_role(api: Api, route: Route, who: str) -> None:
    identity = api.desk.directory.get(who)
    assert identity
    answer = ask(api, route, who=who)
    if route.roles & set(identity.roles):
        assert answer.status_code in {200, 404}
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "refused.role")


@pytest.mark.parametrize(
    "route", [r for r in CLOSED if {"ticket", "finding"} & set(r.names)], ids=lambda route: route.name
)
def test_what_one_may_not_see_is_not_there(api: Api, route: Route) -> None:
    """I33, F17: somebody without a stake gets the same answer for a ticket that is there and one that is not."""
    ticket = api.filed()["id"]
    there, absent = ask(api, route, ticket, who=BO), ask(api, route, who=BO)
    assert there.status_code == absent.status_code == 404
    assert there.json() == {**absent.json(), "detail": absent.json()["detail"].replace(NEVER, ticket)}
    assert api("GET", f"/v1/requests/{ticket}").json()["status"] == "pending"


def test_lists_of_an_outsider_say_nothing(api: Api) -> None:
    """F21: no filter, cursor or limit tells that there is more than one may see."""
    api.filed()
    ticket = api.filed()["id"]
    for query in (
        {}, {"limit": 1}, {"beneficiary": ANN}, {"target": "bastion"}, {"status": "pending"},
        {"cursor": "req_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"}, {"cursor": ticket}, {"awaiting_me": "true"},
    ):  # fmt: skip
        for where in ("requests", "grants", "findings"):
            allowed = {"limit", "cursor", "target"} | ({"beneficiary"} if where == "grants" else set())
            if where == "requests" or query.keys() <= allowed:
                answer = api("GET", f"/v1/{where}", who=BO, params=query)
                assert answer.json() == {"items": [], "next": None}, (where, query)


def test_an_outsider_pages_through_nothing_among_much(api: Api) -> None:
    """The page is as long as what one may see, wherever it lies among what one may not."""
    mine = [api.filed(who=who)["id"] for who in (ANN, DEE_, ANN, ANN, DEE_)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api("GET", "/v1/requests", who=DEE_, params={"limit": 1, "beneficiary": DEE_, **cursor}).json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert {i for i in mine if i in found} == {mine[1], mine[4]}


DEE_ = "human:dee@example.com"
