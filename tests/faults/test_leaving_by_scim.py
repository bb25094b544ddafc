"""I22 with a real SCIM endpoint, real controllers and a real PostgreSQL: who leaves by SCIM holds nothing any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.conftest import free_port
from faults.world import Ground, World
from muniment.api.office import Office
from muniment.api.serving import Address, ApiServer
from muniment.controllers.people import People
from muniment.controllers.runtime import Controllers
from muniment.core.errors import Refused
from muniment.directory.file import FileDirectory
from muniment.directory.joined import JoinedDirectory
from muniment.directory.provisioned import ProvisionedDirectory
from muniment.service import tokens
from muniment.service.scim import Scim
from muniment.store.provisioned import SqlProvisioned

#: seconds after we learn it (I22)
SLA = 60


class Provider:
    """An identity provider with one user for each of the people in the file."""

    def __init__(self, world: World, http: httpx.Client) -> None:
        self.world, self.http = world, http
        self.ids: dict[str, str] = {}
        self.parts: list[Any] = []

    def begin(self) -> None:
        """From here on it is not the test that does the controllers' work."""
        self.parts = [People(self.world.desk), Controllers(self.world.desk, node="scim")]
        for part in self.parts:
            part.start()

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.request(method, f"/scim/v2{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def add(self, name: str) -> None:
        user = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": f"{name}@example.com"}
        self.ids[name] = self.send("POST", "/Users", user)["id"]

    def leaves(self, name: str, how: str) -> None:
        where = f"/Users/{self.ids[name]}"
        if how == "DELETE":
            self.send("DELETE", where)
            return
        operation: dict[str, Any] = {
            "PATCH": {"op": "replace", "path": "active", "value": False},
            "Okta": {"op": "replace", "value": {"active": False}},
            "Entra": {"op": "Replace", "path": "active", "value": "False"},
        }[how]
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]}
        self.send("PATCH", where, body)


@pytest.fixture
def provider(ground: Ground) -> Iterator[Provider]:
    with World(ground, clock="own") as world:
        rows = SqlProvisioned(world.desk.store.engine, world.desk.store.marker)
        provided = ProvisionedDirectory(rows.revision, rows.since, ())
        file = world.desk.directory
        assert isinstance(file, FileDirectory)
        world.use(directory=JoinedDirectory(file, provided))
        token = tokens.create(
            world.desk, None, "human:ops@example.com", lasts=timedelta(days=1), scopes=("scim",)
        )
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        scim = Scim(rows=rows, clock=world.desk.clock, random=world.desk.random, url=url)
        server = ApiServer(Office(desk=world.desk, url=url, scim=scim), Address(host="127.0.0.1", port=port))
        server.start()
        headers = {"Authorization": f"Bearer {token['token']}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
            made = Provider(world, http)
            try:
                yield made
            finally:
                ended = [part.stop(30) for part in (server, *made.parts)]
        assert all(ended)


def wait_until(holds: Any) -> None:
    end = time.monotonic() + SLA
    while not holds():
        assert time.monotonic() < end, "not within a minute"
        time.sleep(0.2)


@pytest.mark.parametrize("how", ["PATCH", "Okta", "Entra", "DELETE"])
def test_a_leaver_holds_nothing(provider: Provider, how: str) -> None:
    world = provider.world
    provider.add("ann")
    provider.add("bea")
    ticket, other = world.active(), world.active(who="bea")
    assert world.holds() == ["rw"]
    provider.begin()
    provider.leaves("ann", how)
    wait_until(lambda: world.holds() == [])
    wait_until(lambda: world.ticket(ticket).status == "closed")
    revocation = world.ticket(ticket).revocation
    assert revocation
    assert revocation.cause == "offboarded"
    assert world.holds("bea") == ["rw"]
    world.must(other, "active")
    with pytest.raises(Refused):
        world.ask()


def test_coming_back_revives_nothing(provider: Provider) -> None:
    world = provider.world
    provider.add("ann")
    ticket = world.active()
    provider.begin()
    provider.leaves("ann", "DELETE")
    wait_until(lambda: world.ticket(ticket).status == "closed")
    provider.add("ann")
    wait_until(lambda: world.desk.directory.get("human:ann@example.com").active)
    assert world.holds() == []
    world.must(ticket, "closed")
    world.ask()  # but she may ask again


def test_a_leavers_approval_is_void(provider: Provider) -> None:
    world = provider.world
    provider.add("cyd")
    start = world.desk.clock.now() + timedelta(hours=1)
    ticket = world.approved(starts_at=start)
    provider.begin()
    provider.leaves("cyd", "Entra")
    wait_until(lambda: world.ticket(ticket).status == "pending")
    assert world.ticket(ticket).decisions == ()
