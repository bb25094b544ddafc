"""Stores to test: fresh databases, a clock in the test's hands, and small events to write."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from sqlalchemy import select
from sqlalchemy.engine import URL

from core.lives import Life, terms, verdict
from muniment.core.commands import Command, Facts, Submit
from muniment.core.events import Event, TargetRetired
from muniment.core.instants import wire
from muniment.core.lifecycle import decide
from muniment.core.ticket import Recorded, Ticket, evolve
from muniment.demo.postgres import HOST, SUPERUSER, TemporaryPostgres
from muniment.ledger.entry import entry_ref
from muniment.ledger.keys import signer_from_seed
from muniment.ledger.verify import Report, verify_log
from muniment.main import SystemRandom
from muniment.ports import Actor, Append, Appended, Stream
from muniment.service.desk import Desk
from muniment.store import tables as t
from muniment.store.events import SqlStore
from muniment.store.opening import open_store
from muniment.store.sequencer import SqlLedger
from muniment.store.tile_directory import TileDirectory
from muniment.store.views import SqlViews

ORIGIN = "ledger.example.org/store"
KEY = bytes(range(32))  # marks our entries
SIGNER = signer_from_seed(ORIGIN, b"\x05" * 32)
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ACTOR = Actor(id="human:ann@example.com", via="test")
CONTROLLER = Actor(id="system:muniment", via="controller")

_numbers = itertools.count()


class HandClock:
    """`ports.Clock` that a test moves."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


# ── databases ──


def empty_postgres(server: TemporaryPostgres, template: str = "template0") -> str:
    """A fresh database, as the store's URL."""
    name = f"store_{os.getpid()}_{next(_numbers)}"  # processes of one test share the server, too
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return postgres_url(server, name)


def postgres_url(server: TemporaryPostgres, name: str) -> str:
    url = URL.create(
        "postgresql", SUPERUSER, server.password, HOST, server.port, name, {"sslmode": "disable"}
    )
    return url.render_as_string(hide_password=False)


class Shelf:
    """Makes fresh, migrated databases of one kind cheaply: the first is migrated, the others are copies of it."""

    def __init__(self, server: TemporaryPostgres | None, folder: Path) -> None:
        self.server, self.folder = server, folder
        if server is None:
            self._template = folder / "template.db"
            open_store(f"sqlite:///{self._template}", ORIGIN, KEY, HandClock()).engine.dispose()
        else:
            url = empty_postgres(server)
            open_store(url, ORIGIN, KEY, HandClock()).engine.dispose()
            self._name = url.partition("?")[0].rpartition("/")[2]

    @property
    def shared(self) -> bool:
        return self.server is not None

    def url(self) -> str:
        """A migrated store without entries."""
        if self.server is not None:
            return empty_postgres(self.server, self._name)
        path = self.folder / f"{next(_numbers)}.db"
        shutil.copy(self._template, path)
        return f"sqlite:///{path}"

    def empty_url(self) -> str:
        """A database without any table; for SQLite, a file that is not there yet."""
        if self.server is not None:
            return empty_postgres(self.server)
        return f"sqlite:///{self.folder}/{next(_numbers)}.db"

    @contextmanager
    def store(self, clock: HandClock | None = None) -> Iterator[SqlStore]:
        """A fresh store."""
        url = self.url()
        with opened(url, clock or HandClock()) as store:
            yield store
        self.discard(url)

    def discard(self, url: str) -> None:
        """Remove a store's file now, since removing hundreds at the end takes long; a server's go with it."""
        if self.server is None:
            for suffix in ("", "-wal", "-shm"):
                Path(url.removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)


@contextmanager
def shelf(server: TemporaryPostgres | None) -> Iterator[Shelf]:
    with tempfile.TemporaryDirectory(prefix="muniment-store-") as folder:
        yield Shelf(server, Path(folder))


@contextmanager
def opened(url: str, clock: HandClock | None = None) -> Iterator[SqlStore]:
    """A store, whose connections are closed at the end."""
    store = open_store(url, ORIGIN, KEY, clock)
    try:
        yield store
    finally:
        store.engine.dispose()


def file_of(store: SqlStore) -> Path:
    """A SQLite store's file."""
    assert store.engine.url.database
    return Path(store.engine.url.database)


# ── things to write ──


def fact(text: str = "pg-old") -> TargetRetired:
    """The smallest event there is, outside tickets."""
    return TargetRetired(target=text)


def nothing(stream: str) -> Stream:
    """A stream without entries."""
    return Stream(id=stream, version=0, head=None)


def an_append(stream: Stream | str, *texts: str, at: datetime = NOW, **more: object) -> Append:
    """Facts for a stream."""
    to = nothing(stream) if isinstance(stream, str) else stream
    events = tuple(fact(text) for text in texts)
    return Append(stream=to, actor=ACTOR, events=events, at=at, **more)  # type: ignore[arg-type]


def file_ticket(store: SqlStore, ticket: str, at: datetime = NOW, **changes: object) -> tuple[Stream, Ticket]:
    """A pending ticket on file."""
    life = Life(**changes)
    facts = life.by(life.terms.requester, verdict=verdict(review_within=3600))
    return write(store, nothing(ticket), None, Submit(ticket=ticket, terms=terms(**changes)), facts, at)


def write(
    store: SqlStore,
    stream: Stream,
    ticket: Ticket | None,
    command: Command,
    facts: Facts,
    at: datetime = NOW,
    **more: object,
) -> tuple[Stream, Ticket]:
    """The one write path, by hand: decide, fold, append."""
    events = decide(ticket, command, facts, at)
    after = folded(stream.id, ticket, events, at)
    append = Append(stream=stream, actor=ACTOR, events=events, at=at, ticket=after, **more)  # type: ignore[arg-type]
    return store.append(append).stream, after


def folded(
    stream: str, ticket: Ticket | None, events: tuple[Event, ...], at: datetime, actor: Actor = ACTOR
) -> Ticket:
    for event in events:
        seq = ticket.version if ticket else 0
        ticket = evolve(
            ticket, Recorded(seq=seq, at=wire(at), actor=actor.id, via=actor.via, event=event), stream
        )
    assert ticket
    return ticket


def stream_of(store: SqlStore, stream: str) -> Stream:
    """Any stream as it stands, read without the store's own help."""
    query = select(t.event.c.body).where(t.event.c.stream == stream).order_by(t.event.c.seq)
    with store.engine.connect() as connection:
        bodies = [bytes(body) for body in connection.execute(query).scalars()]
    return Stream(id=stream, version=len(bodies), head=entry_ref(bodies[-1]) if bodies else None)


def done(result: object) -> Appended:
    assert isinstance(result, Appended), result
    return result


# ── the ledger ──


def ledger_of(store: SqlStore) -> SqlLedger:
    return SqlLedger(store.engine, store.origin, store.marker, store.clock)


def desk_of(store: SqlStore, folder: Path | None = None) -> Desk:
    """As much of a desk as sealing, publishing to ``folder`` and verifying need."""
    return Desk(
        store=store, views=SqlViews(store.engine), ledger=ledger_of(store), policy=None, directory=None,  # type: ignore[arg-type]
        targets={}, random=SystemRandom(), signers=(SIGNER,), tiles=TileDirectory(folder) if folder else None,
    )  # fmt: skip


def seal(store: SqlStore) -> str:
    """Everything that waits into the tree, and a signed note over it."""
    ledger = ledger_of(store)
    while ledger.integrate():
        pass
    return ledger.sign([SIGNER]).note


def verified(store: SqlStore) -> Report:
    """Seal, then verify everything from its bytes; fails the test unless all levels hold."""
    note = seal(store)
    report = verify_log(ledger_of(store).entries(), note, SIGNER.verifier, origin=ORIGIN)
    assert report.ok, report
    stored, waiting, leaves = ledger_of(store).counts()
    assert (waiting, stored) == (0, leaves)
    return report


def in_another_process(task: str, *arguments: object, timeout: float = 120) -> dict:
    """Run a task of `process`, and return its answer."""
    script = Path(__file__).with_name("process.py")
    run = subprocess.run(
        [sys.executable, script, task, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)
