"""SCIM 2.0 services: scim2-server, and Muniment's own endpoint for identity providers. Each is asked past us as its owner."""

from __future__ import annotations

import itertools
import json
import secrets
import sys
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from muniment.conformance.grounds.servers import Served, TemporaryServer
from muniment.conformance.harness import Ground, Harness, NotInstalled, Outage
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

TIMEOUT = timedelta(seconds=1)
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

_numbers = itertools.count(1)


class Service(TemporaryServer):
    """One of them."""

    path: str  # of its SCIM
    token: str
    version: str
    #: whether it knows by the end of an outage what it knew before
    durable: bool

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Do something past us. Raises `urllib.error.HTTPError`."""
        content = None if body is None else json.dumps(body).encode()
        url = f"http://{HOST}:{self.port}{self.path}/{path}"
        request = urllib.request.Request(url, content, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/scim+json")
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            found = answer.read()
        return json.loads(found) if found else {}

    def every(self, what: str) -> list[Any]:
        """Users or groups."""
        found: list[Any] = []
        while True:
            page = self.call("GET", f"{what}?startIndex={len(found) + 1}&count=100")
            found += page.get("Resources", [])
            if len(found) >= page["totalResults"]:
                return found

    @abstractmethod
    def named(self, number: int) -> tuple[str, str]:
        """Two names of users."""

    def _answers(self, _port: int) -> bool:
        self.call("GET", "ServiceProviderConfig")
        return True


class Scim2Server(Service):
    """scim2-server, which keeps everything in memory."""

    path, durable = "/v2", False

    def __init__(self) -> None:
        if not find_spec("scim2_server"):
            raise NotInstalled("pip install scim2-server")
        from importlib.metadata import version  # noqa: PLC0415

        self.token, self.version = secrets.token_urlsafe(24), f"scim2-server {version('scim2-server')}"
        command = (sys.executable, "-m", "scim2_server.testserver.cli", "--bearer-token", self.token)
        super().__init__("scim", lambda _, port: (*command, "--port", str(port)), self._answers)

    def named(self, number: int) -> tuple[str, str]:
        """Nearly anything is one here."""
        return f"ann{number}@example.com", f'Bob "x" ] or value eq "y" \\ ö {number}'


class MunimentServer(Service):
    """Our own endpoint, on a store of its own."""

    path, durable = "/scim/v2", True

    def __init__(self) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        self.version = f"Muniment {version('muniment')}"
        super().__init__("scim-own", self._command_at, self._answers)

    def prepare(self) -> None:
        """A folder of its own, and a token for SCIM."""
        self._muniment("init", "access")
        self._config = self.folder / "access/muniment.toml"
        text = self._config.read_text().replace("[policy]", "[identities.scim]\ngroups = []\n\n[policy]")
        self._config.write_text(text.replace("[server]", "[server]\nrate = 100000"))
        made = self._muniment(
            "token", "create", "--identity", "human:ops@example.com", "--scope", "scim", "--expires", "1d", "--json",
            "--config", str(self._config),
        )  # fmt: skip
        self.token = json.loads(made)["token"]

    def named(self, number: int) -> tuple[str, str]:
        """People here are called like e-mail addresses."""
        return f"ann{number}@example.com", f"bob+x{number}@example.com"

    def _muniment(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "muniment", *arguments)

    def _command_at(self, _folder: Path, port: int) -> tuple[str, ...]:
        text = self._config.read_text()
        self._config.write_text(text.replace("127.0.0.1:8642", f"{HOST}:{port}"))
        return (sys.executable, "-m", "muniment", "serve", "--only", "api", "--config", str(self._config))


class ScimHarness(Served):
    """Two users and two groups, with names nobody used before."""

    server: Service
    timeout = TIMEOUT

    def __init__(self, server: Service, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy = server, proxy
        self.accounts = server.named(number)
        self.groups = (f"readers{number}", f'ops "x"] or displayName pr \\ é {number}')
        self.privileges = (Privilege(privilege=self.groups[0]), Privilege(privilege=self.groups[1]))
        self.impossible = (f"nobody{number}@example.com", scope(self.privileges[:1]))
        self.people = {name: self.make_user(name) for name in self.accounts}
        self.numbers = {name: self.make_group(name) for name in self.groups}
        self.secrets = (server.token,)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"http://{HOST}:{self.proxy.port}{self.server.path}", "token": "env:TOKEN", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "scim", name="scim-test", settings=given | settings, secret=lambda _: self.server.token, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def make_user(self, name: str, **more: Any) -> str:
        """Its id."""
        body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name, "active": True}
        made: str = self.server.call("POST", "Users", body | more)["id"]
        return made

    def make_group(self, name: str, **more: Any) -> str:
        """Its id."""
        body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name}
        made: str = self.server.call("POST", "Groups", body | more)["id"]
        return made

    def members(self, group: str) -> set[str]:
        """Ids of those that it lists."""
        found = self.server.call("GET", f"Groups/{self.numbers[group]}")
        return {member["value"] for member in found.get("members") or ()}

    def patch(self, group: str, **operation: Any) -> None:
        """As somebody else would."""
        body = {"schemas": [PATCH], "Operations": [operation]}
        self.server.call("PATCH", f"Groups/{self.numbers[group]}", body)

    def everything(self) -> Any:
        """Every group with its members, and every user. Versions and times move, of course."""
        groups = sorted(
            (each["displayName"], each["id"], sorted(m["value"] for m in each.get("members") or ()))
            for each in self.server.every("Groups")
        )
        users = sorted((each["userName"], each["id"], each["active"]) for each in self.server.every("Users"))
        return groups, users

    def holds(self, account: str) -> Scope:
        """The groups that list the user."""
        mine = self.people.get(account)
        held = (
            each["displayName"]
            for each in self.server.every("Groups")
            if mine in [member["value"] for member in each.get("members") or ()]
        )
        return scope(Privilege(privilege=name) for name in held)

    def hold(self, account: str, privilege: Privilege) -> None:
        """The owner adds it; nobody sees who did."""
        self.patch(privilege.privilege, op="add", path="members", value=[{"value": self.people[account]}])

    def take(self, account: str, privilege: Privilege) -> None:
        """The owner takes it out."""
        self.patch(privilege.privilege, op="remove", path=f'members[value eq "{self.people[account]}"]')

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """A group in a group."""
        member = {"value": self.numbers[inner.privilege], "type": "Group"}
        self.patch(outer.privilege, op="add", path="members", value=[member])

    def delete_account(self, account: str) -> None:
        """From everywhere: services do not all do that by themselves."""
        for group in self.groups:
            if self.people[account] in self.members(group):
                self.take(account, Privilege(privilege=group))
        self.server.call("DELETE", f"Users/{self.people[account]}")

    def delete_privilege(self, privilege: Privilege) -> None:
        """With all who are in it."""
        self.server.call("DELETE", f"Groups/{self.numbers[privilege.privilege]}")

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """A server that would forget everything is refused instead of stopped."""
        if kind == "stopped" and not self.server.durable:
            return self.proxy.being("refuse")
        return super().outage(kind)

    def clear(self) -> None:
        """Leave nothing that the next would have to look through."""
        for what, numbers in (("Groups", self.numbers), ("Users", self.people)):
            for number in numbers.values():
                try:
                    self.server.call("DELETE", f"{what}/{number}")
                except urllib.error.HTTPError as error:
                    if error.code != 404:  # a check deleted it
                        raise


class ScimGround:
    """One service."""

    def __init__(self, server: Service) -> None:
        self.server, self.version = server, server.version

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users and groups of its own."""
        with Proxy(self.server.port) as proxy:
            made = ScimHarness(self.server, proxy)
            yield made
            made.clear()


@contextmanager
def _on(server: Callable[[], Service]) -> Iterator[Ground]:
    with server() as running:
        yield ScimGround(running)


GROUNDS = {"scim2-server": lambda: _on(Scim2Server), "muniment": lambda: _on(MunimentServer)}
