"""RabbitMQ: the server from Debian, in a temporary folder. A session is an AMQP connection with the unsealed password.

Erlang's name service, epmd, is one of the server's own, at a port of its own: else one that the first server started
would outlive it, and serve everybody on the machine.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

import pyrage

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.servers import TIMEOUT, Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness, NotInstalled
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import free_port, spawn
from muniment.ports import Connector

SECRET, ROOTS = "correct-horse-battery", "staple-of-the-root"
VERBS = ("configure", "write", "read")

_HOW = "on Debian: apt-get install rabbitmq-server"
#: Debian's own wrapper insists on its one user and folder
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_numbers = itertools.count(1)


class Server(TemporaryServer):
    """One node; root's password is ours. Its port is that of the management API."""

    def __init__(self) -> None:
        if not _SERVER.exists():
            raise NotInstalled(_HOW)
        self._erl, self._epmd = program("erl", _HOW), program("epmd", _HOW)
        self._names: subprocess.Popen[bytes] | None = None
        self.amqp = 0
        super().__init__("rabbitmq", self._start, self._answers, user="rabbitmq")

    def __exit__(self, *_: object) -> None:
        self._stop(signal.SIGKILL)  # it says good-bye to its cluster for eight seconds, and is alone
        if self._names is not None:
            self._names.kill()
            self._names.wait()
        super().__exit__()

    def prepare(self) -> None:
        """Its folders, its plugins, and its name service."""
        for name in ("home", "mnesia", "logs"):
            self.make(name)
        (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        self._at = free_port()
        with (self.folder / "log").open("ab") as log:
            self._names = spawn(
                self._epmd, "-port", str(self._at), "-address", HOST, death=signal.SIGKILL, stdout=log, stderr=log,
                **self._as_server(),
            )  # fmt: skip

    def call(self, method: str, *path: str, body: Any = None) -> Any:
        """Do something past us, as who may do everything. Raises `urllib.error.HTTPError`."""
        where = "/".join(quote(part, safe="") for part in path)
        who = b64encode(f"root:{ROOTS}".encode()).decode()
        request = Request(
            f"http://{HOST}:{self.port}/api/{where}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {who}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urlopen(request, timeout=20) as answer:  # noqa: S310  our own address
            said = answer.read()
        return json.loads(said) if said else None

    def _start(self, folder: Path, port: int) -> Sequence[str | Path]:
        self.amqp = free_port()
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.amqp}\nmanagement.tcp.ip = {HOST}\nmanagement.tcp.port = {port}\n"
            f"default_user = root\ndefault_pass = {ROOTS}\nlog.console = true\nlog.file = false\n"
            "collect_statistics_interval = 60000\n"
        )
        settings = {
            "HOME": folder / "home", "PATH": f"{self._erl.parent}:{os.defpath}", "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": self._at, "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"muniment{port}@localhost", "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_MNESIA_BASE": folder / "mnesia", "RABBITMQ_LOG_BASE": folder / "logs",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins", "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": os.devnull, "RABBITMQ_PID_FILE": folder / "home/pid", "RABBITMQ_LOGS": "-",
            "RABBITMQ_ALLOW_INPUT": 1,  # then Erlang takes the script's place, and is what we stop
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }  # fmt: skip
        return ("env", "-i", *(f"{name}={value}" for name, value in settings.items()), _SERVER, "-noinput")

    def _answers(self, _port: int) -> bool:
        socket.create_connection((HOST, self.amqp), timeout=5).close()
        return bool(self.call("GET", "overview"))


class Session:
    """Somebody's connection by AMQP."""

    def __init__(self, port: int, user: str, password: str, host: str) -> None:
        import amqp  # noqa: PLC0415  only who tries this ground needs a client

        self.connection = amqp.Connection(
            f"{HOST}:{port}",
            user,
            password,
            virtual_host=host,
            connect_timeout=10,
            read_timeout=10,
            write_timeout=10,
        )
        try:
            self.connection.connect()
        except BaseException:
            self.connection.collect()
            raise

    def alive(self) -> bool:
        """Whether it still answers."""
        from amqp.exceptions import AMQPError  # noqa: PLC0415

        try:
            self.connection.channel().close()
        except (AMQPError, OSError):
            self.connection.collect()
            return False
        return True

    def close(self) -> None:
        """End it."""
        with suppress(Exception):
            self.connection.close()
        self.connection.collect()


class RabbitHarness(Served):
    """Our user, two people, two permissions in virtual hosts: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"Bob %2F/'\"ö {number}")
        self.hosts = (f"orders{number}", f'a/b %2F "ö" {number}')
        self.privileges = (
            Privilege(privilege="read ^orders-(in|out)$", resource=self.hosts[0]),
            Privilege(privilege="write .*", resource=self.hosts[1]),
        )
        self.impossible = (
            self.accounts[0],
            scope([Privilege(privilege="read .*", resource=f"none{number}")]),
        )
        self.us, self.key = f"muniment{number}", pyrage.x25519.Identity.generate()
        server.call("PUT", "users", self.us, body={"password": SECRET, "tags": "administrator"})
        for host in self.hosts:
            server.call("PUT", "vhosts", host)
        self.secrets: Sequence[str] = (SECRET, b64encode(f"{self.us}:{SECRET}".encode()).decode())
        self.real = Collecting(self.make(timeout="60s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"http://{HOST}:{self.proxy.port}", "user": self.us, "password": "env:RABBIT", "timeout": "2s",
            "amqp": f"amqp://{HOST}:{self.server.amqp}",
        }  # fmt: skip
        return build_connector(
            "rabbitmq", name="rabbit-test", settings=given | settings, secret=lambda _: SECRET, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def users(self, account: str) -> list[str]:
        """Those of this person: by the name, or by what is in it."""
        names = [user["name"] for user in self.server.call("GET", "users")]
        return [
            n
            for n in names
            if n == account or (n.startswith("muniment.") and unquote(n.split(".", 2)[2]) == account)
        ]

    def holds(self, account: str) -> Scope:
        """From each user's own page."""
        return scope(
            Privilege(privilege=f"{verb} {each[verb]}", resource=each["vhost"])
            for user in self.users(account)
            for each in self.server.call("GET", "users", user, "permissions")
            for verb in VERBS
            if each[verb]
        )

    def everything(self) -> Any:
        """Every user and permission."""
        users = sorted((user["name"], user["tags"]) for user in self.server.call("GET", "users"))
        rights = (
            each for kind in ("permissions", "topic-permissions") for each in self.server.call("GET", kind)
        )
        return users, sorted(tuple(sorted(each.items())) for each in rights)

    def hold(self, account: str, privilege: Privilege) -> None:
        """A user of their own, whom root makes."""
        self.server.call("PUT", "users", account, body={"password": "pw", "tags": ""})
        verb, pattern = privilege.privilege.split(" ")
        self.server.call(
            "PUT",
            "permissions",
            privilege.resource or "",
            account,
            body=dict.fromkeys(VERBS, "") | {verb: pattern},
        )

    def take(self, account: str, privilege: Privilege) -> None:
        """From each of their users that has it."""
        for user in self.users(account):
            for each in self.server.call("GET", "users", user, "permissions"):
                if each["vhost"] == privilege.resource:
                    self.server.call("DELETE", "permissions", each["vhost"], user)

    def delete_account(self, account: str) -> None:
        """Each of their users."""
        for user in self.users(account):
            self.server.call("DELETE", "users", user)

    def delete_privilege(self, privilege: Privilege) -> None:
        """With its virtual host, and all who have something there."""
        for each in self.server.call("GET", "vhosts", privilege.resource or "", "permissions"):
            if each["user"] != "root":
                self.server.call("DELETE", "users", each["user"])
        self.server.call("DELETE", "vhosts", privilege.resource or "")

    def env(self, account: str) -> dict[str, str]:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"").env

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """With the password that was unsealed, past the proxy."""
        env = self.env(account)
        host = privilege.resource or "/"
        return Session(self.server.amqp, env["RABBITMQ_USERNAME"], env["RABBITMQ_PASSWORD"], host)


class RabbitGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        self.server, self.version = server, f"RabbitMQ {server.call('GET', 'overview')['rabbitmq_version']}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users and virtual hosts of its own."""
        with Proxy(self.server.port) as proxy:
            made = RabbitHarness(self.server, proxy)
            yield made
            for host in made.hosts:  # each runs processes of its own
                with suppress(OSError):
                    self.server.call("DELETE", "vhosts", host)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield RabbitGround(server)


GROUNDS = {"rabbitmq": _ground}
