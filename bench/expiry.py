"""How late is access taken away when 500 grants expire within one second?

500 accounts of one real PostgreSQL (fsync on) hold one role each by ticket; their tickets expire within one second,
evenly spread. A separate process polls ``pg_auth_members`` every 10 ms and notes when each membership is first
missing. The lag is from the ticket's own ``expires_at`` to that moment, so about 5 ms of it is the measurement.

Muniment pays for more than the REVOKE: order and observation are on disk in the ledger (SQLite, synchronous=FULL),
and open sessions are ended. Accounts evenly spread over the second have one that holds SET ROLE; how late its client
is told that it is over is reported apart.

``--beside SCRIPT`` runs another program with the same number of grants in the same run, before and after, and prints
what it prints: for OpenBao's database engine, whose leases drop a login role each, without a disk write or ending
sessions. Run: ``.venv/bin/python bench/expiry.py [--n 500] [--sessions 50] [--rounds 2] [--beside SCRIPT]``.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
from lifecycle import open_bench
from psycopg import sql

from muniment.connectors.kinds import build_connector
from muniment.controllers.runtime import Controllers
from muniment.core.scope import Privilege
from muniment.demo.postgres import TemporaryPostgres, installed
from muniment.ports import CatalogueEntry, Target
from muniment.service.deciding import approve
from muniment.service.desk import Desk
from muniment.service.filing import Ask, file_request

ROLE = "orders_rw"
OWNERS = (
    "human:lead@example.com",
    "human:chief@example.com",
)  # PostgreSQL ends nothing by itself: two approve
#: from filing the first ticket to the first expiry
LEAD_SECONDS = 25


def quantile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(percent / 100 * len(ordered)) - 1))]


def summary(lags: list[float]) -> dict[str, float]:
    return {name: round(quantile(lags, p) * 1000, 1) for name, p in (("p50", 50), ("p99", 99), ("max", 100))}


def watch(dsn: str, poll: float, pipe: Connection) -> None:
    """In a process of its own: note when each account is first seen with the role, and first without it again."""
    held: set[str] = set()
    gone: dict[str, float] = {}
    query = (
        "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member"
        f" WHERE r.rolname = '{ROLE}'"
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not pipe.poll():
            there, now = {row[0] for row in connection.execute(query)}, time.time()
            held |= there
            for account in held - there - gone.keys():
                gone[account] = now
            time.sleep(poll)
    pipe.recv()
    pipe.send((len(held), gone))


@contextmanager
def watching(dsn: str, poll: float) -> Iterator[Any]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=watch, args=(dsn, poll, theirs), daemon=True
    )
    process.start()
    try:
        yield ours
    finally:
        process.join(10)
        process.kill()


def prepare(server: TemporaryPostgres, count: int) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE}")
        for n in range(count):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(sql.Identifier(f"u{n}")))


def with_postgres(desk: Desk, servers: dict[str, TemporaryPostgres], folder: Path, count: int) -> Desk:
    """The benchmark's desk with real targets and an identity for each account."""
    from muniment.directory.file import FileDirectory  # noqa: PLC0415

    people = "".join(f'[identities."human:u{n}@example.com"]\ngroups = ["engineers"]\n' for n in range(count))
    file = folder / "people.toml"
    owners = "".join(f'[identities."{owner}"]\ngroups = ["platform"]\n' for owner in OWNERS)
    file.write_text(people + owners)
    wanted = Privilege(privilege=ROLE)
    targets = {}
    for name, server in servers.items():
        connector = build_connector(
            "postgresql",
            name=name,
            settings={"dsn": "env:DSN"},
            secret=lambda _, at=server: at.dsn(),
            path=Path,
            catalogue=[wanted],
        )
        targets[name] = Target(
            id=name, kind="postgresql", environment="prod", owners=("group:platform",), connector=connector,
            catalogue=(CatalogueEntry(privilege=wanted),),
        )  # fmt: skip
    return replace(desk, targets=targets, directory=FileDirectory(file))


def file_all(
    desk: Desk, target: str, expiries: Sequence[datetime], length: timedelta = timedelta(seconds=LEAD_SECONDS)
) -> dict[str, float]:
    """File a ticket for an account of each expiry, and have it approved."""
    owners = [desk.caller(owner, "bench") for owner in OWNERS]

    def one(n: int) -> tuple[str, float]:
        ask = Ask(
            target=target,
            scope=(Privilege(privilege=ROLE),),
            justification="measured",
            duration=length,
            starts_at=expiries[n] - length,
        )
        caller = desk.caller(f"human:u{n}@example.com", "bench")
        ticket = file_request(desk, caller, ask)
        for owner in owners:
            approve(desk, owner, ticket.id, digest=ticket.digest)
        return f"u{n}", expiries[n].timestamp()

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(one, range(len(expiries))))


def spread(count: int, first: datetime, seconds: float) -> list[datetime]:
    """Evenly spread instants."""
    return [first + timedelta(seconds=seconds * n / count) for n in range(count)]


def measure(desk: Desk, server: TemporaryPostgres, count: int, sessions: int, poll: float) -> dict[str, Any]:
    controllers = Controllers(desk, node="bench")
    controllers.start()
    opened: dict[str, psycopg.Connection[Any]] = {}
    try:
        with watching(server.dsn(), poll) as watcher:
            first = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)
            expiries = file_all(desk, "pg", spread(count, first, 1))
            deadline = min(expiries.values())
            waiting = [f"u{n * count // sessions}" for n in range(sessions)]
            while time.time() < deadline - 3 and waiting:
                connection = psycopg.connect(server.dsn(waiting[0], "pw"), autocommit=True)
                try:
                    connection.execute(f"SET ROLE {ROLE}")
                    opened[waiting.pop(0)] = connection
                except psycopg.Error:  # not granted yet
                    connection.close()
                    time.sleep(0.05)
            told = when_told(opened, max(expiries.values()) + 4)
            watcher.send(None)
            held, gone = watcher.recv()
        cut = sum(_is_cut(connection) for connection in opened.values())
    finally:
        controllers.stop()
    lags = [gone[account] - at for account, at in expiries.items() if account in gone]
    within = max(expiries.values()) - min(expiries.values())
    return {
        "grants": count, "held": held, "gone": len(gone), "expiries_spread_s": round(within, 2), "lag_ms": summary(lags),
        "early": sum(lag < -poll for lag in lags), "sessions_open": len(opened), "sessions_cut": cut,
        "sessions_lag_ms": summary([at - expiries[account] for account, at in told.items()]) if told else None,
    }  # fmt: skip


def when_told(opened: dict[str, psycopg.Connection[Any]], until: float) -> dict[str, float]:
    """When each session's client hears something: it is told that the session is over."""
    told: dict[str, float] = {}
    by_file = {connection.fileno(): account for account, connection in opened.items()}
    listening = select.poll()
    for file in by_file:
        listening.register(file, select.POLLIN)
    while (left := until - time.time()) > 0:
        for file, _ in listening.poll(left * 1000):
            told[by_file[file]] = time.time()
            listening.unregister(file)
    return told


def _is_cut(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return True
    connection.close()
    return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--poll", type=float, default=0.010, help="seconds between looks")
    parser.add_argument("--postgresql", type=int, default=min(installed()), help="major version to run on")
    parser.add_argument(
        "--beside", type=Path, help="a peer's benchmark to run in the same run, with --n and --shape aligned"
    )
    options = parser.parse_args()
    for _ in range(options.rounds):
        if options.beside:
            command = [sys.executable, str(options.beside), "--n", str(options.n), "--shape", "aligned"]
            subprocess.run(command, check=True)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-bench-")))
            settings = {"max_connections": "200"}
            binaries = installed()[options.postgresql]
            server = stack.enter_context(TemporaryPostgres(binaries, fsync=True, settings=settings))
            prepare(server, options.n)
            desk = with_postgres(
                open_bench(f"sqlite:///{folder}/bench.db", folder), {"pg": server}, folder, options.n
            )
            print(json.dumps(measure(desk, server, options.n, options.sessions, options.poll)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
