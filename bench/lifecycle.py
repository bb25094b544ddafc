"""How many tickets a second can be filed and approved, durably?

A lifecycle is what two people do: one files (`service.filing`), the other approves (`service.deciding`), each with its
policy decision, and each acknowledged only when it is on the disk (SQLite: synchronous=FULL; PostgreSQL: fsync on).
Beside it, in the same run and in turn, on the same disk:

- ``commits``   bare durable commits a second of one row, by one client: what the disk and the database give;
- ``rows``      lifecycles a second if a commit held only bare rows: the same two commits a lifecycle, with the same
                number of rows and bytes, as many lifecycles to a commit as there are clients, by one writer who waits
                for nobody: a bound that no group commit can reach;
- ``limit``     the group-commit limit: two appends a lifecycle of ready-made events by as many clients, through the
                store's own group commit, with no policy, no decision, no read model and no texts.

The same people ask for the same thing again, as people do, so policy's answers are found in memory. With ``--unlike``
no request is like one of the last 12,000, and policy is asked about each: the other end of what can be.

Trust the ratios, not the absolute numbers. Run: ``.venv/bin/python bench/lifecycle.py [--seconds 5] [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

from muniment.core.events import RequestWithdrawn, TargetRetired
from muniment.core.scope import Privilege
from muniment.demo.postgres import TemporaryPostgres, installed
from muniment.directory.file import FileDirectory
from muniment.ledger.keys import signer_from_seed
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.ports import Append, CatalogueEntry, Stream, Target
from muniment.service.deciding import approve
from muniment.service.desk import CONTROLLER, Desk
from muniment.service.filing import Ask, file_request
from muniment.store.engine import writing
from muniment.store.marking import mark_key
from muniment.store.opening import open_store
from muniment.store.sequencer import SqlLedger
from muniment.store.views import SqlViews

ORIGIN = "bench.example/muniment"
PEOPLE = 50
MINUTES = 240  # as long as the starter policies let an engineer have it
IDENTITIES = (
    "".join(f'[identities."human:p{n}@example.com"]\ngroups = ["engineers"]\n' for n in range(PEOPLE))
    + '[identities."human:lead@example.com"]\ngroups = ["platform"]\nroles = ["approver"]\n'
)


class SystemRandom:
    """`ports.Random`."""

    bytes = staticmethod(os.urandom)


@dataclass(frozen=True)
class NoTarget:
    """Filing asks a connector only whether names are sound; nothing is provisioned here."""

    capabilities: Any

    def validate(self, account: str, scope: Any, key: str | None = None) -> None:
        """Every name here is."""


def open_bench(url: str, folder: Path) -> Desk:
    from muniment.ports import Capabilities  # noqa: PLC0415

    seed = bytes(32)
    store = open_store(url, ORIGIN, mark_key(seed))
    file = folder / "identities.toml"
    file.write_text(IDENTITIES)
    nothing = Capabilities(
        native_expiry=True,  # so that, for what is bounded, one approval is enough
        ends_sessions=True,
        issues_credential=False,
        needs_public_key=False,
        lists_everything=True,
    )
    target = Target(
        id="pg", kind="none", environment="prod", owners=("group:platform",), connector=NoTarget(nothing),
        catalogue=(CatalogueEntry(privilege=Privilege(privilege="orders_rw"), bounded=True),),
    )  # fmt: skip
    return Desk(
        store=store, views=SqlViews(store.engine), random=SystemRandom(), targets={"pg": target},
        ledger=SqlLedger(store.engine, ORIGIN, store.marker, store.clock), policy=CedarPolicy(starter.files()),
        directory=FileDirectory(file), signers=(signer_from_seed(ORIGIN, seed),),
    )  # fmt: skip


def rate(work: Callable[[int], None], clients: int, seconds: float) -> float:
    """Calls of ``work`` that ended within ``seconds``, a second, by so many threads."""
    done = [0] * clients
    stop = time.perf_counter() + seconds

    def run(client: int) -> None:
        while time.perf_counter() < stop:
            work(client)
            done[client] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def lifecycle(desk: Desk, *, unlike: bool = False) -> Callable[[int], None]:
    lead = desk.caller("human:lead@example.com", "bench")
    people = [desk.caller(f"human:p{n}@example.com", "bench") for n in range(PEOPLE)]
    ask = Ask(
        target="pg",
        scope=(Privilege(privilege="orders_rw"),),
        justification="a measured reason",
        duration=timedelta(hours=1),
    )
    asks = [replace(ask, duration=timedelta(minutes=1 + n)) for n in range(MINUTES)]
    numbers = count()

    def once(client: int) -> None:
        if unlike:
            minute, who = divmod(next(numbers) % (PEOPLE * MINUTES), PEOPLE)
            ticket = file_request(desk, people[who], asks[minute])
        else:
            ticket = file_request(desk, people[client % PEOPLE], ask)
        after = approve(desk, lead, ticket.id, digest=ticket.digest)
        if after.status != "approved":
            raise AssertionError(after.status)

    return once


_scratch = Table(
    "scratch",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("key", Text),
    Column("body", LargeBinary),
)


def bare(desk: Desk, rows: int, size: int) -> Callable[[int], None]:
    """One durable commit of ``rows`` rows of ``size`` bytes."""
    body = os.urandom(size)

    def once(_client: int) -> None:
        with writing(desk.store.engine) as connection:
            connection.execute(_scratch.insert(), [{"key": "k", "body": body}] * rows)

    return once


def group(desk: Desk) -> Callable[[int], None]:
    """Two durable appends of two ready-made entries of the usual size, through the store's group commit."""
    ids, run = count(), os.urandom(4).hex()
    event = RequestWithdrawn()
    padding = TargetRetired(target="x" * 1100)

    def once(_client: int) -> None:
        stream = Stream(id=f"bench:{run}:{next(ids)}", version=0, head=None)
        for _ in range(2):
            append = Append(stream=stream, actor=CONTROLLER, events=(event, padding), at=desk.clock.now())
            stream = desk.store.append(append).stream

    return once


def node(url: str, folder: Path, clients: int, seconds: float, unlike: bool, pipe: Connection) -> None:
    """One more process on the same store, as another node would be."""
    once = lifecycle(open_bench(url, folder), unlike=unlike)
    once(0)
    pipe.send("ready")
    pipe.recv()
    pipe.send(rate(once, clients, seconds))


def together(url: str, folder: Path, clients: int, seconds: float, processes: int, unlike: bool) -> float:
    """Lifecycles a second of several processes that start at the same moment."""
    spawn = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(processes):
        ours, theirs = spawn.Pipe()
        spawn.Process(
            target=node, args=(url, folder, clients // processes, seconds, unlike, theirs), daemon=True
        ).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    return float(sum(pipe.recv() for pipe in pipes))


def measure(
    url: str, clients: int, seconds: float, rounds: int, folder: Path, processes: int, unlike: bool
) -> dict[str, Any]:
    desk = open_bench(url, folder)
    _scratch.create(desk.store.engine, checkfirst=True)
    once = lifecycle(desk, unlike=unlike)
    once(0)
    figures: dict[str, list[float]] = {"lifecycles": [], "commits": [], "rows": [], "limit": []}
    for _ in range(rounds):
        figures["commits"].append(rate(bare(desk, 1, 600), 1, seconds / 2))
        # two commits a lifecycle; in each, every client's rows: 2 entries, 2 outbox rows, a ticket, a text
        figures["rows"].append(rate(bare(desk, 6 * clients, 900), 1, seconds / 2) * clients / 2)
        figures["limit"].append(rate(group(desk), clients, seconds / 2))
        alone = processes == 1 or clients < processes
        figures["lifecycles"].append(
            rate(once, clients, seconds)
            if alone
            else together(url, folder, clients, seconds, processes, unlike)
        )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    of_limit = statistics.median(
        mine / limit for mine, limit in zip(figures["lifecycles"], figures["limit"], strict=True)
    )
    return {
        "store": desk.store.engine.dialect.name, "clients": clients, "processes": processes, "unlike": unlike,
        **{name: round(value, 1) for name, value in medians.items()}, "of_limit": round(of_limit, 2),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument(
        "--processes", type=int, default=1, help="share the clients among so many nodes on one store"
    )
    parser.add_argument("--unlike", action="store_true", help="no request is like an earlier one")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muniment-bench-")))
        for kind in options.stores:
            url = f"sqlite:///{folder}/bench.db"
            if kind == "postgresql":
                newest = max(installed())
                server = stack.enter_context(TemporaryPostgres(installed()[newest], fsync=True))
                url = f"postgresql://postgres:{server.password}@127.0.0.1:{server.port}/postgres"
            for clients in options.clients:
                result = measure(
                    url,
                    clients,
                    options.seconds,
                    options.rounds,
                    folder,
                    options.processes,
                    options.unlike,
                )
                results.append(result)
                print(json.dumps(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
