"""SCIM 2.0: the compliance suite of scim2-tester, and what identity providers really send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from api.conftest import ANN, AUD, KEY, OPS, Api
from muniment.store.engine import writing
from muniment.store.provisioned import SqlProvisioned

BASE = "/scim/v2"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"


class Scim:
    """A provider."""

    def __init__(self, api: Api) -> None:
        self.api, self.token = api, api.token(OPS, "scim")

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = self.api(method, f"{BASE}{path}", body, token=self.token, **more)
        if answer.status_code not in {204, 304}:
            assert answer.headers["content-type"] == "application/scim+json", answer.text
        return answer

    def user(self, name: str, **more: Any) -> str:
        answer = self("POST", "/Users", {"schemas": [USER], "userName": name, **more})
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"].endswith(answer.json()["id"])
        return str(answer.json()["id"])

    def group(self, name: str, *members: str) -> str:
        body = {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name,
            "members": [{"value": each} for each in members],
        }  # fmt: skip
        answer = self("POST", "/Groups", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def patch(self, path: str, *operations: dict[str, Any], **more: Any) -> Any:
        return self("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **more)


@pytest.fixture
def scim(api: Api) -> Scim:
    return Scim(api)


def known(api: Api, who: str) -> Any:
    api.desk.directory.reload_if_changed()
    return api.desk.directory.get(who)


@pytest.mark.slow
def test_the_compliance_suite_finds_nothing(api: Api, scim: Scim) -> None:
    headers = {"Authorization": f"Bearer {scim.token}"}
    with Client(base_url=f"{api.office.url}{BASE}", headers=headers, timeout=60, trust_env=False) as http:
        results = check_server(SyncSCIMClient(http))
    bad = [f"{r.title}: {r.reason}" for r in results if r.status not in {Status.SUCCESS, Status.SKIPPED}]
    assert not bad, "\n".join(bad)
    assert sum(r.status is Status.SUCCESS for r in results) > 100
    assert {r.resource_type for r in results} >= {"User", "Group", "Agent"}


LEAVING: dict[str, Callable[[Scim, str], Any]] = {
    "PATCH with a path": lambda scim, who: scim.patch(
        f"/Users/{who}", {"op": "replace", "path": "active", "value": False}
    ),
    "PATCH without a path": lambda scim, who: scim.patch(
        f"/Users/{who}", {"op": "replace", "value": {"active": False}}
    ),
    "PATCH with a string": lambda scim, who: scim.patch(
        f"/Users/{who}", {"op": "Replace", "path": "active", "value": "False"}
    ),
    "PUT": lambda scim, who: scim(
        "PUT", f"/Users/{who}", {"schemas": [USER], "userName": "eve@example.com", "active": False}
    ),
    "DELETE": lambda scim, who: scim("DELETE", f"/Users/{who}"),
}


@pytest.mark.parametrize("how", LEAVING)
def test_every_way_to_leave(api: Api, scim: Scim, how: str) -> None:
    who = scim.user("Eve@Example.com", active=True, displayName="Eve")
    assert known(api, "human:eve@example.com").active
    answer = LEAVING[how](scim, who)
    assert answer.status_code == (204 if how == "DELETE" else 200), answer.text
    left = known(api, "human:eve@example.com")
    assert left is None if how == "DELETE" else not left.active
    if how == "DELETE":
        assert scim("GET", f"/Users/{who}").status_code == 404
    else:
        scim("DELETE", f"/Users/{who}")


def test_either_source_ends_somebody(api: Api, scim: Scim) -> None:
    """The file has her, and SCIM says that she left."""
    api.token(ANN)
    who = scim.user("ann@example.com", active=True)
    assert known(api, ANN).active
    scim.patch(f"/Users/{who}", {"op": "replace", "path": "active", "value": False})
    assert not known(api, ANN).active
    assert api("GET", "/v1/whoami").status_code == 401
    scim.patch(f"/Users/{who}", {"op": "replace", "path": "active", "value": True})
    assert known(api, ANN).active
    scim("DELETE", f"/Users/{who}")
    assert not known(api, ANN).active  # the file still has her
    again = scim.user("ann@example.com")
    assert known(api, ANN).active
    assert again != who


def test_a_group_counts_only_where_the_configuration_names_it(api: Api, scim: Scim) -> None:
    """A group of the provider's makes nobody an approver by bearing the name of one that approves."""
    who = scim.user("fay@example.com")
    scim.group("Contractors", who)
    platform = scim.group("platform", who)
    scim.group("outer", scim.group("nested", who))
    assert known(api, "human:fay@example.com").groups == ("contractors", "outer")
    assert known(api, "human:fay@example.com").roles == ("member",)
    assert [g["display"] for g in scim("GET", f"/Users/{who}").json()["groups"]] == [
        "Contractors", "platform", "nested",
    ]  # fmt: skip
    scim("DELETE", f"/Groups/{platform}")
    scim("DELETE", f"/Users/{who}")


def test_members_come_and_go_as_providers_write_it(api: Api, scim: Scim) -> None:
    one, two = scim.user("gus@example.com"), scim.user("hal@example.com")
    group = f"/Groups/{scim.group('auditees')}"
    for operation, expected in (
        ({"op": "Add", "path": "members", "value": [{"value": one}, {"value": two}]}, {one, two}),
        ({"op": "remove", "path": f'members[value eq "{one}"]'}, {two}),
        ({"op": "add", "path": "members", "value": [{"value": one}]}, {one, two}),
        ({"op": "Remove", "path": "members", "value": [{"value": two}]}, {one}),
        ({"op": "replace", "path": "members", "value": [{"value": two}]}, {two}),
        ({"op": "remove", "path": "members"}, set()),
    ):
        answer = scim.patch(group, operation)
        assert answer.status_code == 200, answer.text
        assert {m["value"] for m in answer.json().get("members", ())} == expected, operation


def test_an_agent_has_the_owners_that_scim_names(api: Api, scim: Scim) -> None:
    owner = scim.user("ivy@example.com")
    agent = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Agent"], "agentUserName": "Triage-Bot", "active": True,
        "owners": [{"$ref": f"{api.office.url}{BASE}/Users/{owner}"}],
    }  # fmt: skip
    assert scim("POST", "/Agents", agent).status_code == 201
    assert known(api, "ai_agent:triage-bot").owners == ("human:ivy@example.com",)
    assert scim("POST", "/Agents", agent | {"agentUserName": "alone", "owners": []}).status_code == 201
    assert known(api, "ai_agent:alone").owners == ()
    asked = api("POST", "/v1/preview", {
        "target": "bastion", "scope": [{"privilege": "web-admin"}], "duration": "1h", "beneficiary": "ai_agent:alone",
        "public_key": KEY,
    }, who=OPS)  # fmt: skip
    assert asked.json()["permitted"] is False


def test_managers(api: Api, scim: Scim) -> None:
    boss = scim.user("kay@example.com")
    extension = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    scim("POST", "/Users", {
        "schemas": [USER, extension], "userName": "lee@example.com",
        extension: {"manager": {"value": boss, "$ref": f"{api.office.url}{BASE}/Users/{boss}"}},
    })  # fmt: skip
    assert known(api, "human:lee@example.com").manager == "human:kay@example.com"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"filter": 'userName eq "MAX@example.com"'}, 200),
        ({"filter": 'externalId eq "m-1" and active eq true'}, 200),
        ({"filter": 'emails[type eq "work"].value sw "max@"'}, 200),
        ({"filter": 'userName foo "x"'}, 400),
        ({"filter": 'password eq "x"'}, 400),
        ({"filter": "(" * 3000}, 400),
        ({"sortBy": "userName", "sortOrder": "descending", "filter": 'userName sw "max"'}, 200),
        ({"attributes": "userName", "excludedAttributes": "emails"}, 400),
        ({"count": "x"}, 422),
        ({"startIndex": "-5", "count": "-1"}, 200),
    ],
)
def test_finding(scim: Scim, query: dict[str, str], status: int) -> None:
    taken = scim("GET", "/Users", params={"filter": 'userName eq "max@example.com"'}).json()
    if not taken["totalResults"]:
        scim.user(
            "max@example.com",
            externalId="m-1",
            active=True,
            emails=[{"type": "work", "value": "max@example.org"}],
        )
    answer = scim("GET", "/Users", params=query)
    assert answer.status_code == status, answer.text
    if status == 200 and "filter" in query:
        assert [u["userName"] for u in answer.json()["Resources"]] == ["max@example.com"]
    if status == 400 and "filter" in query:
        assert answer.json()["scimType"] == "invalidFilter"


def test_discovery_is_not_filtered(scim: Scim) -> None:
    for where in ("/ResourceTypes", "/Schemas"):
        assert scim("GET", where).json()["totalResults"] >= 3
        assert scim("GET", where, params={"filter": 'id eq "User"'}).status_code == 403


def test_pages(scim: Scim) -> None:
    for n in range(5):
        scim.group(f"page-{n}")
    asked = {"filter": 'displayName sw "page-"', "count": 2, "sortBy": "displayName"}
    found = [scim("GET", "/Groups", params=asked | {"startIndex": n}).json() for n in (1, 3, 5, 7)]
    assert [[g["displayName"][-1] for g in page.get("Resources", ())] for page in found] == [
        ["0", "1"], ["2", "3"], ["4"], [],
    ]  # fmt: skip
    assert {page["totalResults"] for page in found} == {5}


def test_a_name_is_one_persons(scim: Scim) -> None:
    who = scim.user("ned@example.com")
    other = scim.user("other@example.com")
    taken = scim("POST", "/Users", {"schemas": [USER], "userName": "NED@example.com"})
    assert (taken.status_code, taken.json()["scimType"]) == (409, "uniqueness")
    renamed = scim.patch(f"/Users/{other}", {"op": "replace", "path": "userName", "value": "ned@example.com"})
    assert renamed.status_code == 409
    assert scim("GET", f"/Users/{who}").json()["userName"] == "ned@example.com"


@pytest.mark.parametrize("name", ["", " ", "a b", "аnn@example.com", "x" * 300, "a\nb", 7, None, ["x"]])
def test_names_that_nobody_can_have(scim: Scim, name: Any) -> None:
    answer = scim("POST", "/Users", {"schemas": [USER], "userName": name})
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue"), answer.text


def test_versions(scim: Scim) -> None:
    who = f"/Users/{scim.user('oz@example.com')}"
    before = scim("GET", who).headers["etag"]
    assert scim("GET", who, headers={"If-None-Match": before}).status_code == 304
    change = {"op": "replace", "path": "displayName", "value": "Oz"}
    assert scim.patch(who, change, headers={"If-Match": before}).status_code == 200
    assert scim.patch(who, change, headers={"If-Match": before}).status_code == 412
    assert scim("DELETE", who, headers={"If-Match": before}).status_code == 412
    after = scim("GET", who).headers["etag"]
    assert scim.patch(who, change).headers["etag"] == after  # nothing changed


@pytest.mark.parametrize("who", [OPS, AUD, ANN])
def test_no_role_stands_for_the_scope(api: Api, who: str) -> None:
    """An operator's own token changes no identities: they come by the file, or from the provider."""
    answer = api("POST", f"{BASE}/Users", {"schemas": [USER], "userName": "mine@example.com"}, who=who)
    assert answer.status_code == 403
    assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]


def test_a_row_that_foreign_sql_wrote_makes_nobody_a_member(api: Api, scim: Scim) -> None:
    who = scim.user("pat@example.com")
    group = scim.group("contractors-too")
    rows = SqlProvisioned(api.desk.store.engine, api.desk.store.marker)
    before = rows.get("Group", group)
    assert before
    forged = before.body[:-1] + f',"members":[{{"value":"{who}"}}]}}'.encode()
    with writing(api.desk.store.engine) as connection:
        change = "UPDATE provisioned SET body = :body, revision = revision + 1 WHERE id = :id"
        connection.execute(sa.text(change), {"body": forged.replace(b"-too", b""), "id": group})
        connection.execute(sa.text("UPDATE provisioned_head SET revision = revision + 1"))
    assert rows.get("Group", group) is None
    assert "contractors" not in known(api, "human:pat@example.com").groups
