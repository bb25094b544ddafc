"""Tokens of tickets on OpenBao. A session is a token that was unsealed and unwrapped, as the beneficiary would."""

from __future__ import annotations

import itertools
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyrage

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.openbao import TIMEOUT, BaoGround, Server, Session
from muniment.conformance.grounds.servers import Served
from muniment.conformance.harness import Ground, Harness, really
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.openbao_tokens import policy, role_policy
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector

_numbers = itertools.count(1)


class TokenHarness(Served):
    """Our AppRole with the least rights, two people, two roles of tokens: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f'Bob, "x" ../y * ö {number}')
        self.roles = (f"readers{number}", f"ops.x-{number}")
        self.privileges = (Privilege(privilege=self.roles[0]), Privilege(privilege=self.roles[1]))
        self.impossible = (self.accounts[0], scope([Privilege(privilege=f"none{number}")]))
        self.us, self.key = f"muniment-t{number}", pyrage.x25519.Identity.generate()
        self.path = f"secret/of-t{number}"
        server.call("POST", self.path, {"value": "x"})
        rule = f'path "{self.path}" {{ capabilities = ["read"] }}'
        server.call("POST", f"sys/policies/acl/opens-t{number}", {"policy": rule})
        for role in self.roles:
            self.make_role(role)
        mine = map(role_policy, (*self.roles, f"none{number}"))
        rights = policy(f"lock-t{number}", f"tokens-t{number}") + "".join(mine)
        server.call("POST", f"sys/policies/acl/{self.us}", {"policy": rights})
        self.role_id, self.secret_id = server.approle(self.us)
        self.secrets = (self.secret_id,)
        self.real = Collecting(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make_role(self, name: str, **more: Any) -> None:
        """Tokens that open the secret."""
        body = {"allowed_policies": [f"opens-t{self.n}"], "orphan": True, "renewable": False} | more
        self.server.call("POST", f"auth/token/roles/{name}", body)

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"http://{HOST}:{self.proxy.port}", "role_id": self.role_id, "secret_id": "env:SECRET_ID",
            "lock": f"muniment/lock-t{self.n}", "register": f"muniment/tokens-t{self.n}", "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "openbao-tokens", name="bao-test", settings=given | settings, secret=lambda _: self.secret_id, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def tokens(self) -> list[dict[str, Any]]:
        """Every token that is there and carries a ticket of this harness's roles."""
        found = []
        for accessor in self.server.call("LIST", "auth/token/accessors")["data"]["keys"]:
            with suppress(urllib.error.HTTPError):  # it ended meanwhile
                token = self.server.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
                if token.get("role") in self.roles:
                    found.append(token)
        return found

    def everything(self) -> Any:
        """Tokens by account and role; roles; and the register."""
        held = sorted((each["meta"]["account"], each["role"]) for each in self.tokens())
        kept: list[str] = []
        with suppress(urllib.error.HTTPError):
            kept = self.server.call("LIST", f"muniment/metadata/tokens-t{self.n}")["data"]["keys"]
        return held, len(kept), self.server.call("LIST", "auth/token/roles")["data"]["keys"]

    def holds(self, account: str) -> Scope:
        """From the tokens themselves."""
        return scope(Privilege(privilege=t["role"]) for t in self.tokens() if t["meta"]["account"] == account)

    def take(self, account: str, privilege: Privilege) -> None:
        """Root revokes the token."""
        for token in self.tokens():
            if (token["meta"]["account"], token["role"]) == (account, privilege.privilege):
                self.server.call("POST", "auth/token/revoke-accessor", {"accessor": token["accessor"]})

    def env(self, account: str) -> dict[str, str]:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"").env

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """The token, unwrapped."""
        del privilege
        wrapped = self.env(account)["BAO_TOKEN"]
        token = self.server.call("POST", "sys/wrapping/unwrap", {}, token=wrapped)["auth"]["client_token"]
        return _Token(self.server, token, self.path)

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        return really(self, until)


class _Token(Session):
    """One that may be gone by the end."""

    def close(self) -> None:
        """Give it back, if it is there."""
        with suppress(urllib.error.HTTPError):
            super().close()


class TokenGround(BaoGround):
    """The same server."""

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Roles of its own."""
        with Proxy(self.server.port) as proxy:
            yield TokenHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield TokenGround(server)


GROUNDS = {"openbao-tokens": _ground}
