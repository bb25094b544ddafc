"""Which routes the program asks a server for: every one that is for people. A new route is here from its first day."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec

from muniment.api.app import TABLE
from muniment.api.routes import Route
from muniment.cli.backend import Backend, Extension, Looked, Wanted
from muniment.cli.device_grant import Begun, begin, wait
from muniment.cli.remote import RemoteBackend
from muniment.core.scope import Privilege
from muniment.service.certifying import Opening, Where
from muniment.service.filing import Ask
from muniment.service.reviews import Wanted as Reviews
from muniment.settings.usage import LogSettings

TICKET = "req_00000000000000000000000000"
FINDING = "fnd_0"
NOW = datetime(2026, 11, 26, tzinfo=UTC)

#: what a route is for, if not for the program
OTHERS = {
    "identity providers": lambda r: (
        r.scope in {"scim", "signals"} or r.name in {"describe_signals", "signal_keys"}
    ),
    "programs that enforce access": lambda r: r.path.startswith(("/access/", "/.well-known/authzen")),
    "browsers": lambda r: (
        r.browser
        or r.path.startswith(("/auth/passkeys", "/auth/style"))
        or r.name in {"get_session", "sign_out", "end_sessions", "get_assertion", "describe_sign_in"}
    ),
    "monitors of the ledger": lambda r: r.path.startswith("/ledger/"),
    "whoever watches the server": lambda r: r.name in {"healthz", "readyz", "metrics", "describe_api"},
    "programs that follow what happens": lambda r: r.name == "stream",
}


def asks(backend: RemoteBackend) -> None:
    """Everything that a backend can be asked for, once."""
    scope = (Privilege(privilege="web-admin"),)
    ask = Ask(target="bastion", scope=scope, justification="x", duration=timedelta(hours=1))
    more = Extension(duration=timedelta(hours=1), reason="x")
    calls: dict[str, Any] = {
        "whoami": (), "file": (ask,), "file_bundle": ([ask, ask],), "preview": (ask,), "tickets": (Wanted(),),
        "ticket": (TICKET,), "events": (TICKET,), "statement": (TICKET,),
        "approve": (TICKET, {"digest": None, "comment": None, "signature": None}), "deny": (TICKET, {"comment": "x"}),
        "counter": (TICKET, {"digest": None, "duration": None, "scope": scope, "comment": "x"}),
        "accept": (TICKET, {"offer": None}), "extend": (TICKET, more), "withdraw": (TICKET,), "give_back": (TICKET,),
        "revoke": (TICKET, {"reason": "x"}), "review": (TICKET, {"outcome": "appropriate", "comment": "x"}),
        "waive": (TICKET, {"check": "gone", "reason": "x"}), "resolve": (TICKET, "1", {"reason": "x"}),
        "credential": (TICKET,), "evidence": (TICKET, {"since": None}), "grants": ({"target": None, "beneficiary": None},),
        "targets": (), "holdings": ("bastion",), "take_inventory": ("bastion",), "inventories": ("bastion",),
        "inventory": ("bastion", "inv_0", {"account": None, "privilege": None}),
        "findings": (Looked(),), "finding": (FINDING,), "assign_finding": (FINDING, "human:cyd@example.com"), "reconcile": ("bastion",),
        "ingest_usage": ("bastion", Path(__file__), LogSettings(format="events", path=__file__), {"whole": True}),
        "usage_report": ({"target": None, "beneficiary": None, "judgements": ()},), "check_usage": ("bastion",),
        "explain_finding": (FINDING, "x"), "remove_finding": (FINDING, "x"), "accept_finding": (FINDING, NOW, "x"), "checkpoint": (),
        "reviews": (Reviews(),),
        "open_campaign": (Opening(name="q4", reason="x"), {"preview": False}), "campaigns": ((),), "campaign": ("q4",),
        "campaign_items": ("q4", Where(), {"mine": True}), "decide_campaign": ("q4", Where(), "keep", "x"),
        "reassign_campaign": ("q4", Where(), "human:cyd@example.com", "x"), "explain_campaign": ("q4", "0", "x"),
        "close_campaign": ("q4", "x", print), "cancel_campaign": ("q4", "x"), "export_campaign": ("q4",),
        "delegate": ("human:dee@example.com", {"until": None, "length": timedelta(hours=1), "starts": None, "reason": "x"}),
        "delegations": (), "end_delegation": ("dlg_0",), "explain": (TICKET,), "propose": ("x",), "adopt": ("chg_0",),
        "refuse": ("chg_0", {"reason": "x"}), "disablements": (), "lift": ("human:ann@example.com", {"reason": "x"}),
        "deliveries": (), "replay": ("webhook:x", {"since": NOW, "until": None}),
    }  # fmt: skip
    for name, given in calls.items():
        named = given[-1] if given and isinstance(given[-1], dict) else {}
        getattr(backend, name)(*(given[:-1] if named else given), **named)
    backend.open_campaign(Opening(name="q4", reason="x"), preview=True)
    backend.changes(None)
    backend.changes("chg_0")
    begin(backend)
    wait(backend, Begun(device_code="x", user_code="x", verification_uri="x", expires_in=9), lambda _: None)
    left_out = {"now", "settle", "sealed", "changes"}  # of no route of their own, or asked twice above
    assert calls.keys() | left_out == {name for name in vars(Backend) if not name.startswith("_")}


def routes_asked() -> set[str]:
    """The names of routes that `asks` comes to."""
    found: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        named = [r for r in TABLE if r.method == request.method and _is_at(r, request.url.path)]
        assert named, (request.method, request.url.path)
        found.add(named[0].name)
        said = {
            "items": [], "findings": [], "tickets": [], "verdicts": {}, "next": None, "digest": "sha256:" + "0" * 64, "offer": None, "credential": "x",
            "device_code": "x", "user_code": "x", "verification_uri": "x", "expires_in": 9,
            "status": "decided", "revoked": 0, "changed": 0, "access_token": "x", "token_type": "Bearer", "identity": "human:x", "expires_at": "x",
        }  # fmt: skip
        return httpx.Response(200, content=msgspec.json.encode(said), headers={"muniment-evidence": "{}"})

    backend = RemoteBackend("http://127.0.0.1:1", "x")
    backend._http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    asks(backend)
    backend.close()
    return found


def _is_at(route: Route, path: str) -> bool:
    return bool(re.fullmatch(re.sub(r"{[^}]*}", "[^/]+", route.path), path))


def test_every_route_for_people_is_asked_by_the_program() -> None:
    others = {r.name: who for r in TABLE for who, theirs in OTHERS.items() if theirs(r)}
    asked = routes_asked()
    assert {r.name for r in TABLE} - others.keys() - asked == set()
    assert others.keys() & asked == set()  # and nothing is excused that is asked for
