"""Redis: the server from Debian, in a temporary folder. A session is opened with the password that was unsealed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyrage
from redis import Connection, RedisError

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.servers import TIMEOUT, Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.redis import LEAST_PRIVILEGE
from muniment.core.scope import Privilege, Scope, scope
from muniment.ports import Connector

SECRET, ROOTS = "correct-horse-battery", "staple-of-the-root"

_HOW = "on Debian: apt-get install redis-server"
_numbers = itertools.count(1)


class Client:
    """One connection."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._connection = Connection(
            host=HOST, port=port, username=user, password=password, protocol=2, driver_info=None,
            decode_responses=True, socket_timeout=10, socket_connect_timeout=10,
        )  # fmt: skip
        self._connection.connect()

    def ask(self, *command: str) -> Any:
        """Its answer, or its no."""
        self.send(*command)
        return self.read()

    def send(self, *command: str) -> None:
        """And wait for nothing."""
        self._connection.send_command(*command, check_health=False)

    def read(self) -> Any:
        """What it says next."""
        return self._connection.read_response()

    def ends(self) -> bool:
        """Whether Redis ends it. What it still says until then is read over."""
        with suppress(RedisError):
            while True:
                self._connection.read_response(timeout=5)
        return not self._connection.is_connected

    def alive(self) -> bool:
        """Whether it still answers."""
        try:
            self.ask("ECHO", "still there")
        except RedisError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self._connection.disconnect()


class Server(TemporaryServer):
    """One server; root's password is ours. Users are in a file, ``acl/users``."""

    def __init__(self) -> None:
        server = program("redis-server", _HOW)
        super().__init__(
            "redis",
            lambda folder, port: (
                server, "--port", str(port), "--bind", HOST, "--save", "", "--dir", folder / "data",
                "--aclfile", folder / "acl/users",
            ),
            self._answers, user="redis",
        )  # fmt: skip

    def prepare(self) -> None:
        """Its users, of whom nobody is without a password."""
        self.make("data")
        users = self.make("acl") / "users"
        users.write_text(f"user default off nopass -@all\nuser root on >{ROOTS} ~* &* +@all\n")
        users.chmod(0o644)

    def root(self, *command: str) -> Any:
        """Do something past us, as who may do everything."""
        client = Client(self.port, "root", ROOTS)
        try:
            return client.ask(*command)
        finally:
            client.close()

    def _answers(self, _port: int) -> bool:
        return bool(self.root("PING") == "PONG")


class RedisHarness(Served):
    """Our user with the least rights, two people, two privileges: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"Bob%20'\"(:ö{number}")
        self.privileges = (
            Privilege(privilege="+@read -@dangerous +echo", resource=f"%R~a{number}:* ~both{number}"),
            Privilege(privilege="+set +publish +echo", resource=f"~b{number}:* &c{number}"),
        )
        #: a command of each that only it allows
        self.proofs = (("GET", f"a{number}:x"), ("SET", f"b{number}:x", "1"))
        self.impossible = (self.accounts[0], scope([Privilege(privilege=f"+none{number}")]))
        self.us, self.key = f"muniment{number}", pyrage.x25519.Identity.generate()
        words = (
            LEAST_PRIVILEGE.splitlines()[0].replace("ACL SETUSER muniment", "").replace("…", SECRET).split()
        )
        server.root("ACL", "SETUSER", self.us, *words)
        server.root("ACL", "SAVE")
        self.secrets: Sequence[str] = (SECRET,)
        self.real = Collecting(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "host": HOST,
            "port": self.proxy.port,
            "user": self.us,
            "password": "env:REDIS",
            "timeout": "2s",
        }
        return build_connector(
            "redis", name="redis-test", settings=given | settings, secret=lambda _: SECRET, path=Path,
            catalogue=self.privileges,
        )  # fmt: skip

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def users(self, account: str) -> list[str]:
        """Those of this person: by the name, or by what is in it."""
        names: list[str] = self.server.root("ACL", "USERS")
        return [
            n
            for n in names
            if n == account or (n.startswith("muniment.") and unquote(n.split(".", 2)[2]) == account)
        ]

    def holds(self, account: str) -> Scope:
        """What Redis says that it would let them do."""
        return scope(
            privilege
            for privilege, proof in zip(self.privileges, self.proofs, strict=True)
            for user in self.users(account)
            if self.server.root("ACL", "DRYRUN", user, *proof) == "OK"
        )

    def everything(self) -> Any:
        """Every user but for passwords, in memory and in the file; and every key."""
        said: list[str] = self.server.root("ACL", "LIST")
        kept = (self.server.folder / "acl/users").read_text().splitlines()
        users = [sorted(map(_unordered, lines)) for lines in (said, kept)]
        return *users, sorted(self.server.root("KEYS", "*"))

    def hold(self, account: str, privilege: Privilege) -> None:
        """A user of their own, whom root makes."""
        self._set(account, "on", "nopass", f"({privilege.privilege} {privilege.resource})")

    def take(self, account: str, privilege: Privilege) -> None:
        """From each of their users that has it; one with nothing left goes."""
        left = [each for each in self.holds(account) if each != privilege]
        for user in self.users(account):
            if left:
                self._set(user, "clearselectors", *(f"({each.privilege} {each.resource})" for each in left))
            else:
                self.server.root("ACL", "DELUSER", user)
                self.server.root("ACL", "SAVE")

    def delete_account(self, account: str) -> None:
        """Each of their users."""
        for user in self.users(account):
            self.server.root("ACL", "DELUSER", user)
        self.server.root("ACL", "SAVE")

    def env(self, account: str) -> dict[str, str]:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"").env

    def open_session(self, account: str, privilege: Privilege) -> Client:
        """With the password that was unsealed, past the proxy."""
        del privilege
        env = self.env(account)
        return Client(self.server.port, env["REDIS_USERNAME"], env["REDISCLI_AUTH"])

    def _set(self, user: str, *rules: str) -> None:
        self.server.root("ACL", "SETUSER", user, *rules)
        self.server.root("ACL", "SAVE")


def _unordered(line: str) -> list[str]:
    """A user without passwords; in what order it says what is allowed is Redis's whim at each start."""
    return sorted(re.split(r"[ ()]+", re.sub(r" #[0-9a-f]{64}", " #", line)))


class RedisGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        [version] = re.findall(r"redis_version:(\S+)", server.root("INFO", "server"))
        self.server, self.version = server, f"Redis {version}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users and keys of its own."""
        with Proxy(self.server.port) as proxy:
            yield RedisHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield RedisGround(server)


GROUNDS = {"redis": _ground}
