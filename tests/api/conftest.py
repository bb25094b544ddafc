"""A folder made by ``muniment init``, served on a real socket in this process, and clients of it."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import RSAKey

from muniment.api.dialects import PLAIN, Dialect, dialect_at
from muniment.api.office import Office
from muniment.api.serving import Address, ApiServer
from muniment.api.table import TABLE
from muniment.cli.session import record
from muniment.config import load
from muniment.main import open_desk, open_outward, open_scim
from muniment.service import tokens
from muniment.service.desk import Desk
from muniment.service.pursuing import pursue

ANN, BO, CYD, DEE, OPS, AUD = (
    f"human:{name}@example.com" for name in ("ann", "bo", "cyd", "dee", "ops", "aud")
)
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
REQUEST: dict[str, Any] = {
    "target": "bastion", "scope": [{"privilege": "web-admin"}], "justification": "to look", "duration": "1h",
    "public_key": KEY,
}  # fmt: skip
#: what comes in from elsewhere
SIGNALS = """
[identities.scim]
groups = ["contractors", "outer"]

[signals]
key = "file:keys/signals.pem"
[[signals.transmitters]]
issuer = "https://idp.example.com"
jwks = "idp.json"
audience = "https://muniment.example.com"
subjects = ["email", "opaque", "iss_sub"]
ends = ["device-compliance-change"]
[[signals.streams]]
name = "idp"
audience = "https://idp.example.com/caep"
client = "human:ops@example.com"

[[webhooks]]
name = "nobody"
url = "https://hooks.example.com/"
secret = "file:keys/hook"

"""
HOOK = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PROBLEM = {"type", "title", "status", "detail", "code", "remedy"}


@dataclass
class Api:
    """A server, and tokens for everybody."""

    desk: Desk
    office: Office
    folder: Path
    http: httpx.Client
    tokens: dict[str, str] = field(default_factory=dict)
    idp: Any = None  # what the transmitter of signals signs with

    def token(self, who: str, *scopes: str, lasts: timedelta = timedelta(days=1)) -> str:
        name = " ".join((who, *scopes))
        if name not in self.tokens:
            made = tokens.create(self.desk, None, who, lasts=lasts, scopes=scopes)
            self.tokens[name] = made["token"]
        return self.tokens[name]

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str | None = ANN,
        token: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if token is None and who is not None:
            token = self.token(who)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            more["json"] = body
        answer = self.http.request(method, path, headers=headers, **more)
        if answer.status_code >= 400:
            spoken = dialect_of(method, httpx.URL(path).path)
            assert answer.headers["content-type"] == spoken.refusal_type, answer.text
            if spoken is PLAIN:
                assert answer.json().keys() == PROBLEM
                assert answer.json()["status"] == answer.status_code
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer

    def filed(self, *, who: str = ANN, **changes: Any) -> dict[str, Any]:
        answer = self("POST", "/v1/requests", REQUEST | changes, who=who)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def active(self) -> dict[str, Any]:
        """A ticket whose access is there."""
        ticket = self.filed()
        body = {"decision": "approve", "digest": ticket["digest"]}
        approved = self("POST", f"/v1/requests/{ticket['id']}/decisions", body, who=CYD)
        assert approved.status_code == 201, approved.text
        assert pursue(self.desk, ticket["id"]).status == "active"
        document: dict[str, Any] = self("GET", f"/v1/requests/{ticket['id']}").json()
        return document

    def tickets(self) -> int:
        return self.desk.store.count_tickets()


def dialect_of(method: str, path: str) -> Dialect:
    """What a route's refusals are written in."""
    for route in TABLE:
        if route.method == method and re.fullmatch(re.sub(r"{[^}]*}", "[^/]+", route.path), path):
            return route.dialect
    return dialect_at(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def initialised(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "muniment", "init", str(folder)], check=True, capture_output=True)
    return folder / "muniment.toml"


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No line a request."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for a file of tests."""
    folder = tmp_path_factory.mktemp("api") / "access"
    path = initialised(folder)
    path.write_text(path.read_text().replace("[policy]", SIGNALS + "[policy]"))
    idp = RSAKey.generate_key(2048, {"kid": "one"})
    (folder / "idp.json").write_text(json.dumps({"keys": [idp.as_dict(private=False)]}))
    for name, secret in (
        ("signals.pem", RSAKey.generate_key(2048).as_pem(private=True).decode()),
        ("hook", HOOK),
    ):
        (folder / "keys" / name).touch(0o600)
        (folder / "keys" / name).write_text(secret)
    config = load(path)
    desk = open_desk(config)
    record(desk)
    port = free_port()
    office = Office(desk=desk, url=f"http://127.0.0.1:{port}", rate=100_000, scim=open_scim(config, desk))
    office.outward = open_outward(config, desk)
    office.policies = folder / "policies"
    server = ApiServer(office, Address(host="127.0.0.1", port=port))
    server.start()
    with httpx.Client(base_url=office.url, timeout=60, trust_env=False) as http:
        yield Api(desk, office, folder, http, idp=idp)
    assert server.stop(30)
    desk.store.engine.dispose()


def deactivate(desk: Desk, who: str) -> Desk:
    """A desk whose directory knows somebody as deactivated."""

    class Without:
        def __getattr__(self, name: str) -> Any:
            return getattr(desk.directory, name)

        def get(self, identity: str) -> Any:
            found = desk.directory.get(identity)
            gone = found is not None and found.id == who
            return None if found is None else (_inactive(found) if gone else found)

    return dataclasses.replace(desk, directory=Without())


def without(desk: Desk, who: str) -> Desk:
    """A desk whose directory does not know somebody any more."""

    class Without:
        def __getattr__(self, name: str) -> Any:
            return getattr(desk.directory, name)

        def get(self, identity: str) -> Any:
            found = desk.directory.get(identity)
            return None if found is not None and found.id == who else found

    return dataclasses.replace(desk, directory=Without())


def _inactive(identity: Any) -> Any:
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(identity, active=False)
