"""Kubernetes: a real kube-apiserver with RBAC on a real etcd, asked past us as a cluster's administrator.

``tools/kube-apiserver`` makes both. They are looked for in ``KUBEBUILDER_ASSETS``, as other projects' tests do, where that
program puts them, and on the path.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muniment.conformance.grounds.servers import Served, TemporaryServer
from muniment.conformance.harness import Ground, Harness, NeedsBuilding
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.kubernetes import rules
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import free_port

TIMEOUT = timedelta(seconds=1)
RBAC = "apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
_HEARD = 10.0  # seconds in which the authorizer has heard of a change

_numbers = itertools.count(1)


def assets() -> tuple[Path, Path]:
    """kube-apiserver and etcd. Raises `NeedsBuilding`."""
    cached = str(Path.home() / ".cache/muniment/kube")
    places = [os.environ.get("KUBEBUILDER_ASSETS", ""), cached, *os.get_exec_path()]
    for place in filter(None, places):
        if all(os.access(Path(place, name), os.X_OK) for name in ("kube-apiserver", "etcd")):
            return Path(place, "kube-apiserver"), Path(place, "etcd")
    raise NeedsBuilding("tools/kube-apiserver builds kube-apiserver and etcd, in 5 to 15 minutes")


class _Etcd(TemporaryServer):
    def __init__(self, program: Path) -> None:
        super().__init__("etcd", lambda folder, port: self._at(program, folder, port), self._answers)

    def _at(self, program: Path, folder: Path, port: int) -> tuple[str | Path, ...]:
        here, peers = f"http://{HOST}:{port}", f"http://{HOST}:{free_port()}"
        return (
            program, "--data-dir", folder / "data", "--unsafe-no-fsync", "--listen-client-urls", here,
            "--advertise-client-urls", here, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"default={peers}",
        )  # fmt: skip

    def _answers(self, port: int) -> bool:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(json.loads(answer.read())["health"] == "true")


class Server(TemporaryServer):
    """An API server, which keeps everything in its etcd."""

    def __init__(self) -> None:
        self._program, etcd = assets()
        self._etcd, self.admin = _Etcd(etcd), secrets.token_urlsafe(24)
        said = subprocess.run(
            [self._program, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
        self.version = said.stdout.strip()  # "Kubernetes v1.20.2"
        super().__init__("kube", self._command_at, self._answers)

    def prepare(self) -> None:
        """Keys, the administrator, and the store."""
        (self.folder / "tokens.csv").write_text(f'{self.admin},admin,1,"system:masters"\n')
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        (self.folder / "audit.json").write_text(json.dumps(policy))
        self.run("openssl", "genrsa", "-out", "sa.key", "2048")
        self._etcd.__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._etcd.__exit__(*error)

    @property
    def ca(self) -> Path:
        """Its own certificate, with the authority behind it."""
        return self.folder / "certs/apiserver.crt"

    def call(self, method: str, path: str, body: Any = None, *, who: str = "", kind: str = "") -> Any:
        """Do something past us, as the administrator, or as one who acts as somebody else. Raises `HTTPError`."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://{HOST}:{self.port}/{path}", content, method=method)
        request.add_header("Authorization", f"Bearer {self.admin}")
        request.add_header("Content-Type", kind or "application/json")
        if who:
            request.add_header("Impersonate-User", who)
        tls = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, timeout=20, context=tls) as answer:  # noqa: S310  our own server
            found = answer.read()
        return json.loads(found) if found.startswith(b"{") else found.decode()

    def may(self, who: str, verb: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """Whether somebody may do this now, as the server's own authorizer says."""
        asked = {"verb": verb, "group": GROUP, "resource": resource, "namespace": namespace, "name": name}
        body = {"spec": {"user": who, "resourceAttributes": asked}}
        found: bool = self.call("POST", "apis/authorization.k8s.io/v1/subjectaccessreviews", body)["status"][
            "allowed"
        ]
        return found

    def account(self, namespace: str, name: str) -> str:
        """The token of a new service account."""
        path = f"api/v1/namespaces/{namespace}/serviceaccounts"
        self.call("POST", path, {"metadata": {"name": name}})
        made: str = self.call("POST", f"{path}/{name}/token", {"spec": {}})["status"]["token"]
        return made

    def _command_at(self, folder: Path, port: int) -> tuple[str | Path, ...]:
        return (
            self._program, f"--etcd-servers=http://{HOST}:{self._etcd.port}", f"--cert-dir={folder}/certs",
            f"--bind-address={HOST}", f"--secure-port={port}", "--insecure-port=0", "--authorization-mode=RBAC",
            f"--token-auth-file={folder}/tokens.csv", f"--service-account-key-file={folder}/sa.key",
            f"--service-account-signing-key-file={folder}/sa.key", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount", f"--audit-policy-file={folder}/audit.json",
            f"--audit-log-path={folder}/audit.log", "--audit-log-mode=blocking",
        )  # fmt: skip

    def _answers(self, _port: int) -> bool:
        return bool(self.call("GET", "readyz") == "ok")


def until(holds: Callable[[], bool]) -> bool:
    """Wait until the authorizer has heard of a change, which takes it some milliseconds; whether it has."""
    deadline = time.monotonic() + _HEARD
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Session:
    """Somebody who reads the namespace's configuration. What they may is asked at each request."""

    def __init__(self, world: KubeHarness, account: str, privilege: Privilege) -> None:
        self._world, self._account, self._privilege = world, account, privilege

    def alive(self) -> bool:
        """Whether the role still opens it, as soon as the authorizer knows what the bindings say."""
        given = self._privilege in self._world.holds(self._account)
        until(lambda: self._reads() is given)
        return self._reads()

    def close(self) -> None:
        """There is nothing to close."""

    def _reads(self) -> bool:
        try:
            path = f"api/v1/namespaces/{self._world.namespace}/configmaps"
            self._world.server.call("GET", path, who=self._account)
        except urllib.error.HTTPError as error:
            if error.code != 403:
                raise
            return False
        return True


class KubeHarness(Served):
    """Our service account with the least rights, a namespace and two cluster roles: with names nobody used before."""

    server: Server
    timeout = TIMEOUT
    asked_each_time = True

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.namespace = server, proxy, f"pay-{number}"
        server.call("POST", "api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.accounts = (f"ann{number}@example.com", f'Bob, "x" ../y * ö {number}')
        self.roles = (f"readers{number}", f"ops:x (1) 'y' é {number}")
        self.privileges = (
            self.in_here(f"clusterrole/{self.roles[0]}"),
            self.in_here(f"clusterrole/{self.roles[1]}"),
        )
        self.impossible = (self.accounts[0], scope([self.in_here(f"clusterrole/none{number}")]))
        reads = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
        for role in self.roles:
            self.make_role(role, reads)
        self.enrol("muniment", self.privileges)
        self.secrets = (self.token,)
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def in_here(self, name: str) -> Privilege:
        """A role in the namespace."""
        return Privilege(privilege=name, resource=self.namespace)

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"https://{HOST}:{self.proxy.port}", "token": "env:TOKEN", "ca": str(self.server.ca), "timeout": "1s",
        }  # fmt: skip
        catalogue = settings.pop("catalogue", self.privileges)
        return build_connector(
            "kubernetes", name="kube-test", settings=given | settings, secret=lambda _: self.token, path=Path,
            catalogue=catalogue,
        )  # fmt: skip

    def make_role(self, name: str, *given: dict[str, list[str]], **more: Any) -> None:
        """For the whole cluster, as far as somebody binds it there."""
        body = {"metadata": {"name": name}, "rules": list(given), **more}
        self.server.call("POST", f"{RBAC}/clusterroles", body)

    def enrol(self, name: str, catalogue: Sequence[Privilege]) -> None:
        """We are a new service account, with what the connector says that we need."""
        self.token = self.server.account(self.namespace, name)
        self.us = f"system:serviceaccount:{self.namespace}:{name}"
        for namespace, needed in rules(catalogue).items():
            kind, role = ("ClusterRole", f"{name}-{self.namespace}") if namespace is None else ("Role", name)
            where = RBAC if namespace is None else f"{RBAC}/namespaces/{namespace}"
            self.server.call(
                "POST", f"{where}/{kind.lower()}s", {"metadata": {"name": role}, "rules": needed}
            )
            self.bind(where, role, {"kind": kind, "name": role}, self.us)
        until(lambda: not self.make(catalogue=catalogue, timeout="20s").check().problems)

    def bind(self, where: str, name: str, role: dict[str, str], account: str) -> None:
        """As somebody else would."""
        what = "clusterrolebindings" if where == RBAC else "rolebindings"
        subjects = [{"kind": "User", "name": account, "apiGroup": GROUP}]
        body = {"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, **role}, "subjects": subjects}
        self.server.call("POST", f"{where}/{what}", body)

    def bindings(self) -> list[Any]:
        """Of the namespace, and those for the whole cluster."""
        paths = (f"{RBAC}/namespaces/{self.namespace}/rolebindings", f"{RBAC}/clusterrolebindings")
        return [each for path in paths for each in self.server.call("GET", path)["items"]]

    def everything(self) -> Any:
        """Every binding with all that is on it, and every role. Versions move, of course."""
        told = ("name", "namespace", "uid", "labels", "annotations")
        bindings = sorted(
            json.dumps(
                [{t: b["metadata"].get(t) for t in told}, b["roleRef"], b.get("subjects")], sort_keys=True
            )
            for b in self.bindings()
        )
        roles = self.server.call("GET", f"{RBAC}/clusterroles")["items"]
        return bindings, sorted(json.dumps([r["metadata"]["name"], r["rules"]]) for r in roles)

    def holds(self, account: str) -> Scope:
        """The roles of bindings that name the user."""
        return scope(
            Privilege(
                privilege=f"{b['roleRef']['kind'].lower()}/{b['roleRef']['name']}",
                resource=b["metadata"].get("namespace"),
            )
            for b in self.bindings()
            if account in [subject["name"] for subject in b.get("subjects") or ()]
        )

    def hold(self, account: str, privilege: Privilege) -> None:
        """The administrator binds it, with no word about tickets."""
        role = {"kind": "ClusterRole", "name": privilege.privilege.partition("/")[2]}
        self.bind(f"{RBAC}/namespaces/{self.namespace}", f"by-hand-{secrets.token_hex(4)}", role, account)

    def take(self, account: str, privilege: Privilege) -> None:
        """The administrator deletes whatever binds it."""
        for b in self.bindings():
            mine = account in [subject["name"] for subject in b.get("subjects") or ()]
            if mine and b["roleRef"]["name"] == privilege.privilege.partition("/")[2]:
                self._delete(b)

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """A role that is made of all that have a label."""
        rule = {"clusterRoleSelectors": [{"matchLabels": {f"in-{self.namespace}": "yes"}}]}
        for privilege, change in (
            (outer, {"metadata": {"labels": {f"in-{self.namespace}": "yes"}}}), (inner, {"aggregationRule": rule}),
        ):  # fmt: skip
            path = f"{RBAC}/clusterroles/{quote(privilege.privilege.partition('/')[2])}"
            self.server.call("PATCH", path, change, kind="application/merge-patch+json")

    def delete_privilege(self, privilege: Privilege) -> None:
        """With all bindings of it, which Kubernetes leaves behind by itself."""
        name = privilege.privilege.partition("/")[2]
        for b in self.bindings():
            if b["roleRef"]["name"] == name:
                self._delete(b)
        self.server.call("DELETE", f"{RBAC}/clusterroles/{quote(name)}")

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """Somebody who reads."""
        return Session(self, account, privilege)

    def _delete(self, binding: Any) -> None:
        meta = binding["metadata"]
        where = (
            f"namespaces/{meta['namespace']}/rolebindings" if "namespace" in meta else "clusterrolebindings"
        )
        self.server.call("DELETE", f"{RBAC}/{where}/{quote(meta['name'])}")


class KubeGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        self.server, self.version = server, server.version

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """A namespace of its own."""
        with Proxy(self.server.port) as proxy:
            yield KubeHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield KubeGround(server)


GROUNDS = {"kubernetes": _ground}
