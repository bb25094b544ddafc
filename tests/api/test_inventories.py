"""Inventories over HTTP, page by page."""

from __future__ import annotations

from typing import Any

from api.conftest import ANN, AUD, OPS, Api

WHERE = "/v1/targets/bastion/inventories"


def pages(api: Api, path: str, **query: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        answer = api("GET", path, who=AUD, params={"limit": 1, **query})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next"] is None:
            return found
        query["cursor"] = answer.json()["next"]


def test_inventories_are_taken_and_paged_through(api: Api) -> None:
    taken = [api("POST", WHERE, who=OPS) for _ in range(3)]
    assert [answer.status_code for answer in taken] == [201] * 3
    listed = pages(api, WHERE)
    assert [each["inventory"] for each in listed[:3]] == [a.json()["inventory"] for a in reversed(taken)]
    newest = api("GET", f"{WHERE}/newest", who=AUD).json()
    assert newest["inventory"] == listed[0]["inventory"]
    assert len(pages(api, f"{WHERE}/newest")) == newest["holdings"]


def test_who_may(api: Api) -> None:
    assert api("POST", WHERE, who=AUD).json()["code"] == "refused.not-responsible"
    assert api("POST", WHERE, who=ANN).status_code == api("GET", WHERE, who=ANN).status_code == 404
    assert api("GET", f"{WHERE}/inv_0", who=AUD).status_code == 404
