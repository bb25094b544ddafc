"""Campaigns over HTTP: asked, decided page by page, signed off, and proved by one file."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

from api.conftest import ANN, AUD, BO, CYD, OPS, Api
from api.test_contract import sound
from muniment.api import answers
from muniment.core.campaign import results
from muniment.service.concluding import advance

WHERE = "/v1/campaigns"
MACHINES = {"reason": "each quarter", "selection": {"subjects": ["identity", "membership"]}, "sample": 0}


def opened(api: Api, name: str, **more: Any) -> dict[str, Any]:
    answer = api("POST", WHERE, MACHINES | {"name": name} | more, who=OPS)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    sound(document, answers.Campaign)
    return document


def items(api: Api, name: str, who: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = api("GET", f"{WHERE}/{name}/items", who=who, params={"limit": 2, **query})
        assert answer.status_code == 200, answer.text
        sound(answer.json(), answers.CampaignItems)
        found += answer.json()["items"]
        if answer.json()["next"] is None:
            return found
        query["cursor"] = answer.json()["next"]


def decide(api: Api, name: str, who: str, decision: str, **where: Any) -> Any:
    body = {"decision": decision, "reason": "looked at it", "where": where}
    return api("POST", f"{WHERE}/{name}/decisions", body, who=who)


def test_a_campaign_from_its_opening_to_its_end(api: Api) -> None:
    preview = api("POST", f"{WHERE}/preview", MACHINES | {"name": "q1"}, who=OPS)
    sound(preview.json(), answers.CampaignPreview)
    assert api("GET", f"{WHERE}/q1", who=OPS).status_code == 404, "nothing is recorded by a preview"
    made = opened(api, "q1")
    assert made["items"] == preview.json()["items"] == len(items(api, "q1", OPS))
    assert sum(each["items"] for each in preview.json()["reviewers"]) == made["items"]
    [deploy] = items(api, "q1", ANN)  # what she is asked about, and no more
    assert (deploy["identity"], deploy["reviewer"]) == ("service_account:deploy", ANN)
    assert api("GET", f"{WHERE}/q1", who=ANN).json()["yours"] == 1
    done = decide(api, "q1", ANN, "revoke", items=str(deploy["number"]))
    sound(done.json(), answers.CampaignDecided)
    for who in (OPS, BO):
        left = items(api, "q1", who, mine="true")
        assert decide(api, "q1", who, "keep").json()["decided"] == len(left)
    assert api("GET", f"{WHERE}/q1", who=OPS).json()["status"] == "decided"
    assert (
        api("POST", f"{WHERE}/q1/close", {"comment": "x"}, who=OPS).json()["code"] == "refused.self-approval"
    )
    signed = api("POST", f"{WHERE}/q1/close", {"comment": "as agreed"}, who=AUD).json()
    assert (signed["status"], signed["unsettled"], signed["signed_by"]) == ("removing", 1, AUD)
    explained = {"items": str(deploy["number"]), "reason": "gone with the old cluster"}
    assert api("POST", f"{WHERE}/q1/explain", explained, who=OPS).status_code == 200
    advance(api.desk, "q1", "node")
    closed = api("GET", f"{WHERE}/q1", who=AUD).json()
    sound(closed, answers.Campaign)
    assert (closed["status"], closed["revoked"], closed["unsettled"]) == ("closed", 1, 0)
    listed = api("GET", WHERE, who=AUD, params={"status": "closed"}).json()
    sound(listed, answers.Campaigns)
    assert [each["name"] for each in listed["items"]] == ["q1"]


def test_one_file_proves_it(api: Api) -> None:
    made = opened(api, "proved")
    decide(api, "proved", OPS, "keep")
    answer = api("GET", f"{WHERE}/proved/evidence", who=AUD)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert f"sha256:{hashlib.sha256(files['items.jsonl']).hexdigest()}" == made["digest"]
    first = json.loads(json.loads(files["proofs.json"])["entries"][0]["entry"])
    assert first["data"]["digest"] == made["digest"]
    assert files["decisions.csv"].count(b"\r\n") == made["items"] + 1
    assert b"looked at it" in files["decisions.csv"]
    decisions = json.loads(files["campaign.json"])
    assert decisions["kept"] == files["decisions.csv"].count(b",keep,")
    assert results(b"k").startswith("sha256:")
    assert api("GET", f"{WHERE}/proved/evidence", who=ANN).json()["code"] == "refused.not-responsible"


def test_what_one_may_not_see_is_not_there(api: Api) -> None:
    opened(api, "hidden", selection={"subjects": ["membership"], "groups": ["on-call"]})
    assert [each["identity"] for each in items(api, "hidden", OPS)] == [BO]
    for method, path, body in (
        ("GET", "", None), ("GET", "/items", None), ("GET", "/evidence", None),
        ("POST", "/decisions", {"decision": "keep", "reason": "x"}),
        ("POST", "/reassign", {"to": ANN, "reason": "x"}), ("POST", "/close", {"comment": "x"}),
    ):  # fmt: skip
        answer = api(method, f"{WHERE}/hidden{path}", body, who=CYD)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), path
    assert "hidden" not in [each["name"] for each in api("GET", WHERE, who=CYD).json()["items"]]
    moved = api("POST", f"{WHERE}/hidden/reassign", {"to": CYD, "reason": "asks for it"}, who=OPS)
    assert moved.json()["decided"] == 1
    assert decide(api, "hidden", CYD, "keep").json()["decided"] == 1


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("", {"name": "named", "reason": "again"}, "refused.exists"),
        ("", {"name": "Q 1", "reason": "x"}, "invalid.body"),
        ("", {"name": "new", "reason": "x", "selection": {"targets": ["nowhere"]}}, "invalid"),
        ("", {"name": "new", "reason": "x", "selection": {"due_before": "soon"}}, "invalid"),
        ("", {"name": "new", "reason": "x", "duration": "P900D"}, "invalid"),
        ("", {"name": "new", "reason": "x", "reviewers": ["service_account:deploy"]}, "invalid"),
        ("", {"name": "new", "reason": "x", "items": 7}, "invalid.body"),
        ("/named/decisions", {"decision": "keep", "reason": "x", "where": {"items": "0-99999"}}, "invalid"),
        ("/named/decisions", {"decision": "keep", "reason": "x", "where": {"items": "1;2"}}, "invalid"),
        (
            "/named/decisions",
            {"decision": "keep", "reason": "x", "where": {"items": "9" * 60_000}},
            "invalid",
        ),
        ("/named/decisions", {"decision": "approve", "reason": "x"}, "invalid.body"),
        ("/named/decisions", {"decision": "keep", "reason": " "}, "invalid"),
        ("/named/reassign", {"to": "role:king", "reason": "x"}, "invalid"),
        ("/named/explain", {"items": "0", "reason": "x"}, "refused.status"),
        ("/named/close", {"comment": "x"}, "refused.undecided"),
        ("/..%2fq1/close", {"comment": "x"}, "not-found"),
    ],
)
def test_what_cannot_be_meant_is_refused(api: Api, path: str, body: dict[str, Any], code: str) -> None:
    if api("GET", f"{WHERE}/named", who=OPS).status_code == 404:
        opened(api, "named")
    answer = api("POST", f"{WHERE}{path}", body, who=OPS)
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"].startswith(code)
