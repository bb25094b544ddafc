"""Opening a database, and what its errors mean.

SQLite: WAL, ``synchronous=FULL`` (a commit is on the disk), foreign keys, and every write transaction begins
IMMEDIATE, so that it cannot fail half-way for want of the lock. PostgreSQL: as configured there; a server that runs
with ``synchronous_commit=off`` is refused, because an acknowledged approval could be lost.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from muniment.core.errors import IntegrityError, Misconfigured, StoreUnavailable
from muniment.store import alive

T = TypeVar("T")

#: to the database at once, from one process, and how many of them stay open. PostgreSQL takes a hundred in all, as it
#: comes; whoever needs them in numbers is kept to a part of them (`api.load`), so that taking away always finds one
CONNECTIONS, KEPT_OPEN = 40, 10
#: how long a SQLite writer waits for another process
BUSY_SECONDS = 10
#: bytes of the smallest page: a shorter file is a cut one, unless it is empty
SMALLEST = 512
_DAMAGED = (
    "The file is damaged or is not a Muniment store; restore a backup, then run `muniment ledger verify`."
)


def open_engine(url: str) -> Engine:
    """Make an engine for ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        Misconfigured: another kind of URL, or not a URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(
            "the store's url is not a URL", remedy="Write sqlite:///path or postgresql://…"
        ) from error
    if parsed.drivername == "sqlite":
        return _sqlite(url, parsed.database)
    if parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=KEPT_OPEN,
            max_overflow=CONNECTIONS - KEPT_OPEN,
            connect_args={"connect_timeout": 10, "application_name": "muniment-store", **alive.TCP},
        )
        alive.watch(engine)
        return engine
    raise Misconfigured(
        f"the store cannot be {parsed.drivername!r:.40}",
        remedy="Use sqlite:///path or postgresql://…, and no other.",
    )


def shown(url: str | URL) -> str:
    """A store's URL as it may be shown (I31): without a password, also where one stands among the parameters."""
    return make_url(url).difference_update_query(["password"]).render_as_string(hide_password=True)


def _sqlite(url: str, path: str | None) -> Engine:
    if not path or path == ":memory:":
        raise Misconfigured(
            "the store needs a file", remedy="Write sqlite:///var/muniment.db; memory keeps no evidence."
        )
    engine = create_engine(
        url, pool_size=KEPT_OPEN, max_overflow=CONNECTIONS - KEPT_OPEN,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        _keep_a_log(connection)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """WAL. Of several that open a new file at once SQLite refuses some at once, since waiting could be without end."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def folded(decode: Callable[[bytes], T], state: bytes) -> T:
    """State of a read model. Raises `IntegrityError` for a row that is none."""
    try:
        return decode(state)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(
            "a row of the read model is damaged",
            remedy="Run `muniment admin rebuild`: the entries are the truth.",
        ) from error


def blob(value: Any) -> bytes:
    """Bytes as they were stored. SQLite lets foreign SQL put a value of any type into any column."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise IntegrityError(
            f"the store holds {type(value).__name__} where bytes belong",
            remedy="Somebody wrote to the database directly. Keep it as it is and find out who.",
        )
    return bytes(value)


def create_file(url: str) -> None:
    """Make an empty SQLite file that only its owner can read, before SQLite makes one that everybody can."""
    parsed = make_url(url)
    if parsed.drivername != "sqlite" or not parsed.database:
        return
    path = Path(parsed.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        size = os.fstat(file).st_size
        os.close(file)
    except OSError as error:
        raise StoreUnavailable(
            f"the store {path} cannot be written: {error.strerror}",
            remedy="Check the folder's owner, mode and free space.",
        ) from error
    if 0 < size < SMALLEST:
        raise StoreUnavailable(
            f"the store {path} has {size} bytes, and SQLite would take it for a new one", remedy=_DAMAGED
        )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction: committed at the end, rolled back on any error."""
    with (
        translated(),
        writers_turn(engine),
        engine.connect().execution_options(writes=True) as connection,
        connection.begin(),
    ):
        yield connection


def writers_turn(engine: Engine) -> AbstractContextManager[Any]:
    """SQLite has one writer. Threads of one process queue here, instead of sleeping in SQLite's busy handler."""
    return _writers.setdefault(engine, threading.Lock()) if engine.dialect.name == "sqlite" else nullcontext()


_writers: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read with.

    On SQLite all of it is one view; on PostgreSQL each statement is, without a round trip to begin and end a
    transaction: whatever must be seen together is asked for in one statement.
    """
    with translated(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
        else:
            with connection.begin():
                yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Foreign errors are translated where they enter. Statements and values stay out of the message (I31)."""
    try:
        yield
    except SQLAlchemyError as error:
        raise unavailable(error) from error
    except (
        UnicodeDecodeError
    ) as error:  # sqlite3 reading a damaged file, or quoting it in a message of its own
        raise StoreUnavailable("the store holds text that is not text", remedy=_DAMAGED) from error


def unavailable(failed: SQLAlchemyError) -> StoreUnavailable:
    """Say it in our words: what the database itself said, without the statement."""
    error = failed.orig if isinstance(failed, DBAPIError) and failed.orig is not None else failed
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    remedy = (
        "Check that the database runs, has free space and can be written by this user; nothing was recorded."
    )
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        remedy = _DAMAGED
    translation = StoreUnavailable(f"the store did not answer: {said:.200}", remedy=remedy)
    translation.__cause__ = failed
    return translation
