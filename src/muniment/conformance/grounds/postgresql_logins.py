"""Temporary logins on PostgreSQL 15 and 18. A session is opened with the password that was sealed to the beneficiary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pyrage

from muniment import delivery
from muniment.conformance.grounds.postgresql import HOW, PostgresHarness, Session, ground
from muniment.conformance.grounds.servers import TIMEOUT
from muniment.conformance.harness import Ground, NotApplicable
from muniment.connectors.postgresql_login_roles import PREFIX
from muniment.connectors.postgresql_logins import PostgreSQLLogins
from muniment.core.scope import Privilege, Scope, scope
from muniment.demo.postgres import TemporaryPostgres
from muniment.ports import Order, Outcome


class _Collecting(PostgreSQLLogins):
    """Keeps what it issued, as the beneficiary would."""

    collected: dict[str, bytes]

    def provision(self, orders: Sequence[Order], confirm: Callable[[], None]) -> list[Outcome]:
        outcomes = super().provision(orders, confirm)
        for order, outcome in zip(orders, outcomes, strict=True):
            if outcome.credential is not None:
                self.collected[order.account] = outcome.credential
        return outcomes


class LoginHarness(PostgresHarness):
    """Accounts are names of people here; what a person holds is in the roles whose comment names them."""

    def __init__(self, server: TemporaryPostgres, **options: Any) -> None:
        """``options`` are the connector's own."""
        super().__init__(server)
        self.real.close()
        self.key = pyrage.x25519.Identity.generate()
        self.impossible = (self.accounts[0], scope([Privilege(privilege=f"nothing{self.n}")]))
        self.heir = f"heir{self.n}"
        self.sql("CREATE ROLE {}", self.heir)
        self.sql("GRANT {} TO {}", self.heir, self.connector_role)
        self.options = {"name": "pg-test", "timeout": TIMEOUT, "reference": "env:PG_DSN", **options}
        self.logins = _Collecting(self.dsn(), **self.options)
        self.logins.collected = {}
        self.connector = self.logins

    def close(self) -> None:
        """End every connection."""
        self.logins.close()
        super().close()

    def public_key(self, account: str) -> str:
        """One for all."""
        del account
        return str(self.key.to_public())

    def env(self, account: str) -> dict[str, str]:
        """What the beneficiary unseals."""
        text = str(self.key).encode()
        return delivery.unseal(self.logins.collected[account], text, lambda: b"").env

    def roles_of(self, account: str) -> list[str]:
        """The logins made for them."""
        rows = self.admin.execute(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
            " AND shobj_description(oid, 'pg_authid')::jsonb ->> 'account' = %s",
            [PREFIX, account],
        )
        return [name for (name,) in rows]

    def holds(self, account: str) -> Scope:
        """From the catalogue."""
        return scope(p for role in self.roles_of(account) for p in super(LoginHarness, self).holds(role))

    def hold(self, account: str, privilege: Privilege) -> None:
        """What somebody gives to a login goes with it, and nobody else makes one."""
        del account, privilege
        raise NotApplicable("nobody makes a login here but the connector")

    def delete_privilege(self, privilege: Privilege) -> None:
        """The login is there without it, and goes: this is tried apart."""
        del privilege
        raise NotApplicable("a login does not end with a role that it is a member of")

    def take(self, account: str, privilege: Privilege) -> None:
        """From every login of theirs."""
        for role in self.roles_of(account):
            super().take(role, privilege)

    def delete_account(self, account: str) -> None:
        """Drop every login of theirs."""
        for role in self.roles_of(account):
            self.sql("DROP ROLE {}", role)

    def open_session(self, account: str, privilege: Privilege) -> Session:
        """Logged in with the password that was unsealed, past the proxy."""
        env = self.env(account)
        dsn = self.server.dsn(env["PGUSER"], env["PGPASSWORD"])
        return Session(dsn, privilege.privilege)


GROUNDS: dict[str, Callable[[], AbstractContextManager[Ground]]] = {
    f"postgresql-logins-{major}": partial(ground, major, LoginHarness) for major in HOW
}
