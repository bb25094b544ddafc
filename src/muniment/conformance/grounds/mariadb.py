"""MariaDB: the server from Debian, in a temporary folder, asked past us as its root."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from muniment.conformance.grounds.servers import TIMEOUT, Served, TemporaryServer, program
from muniment.conformance.harness import Ground, Harness
from muniment.conformance.proxy import HOST, Proxy
from muniment.connectors.kinds import build_connector
from muniment.core.scope import Privilege, Scope, scope

SECRET, ROOTS, PEOPLES = "correct-horse-battery", "staple-of-the-root", "pw"

_HOW = "on Debian: apt-get install mariadb-server"
_numbers = itertools.count(1)


class Server(TemporaryServer):
    """One server; root's password is ours."""

    def __init__(self) -> None:
        server, self._install = program("mariadbd", _HOW), program("mariadb-install-db", _HOW)
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        self._user_option = user
        super().__init__(
            "mariadb",
            lambda folder, port: (
                server, "--no-defaults", *user, f"--datadir={folder}/data", f"--tmpdir={folder}/scratch", f"--port={port}",
                f"--bind-address={HOST}", f"--socket={folder}/data/socket", f"--pid-file={folder}/data/pid", "--skip-name-resolve", "--innodb-flush-method=fsync",
                "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
            ),
            self._answers, user="mysql",
        )  # fmt: skip

    def prepare(self) -> None:
        """The system tables, and root's password before anybody can connect.

        The temporary folder is this server's own: one that starts deletes every ``#sql*`` file where it keeps its
        own, those of another server included, and that one then gives up.
        """
        data, temporary = self.make("data"), self.make("scratch")
        self.run(
            self._install, "--no-defaults", *self._user_option, f"--datadir={data}", f"--tmpdir={temporary}",
            "--skip-test-db", "--auth-root-authentication-method=normal", "--skip-name-resolve", "--innodb-log-file-size=8M",
        )  # fmt: skip

    def root(self) -> Any:
        """A connection that may do everything."""
        for password in (ROOTS, ""):  # none until it is set
            with suppress(pymysql.MySQLError):
                made = pymysql.connect(
                    host=HOST, port=self.port, user="root", password=password, autocommit=True, charset="utf8mb4",
                    connect_timeout=5,
                )  # fmt: skip
                if not password:
                    with made.cursor() as cursor:
                        cursor.execute("SET PASSWORD FOR root@localhost = PASSWORD(%s)", [ROOTS])
                        cursor.execute("CREATE USER IF NOT EXISTS root@'127.0.0.1' IDENTIFIED BY %s", [ROOTS])
                        cursor.execute("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
                        cursor.execute("SET PASSWORD FOR root@'127.0.0.1' = PASSWORD(%s)", [ROOTS])
                return made
        raise ConnectionError("MariaDB does not answer yet")

    def _answers(self, _port: int) -> bool:
        self.root().close()
        return True


class Session:
    """Somebody's session that took up a role with SET ROLE."""

    def __init__(self, connection: Any, role: str) -> None:
        self.connection = connection
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {quoted(role)}")

    def alive(self) -> bool:
        """Whether it still answers."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except pymysql.MySQLError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        with suppress(pymysql.MySQLError):
            self.connection.close()


class MariaHarness(Served):
    """Our account with the least rights, two users, two roles: with names nobody used before."""

    server: Server
    timeout = TIMEOUT
    secrets: Sequence[str] = (SECRET,)

    def __init__(self, server: Server, proxy: Proxy) -> None:
        number = next(_numbers)
        self.server, self.proxy, self.n = server, proxy, number
        self.accounts = (f"ann{number}", f"Bob `'\" ö {number}")
        self.roles = (f"readonly{number}", f"orders `rw\\{number}")
        self.privileges = (Privilege(privilege=self.roles[0]), Privilege(privilege=self.roles[1]))
        self.impossible = (f"nobody{number}", scope(self.privileges[:1]))
        self.us = f"muniment{number}"
        self.sql(f"CREATE USER {quoted(self.us)} IDENTIFIED BY %s", SECRET)
        self.sql(f"GRANT SELECT ON mysql.roles_mapping TO {quoted(self.us)}")
        self.sql(f"GRANT SELECT (User, Host, is_role, default_role) ON mysql.user TO {quoted(self.us)}")
        self.sql(f"GRANT PROCESS, CONNECTION ADMIN ON *.* TO {quoted(self.us)}")
        for name in self.accounts:
            self.sql(f"CREATE USER {quoted(name)} IDENTIFIED BY %s", PEOPLES)
        for name in self.roles:
            self.sql(f"CREATE ROLE {quoted(name)}")
            self.sql(f"GRANT {quoted(name)} TO {quoted(self.us)} WITH ADMIN OPTION")
        self.connector = self.make(timeout="20s")  # a machine that is busy is no outage

    def make(self, **settings: Any) -> Any:
        """A connector to this server."""
        given = {
            "host": HOST,
            "port": self.proxy.port,
            "user": self.us,
            "password": "env:MARIA",
            "timeout": "2s",
        }
        return build_connector(
            "mariadb",
            name="maria-test",
            settings=given | settings,
            secret=lambda _: SECRET,
            path=Path,
            catalogue=(),
        )

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Do something past us, as root."""
        connection = self.server.root()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def holds(self, account: str) -> Scope:
        """From the system tables."""
        rows = self.sql("SELECT Role FROM mysql.roles_mapping WHERE User = %s AND Host = '%%'", account)
        return scope(Privilege(privilege=role) for (role,) in rows)

    def everything(self) -> Any:
        """Every role given, and every user."""
        return (
            sorted(self.sql("SELECT Host, User, Role, Admin_option FROM mysql.roles_mapping")),
            sorted(self.sql("SELECT Host, User, is_role, default_role FROM mysql.user")),
        )

    def hold(self, account: str, privilege: Privilege) -> None:
        """Root grants it; nobody sees who did."""
        self.sql(f"GRANT {quoted(privilege.privilege)} TO {quoted(account)}")

    def take(self, account: str, privilege: Privilege) -> None:
        """Root revokes it."""
        if privilege in self.holds(account):
            self.sql(f"REVOKE {quoted(privilege.privilege)} FROM {quoted(account)}")

    def nest(self, inner: Privilege, outer: Privilege) -> None:
        """A role is granted to a role."""
        self.sql(f"GRANT {quoted(outer.privilege)} TO {quoted(inner.privilege)}")

    def delete_account(self, account: str) -> None:
        """DROP USER."""
        self.sql(f"DROP USER {quoted(account)}")

    def delete_privilege(self, privilege: Privilege) -> None:
        """DROP ROLE."""
        self.sql(f"DROP ROLE {quoted(privilege.privilege)}")

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """One that took the role up, past the proxy."""
        connection = pymysql.connect(
            host=HOST,
            port=self.server.port,
            user=account,
            password=PEOPLES,
            autocommit=True,
            charset="utf8mb4",
        )
        return Session(connection, privilege.privilege)


def quoted(name: str) -> str:
    """An identifier, by another hand than the connector's."""
    return "`" + "``".join(name.split("`")) + "`"


class MariaGround:
    """One server."""

    def __init__(self, server: Server) -> None:
        connection = server.root()
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            [said] = cursor.fetchone()
        connection.close()
        number = re.match(r"[0-9.]+", said)
        self.server, self.version = server, f"MariaDB {number[0] if number else said}"

    @contextmanager
    def harness(self) -> Iterator[Harness]:
        """Users and roles of its own."""
        with Proxy(self.server.port) as proxy:
            yield MariaHarness(self.server, proxy)


@contextmanager
def _ground() -> Iterator[Ground]:
    with Server() as server:
        yield MariaGround(server)


GROUNDS = {"mariadb": _ground}
