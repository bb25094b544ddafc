"""The OpenAPI document is true: answers are what it says, and schemathesis finds no drift and no 5xx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.conftest import AUD, CYD, OPS, REQUEST, Api
from muniment.api import answers
from muniment.api.table import TABLE
from muniment.core.drift import Observed
from muniment.core.inventory import Item
from muniment.service.pursuing import pursue
from muniment.service.tokens import SCOPES

EXAMPLES = os.environ.get("MUNIMENT_EXAMPLES", "3")


def drift(value: Any, kind: Any, where: str = "$") -> list[str]:
    """Members of a real answer that its type does not have, or has and the answer lacks."""
    hints = getattr(kind, "__annotations__", None)
    if isinstance(value, dict) and hints is not None and hasattr(kind, "__total__"):
        import typing  # noqa: PLC0415

        known = typing.get_type_hints(kind, include_extras=True)
        odd = (value.keys() - known.keys()) | (kind.__required_keys__ - value.keys())
        wrong = [f"{where}: {sorted(odd)}"] if odd else []
        return wrong + [w for k, v in value.items() if k in known for w in drift(v, known[k], f"{where}.{k}")]
    if isinstance(value, list):
        (inner,) = kind.__args__ if getattr(kind, "__args__", None) else (Any,)
        return [w for each in value for w in drift(each, inner, where)]
    for part in getattr(kind, "__args__", ()):
        if isinstance(value, dict) and hasattr(part, "__total__"):
            return drift(value, part, where)
    return []


def sound(document: Any, kind: Any) -> None:
    msgspec.convert(document, kind)
    assert drift(document, kind) == []


def test_real_answers_are_of_their_types(api: Api) -> None:
    ticket = api.active()
    where = f"/v1/requests/{ticket['id']}"
    sound(ticket, answers.Ticket)
    sound(api.filed(), answers.Ticket)
    sound(api("POST", "/v1/preview", REQUEST).json(), answers.Preview)
    assert all(ticket[part] for part in ("comparison", "granted", "decisions", "stages"))
    sound(api("GET", where + "/events").json(), answers.Events)
    sound(api("GET", "/v1/requests").json(), answers.Tickets)
    sound(api("GET", "/v1/grants").json(), answers.Grants)
    assert api("GET", "/v1/grants").json()["items"]
    sound(api("GET", "/v1/targets").json(), answers.Targets)
    sound(api("GET", "/v1/targets/bastion/holdings", who=OPS).json(), answers.Holdings)
    sound(api("GET", "/v1/whoami").json(), answers.Whoami)
    sound(api("GET", "/v1/ledger/checkpoint", who=AUD).json(), answers.Checkpoint)
    sound(api("GET", where + "/credential").json(), answers.Credential)
    sound(api("POST", where + "/revoke", {"reason": "x"}, who=OPS).json(), answers.Ticket)
    pursue(api.desk, ticket["id"])
    ended = api("GET", where).json()
    sound(ended, answers.Ticket)
    assert all(ended[part] for part in ("revocation", "closure"))
    denied = api.filed()
    body = {"decision": "deny", "digest": denied["digest"], "comment": "no"}
    sound(api("POST", f"/v1/requests/{denied['id']}/decisions", body, who=CYD).json(), answers.Ticket)


def test_the_document_has_every_route_and_its_credential(api: Api) -> None:
    document = api("GET", "/openapi.json", who=None).json()
    assert document["openapi"] == "3.1.0"
    found = {
        (method.upper(), path): each
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    }
    assert found.keys() == {(route.method, route.path.replace(":path", "")) for route in TABLE}
    for route in TABLE:
        operation = found[route.method, route.path.replace(":path", "")]
        assert operation["security"] == ([{"token": []}, {"session": []}] if route.scope else [])
        assert operation["summary"].endswith((".", "?")), route.name
    assert len({each["operationId"] for each in found.values()}) == len(TABLE)


def test_the_document_lets_every_finding_be_named(api: Api) -> None:
    item = Item(account="a", privilege="p")
    drift = Observed(
        target="bastion", type="orphan", severity="high", item=item, reference=None, message=""
    ).id
    of_ticket = f"{api.filed()['id']}:1"
    for path, methods in api("GET", "/openapi.json", who=None).json()["paths"].items():
        for each in (p for m in methods.values() for p in m["parameters"] if p["name"] == "finding"):
            for name in (drift, of_ticket):
                assert re.search(each["schema"]["pattern"], name), (path, name)
            assert not re.search(each["schema"]["pattern"], f"{drift}:1")


#: tokens that come in are text of their own kind
HOOKS = """
import schemathesis

schemathesis.serializer.alias(["application/secevent+jwt"], "text/plain")
"""


@pytest.mark.slow
def test_schemathesis_finds_no_drift(api: Api, tmp_path: Path) -> None:
    """All checks and phases, stateful links too. More examples: MUNIMENT_EXAMPLES=100."""
    api.active()
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.office.url}/openapi.json",
        "--header", f"Authorization: Bearer {api.token(OPS, *SCOPES)}", "--checks", "all",
        "--exclude-checks", "positive_data_acceptance",  # a sound body may name what is not there: that is a 4xx
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--seed", "1",
        "--exclude-operation-id", "stream", "--generation-database", "none", "--no-color", "--workers", "1",
        "--request-timeout", "30",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=900,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
