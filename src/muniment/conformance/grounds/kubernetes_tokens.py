"""Tokens of service accounts on a real API server. A session is a token that was unsealed, as the beneficiary would."""

from __future__ import annotations

import itertools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.kubernetes import RBAC, TIMEOUT, KubeGround, Server, until
from muniment.conformance.grounds.servers import Served
from muniment.conformance.harness import Ground, Harness
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.kubernetes_tokens import rules
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector

_numbers = itertools.count(1)


class Session:
    """Whoever has the token."""

    def __init__(self, server: Server, token: str) -> None:
        self._server, self._token = server, token

    def alive(self) -> bool:
        """Whether the API server still knows whom it is for; what that account may is another question."""
        request = urllib.request.Request(f"https://{HOST}:{self._server.port}/api/v1/nodes")
        request.add_header("Authorization", f"Bearer {self._token}")
        tls = ssl.create_default_context(cafile=str(self._server.ca))
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls):  # noqa: S310  our own server
                return True
        except urllib.error.HTTPError as error:
            return error.code == 403

    def close(self) -> None:
        """There is nothing to close."""


class KubeTokenHarness(Served):
    """A namespace to lend from, with two service accounts; our own has the least rights."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.namespace = server, proxy, f"lending-{number}"
        self.ours = f"muniment-{number}"
        for name in (self.namespace, self.ours):
            server.call("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        self.accounts = (f"ann{number}@example.com", f'Bob, "x" ../y * ö {number}')
        self.lent = (f"deployer-{number}", f"reader-{number}")
        for name in self.lent:
            server.call(
                "POST", f"api/v1/namespaces/{self.namespace}/serviceaccounts", {"metadata": {"name": name}}
            )
        self.privileges = (self.in_here(self.lent[0]), self.in_here(self.lent[1]))
        self.impossible = (self.accounts[0], scope([self.in_here(f"none-{number}")]))
        self.token = server.account(self.ours, "muniment")
        self.us = f"system:serviceaccount:{self.ours}:muniment"
        for namespace, needed in rules(self.privileges).items():
            where = f"{RBAC}/namespaces/{namespace}"
            server.call("POST", f"{where}/roles", {"metadata": {"name": "muniment"}, "rules": needed})
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "muniment"}
            subjects = [{"kind": "ServiceAccount", "name": "muniment", "namespace": self.ours}]
            body = {"metadata": {"name": "muniment"}, "roleRef": role, "subjects": subjects}
            server.call("POST", f"{where}/rolebindings", body)
        self.secrets = (self.token,)
        self.key = pyrage.x25519.Identity.generate()
        self.real = Collecting(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real
        until(lambda: not self.connector.check().problems)

    def in_here(self, name: str) -> Privilege:
        """A service account of the namespace."""
        return Privilege(privilege=f"serviceaccount/{name}", resource=self.namespace)

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"https://{HOST}:{self.proxy.port}", "token": "env:TOKEN", "ca": str(self.server.ca), "timeout": "1s",
        }  # fmt: skip
        return build_connector(
            "kubernetes-tokens", name="kube-test", settings=given | settings, secret=lambda _: self.token, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def objects(self) -> list[Any]:
        """The Secrets of the namespace."""
        found: list[Any] = self.server.call("GET", f"api/v1/namespaces/{self.namespace}/secrets")["items"]
        return found

    def everything(self) -> Any:
        """What is on each Secret but its name, which is drawn; and the service accounts."""
        told = sorted(
            json.dumps([o["metadata"].get("labels"), o["metadata"].get("annotations")], sort_keys=True)
            for o in self.objects()
        )
        accounts = self.server.call("GET", f"api/v1/namespaces/{self.namespace}/serviceaccounts")["items"]
        return told, sorted(each["metadata"]["name"] for each in accounts)

    def holds(self, account: str) -> Scope:
        """From the Secrets that are in force."""
        return scope(
            self.in_here(meta["labels"]["muniment.org/service-account"])
            for meta in (each["metadata"] for each in self.objects())
            if meta["annotations"]["muniment.org/account"] == account
            and "muniment.org/in-force" in meta["labels"]
        )

    def take(self, account: str, privilege: Privilege) -> None:
        """The administrator deletes the Secret."""
        for each in self.objects():
            meta = each["metadata"]
            lent = f"serviceaccount/{meta['labels']['muniment.org/service-account']}"
            if (meta["annotations"]["muniment.org/account"], lent) == (account, privilege.privilege):
                self.server.call("DELETE", f"api/v1/namespaces/{self.namespace}/secrets/{meta['name']}")

    def delete_privilege(self, privilege: Privilege) -> None:
        """The service account, and what was bound for it."""
        for account in self.accounts:
            self.take(account, privilege)
        name = privilege.privilege.removeprefix("serviceaccount/")
        self.server.call("DELETE", f"api/v1/namespaces/{self.namespace}/serviceaccounts/{name}")

    def env(self, account: str) -> dict[str, str]:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"").env

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """The token."""
        del privilege
        return Session(self.server, self.env(account)["KUBERNETES_TOKEN"])


class KubeTokenGround(KubeGround):
    """The same server."""

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """A namespace of its own."""
        with Proxy(self.server.port) as proxy:
            yield KubeTokenHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield KubeTokenGround(server)


GROUNDS = {"kubernetes-tokens": _ground}
