"""Warm connections to one PostgreSQL, and what its errors mean to us.

A connection serves one thread at a time, goes back only after a call without any error, and is thrown away on
every doubt. Nothing waits for the target without a limit: the limit is checked here, beside the server's own
time-outs, because a server that hangs keeps none.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from muniment.core.errors import Misconfigured, TargetUnavailable
from muniment.core.text import visible

RV = TypeVar("RV")
T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

_KEPT = 10  # idle connections; more are made when more threads work, and not kept
_KEPT_SECONDS = 60.0  # an idle connection older than this may have been forgotten by a firewall
_WARM_SECONDS = 10.0  # for so long, what `Sessions.warm` leaves is not too old
_ENCODINGS = {"UTF8", "SQL_ASCII"}  # in which any name survives the way there and back

#: SQLSTATE classes by which the server means: no, and asking again cannot help
_NO = {"0A", "0L", "0P", "22", "2B", "42", "55"}

#: what libpq says when a connection fails, and what we say. Its own text is never shown: from a mistyped
#: URL it can quote half a password as the name of a host (I31)
_REASONS = {
    "password authentication failed": "it refused our password",
    "no password supplied": "it wants a password",
    "no pg_hba.conf entry": "its pg_hba.conf does not let us in",
    "timeout expired": "there was no answer in time",
    "refused": "it refuses connections",
    "could not translate host name": "the name of its host is unknown",
    "failed to resolve host": "the name of its host is unknown",
    "too many clients": "all its connections are taken",
    "remaining connection slots": "all its connections are taken",
    "starting up": "it is starting",
    "shutting down": "it is stopping",
    "hot standby": "it is a standby, which may lag behind",
    "does not exist": "it does not know our role or the database",
    "certificate": "TLS failed",
    "SSL": "TLS failed",
}


class Kept(msgspec.Struct, frozen=True):
    """A query that a connection asks again and again: the server plans it once, for any values (`PREPARE`)."""

    text: str  # with $1 and so on, each with its type
    given: tuple[object, ...]

    @property
    def name(self) -> str:
        """The same for the same text, whatever is asked for."""
        return f"muniment_{zlib.crc32(self.text.encode()):08x}"


Query: TypeAlias = tuple[sql.SQL, Sequence[object] | Mapping[str, object]] | Kept


class Busy(TargetUnavailable):
    """Somebody on the target holds a lock we need. Nothing was done; later it may go."""

    code = "target.busy"


class StatementRefused(TargetUnavailable):
    """The server understood one statement and says no to it."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class _Connection(psycopg.Connection[Row]):
    """A connection whose every wait ends at ``until``."""

    until: float = 0.0  # monotonic seconds

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:  # noqa: ARG002 - ours counts
        return super().wait(gen, interval, max(0.0, self.until - time.monotonic()))


class Session:
    """One connection in the hands of one call. All of psycopg's errors end here."""

    def __init__(self, connection: _Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self.version = connection.info.server_version // 10_000
        self.idle_since = 0.0
        self._kept: set[str] = set()  # names of what the server has planned

    def limit(self, until: float) -> None:
        """Give up at this monotonic instant."""
        self._connection.until = until

    @property
    def until(self) -> float:
        """The monotonic instant at which we give up."""
        return self._connection.until

    def ask(self, *queries: Query) -> list[list[Row]]:
        """Send queries as one message; return the rows of each. After an error the session is of no more use.

        It is a simple message with the values quoted by libpq, not a pipeline: psycopg may end that with a Flush
        after the Sync, and at a Flush PostgreSQL stops its idle-in-transaction timer, our fence (I19).
        """
        return self.run(then=queries)

    def run(self, *statements: sql.Composable, then: Sequence[Query] = ()) -> list[list[Row]]:
        """Send statements as one message, the first error ends it; return the rows of the queries at its end.

        Raises:
            StatementRefused: the server says no; the transaction is at its last savepoint.
            Busy: likewise, because of somebody's lock.
        """
        with self._answering():
            new = {each.text: each for each in then if isinstance(each, Kept) and each.name not in self._kept}
            if (
                new
            ):  # by itself: it stays also when what comes after it is refused, and must not be made twice
                self._results("; ".join(f"PREPARE {each.name} AS {each.text}" for each in new.values()))
                self._kept.update(each.name for each in new.values())
            texts = [statement.as_string(self._connection) for statement in statements]
            found = self._results("; ".join([*texts, *self._quoted(then)]))
            return found[len(found) - len(then) :]

    def verifier(self, role: str, password: str) -> str:
        """What the server keeps of a password. Computed here, so that the password is in no statement and no log."""
        made: bytes = self._connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        )
        return made.decode()

    def _quoted(self, queries: Sequence[Query]) -> list[str]:
        cursor = psycopg.ClientCursor(self._connection)
        return [
            cursor.mogrify(f"EXECUTE {query.name} ({', '.join(['%s'] * len(query.given))})", query.given)
            if isinstance(query, Kept)
            else cursor.mogrify(*query)
            for query in queries
        ]

    def _results(self, text: str) -> list[list[Row]]:
        with self._connection.cursor() as cursor:
            cursor.execute(text)
            found = [cursor.fetchall() if cursor.description else []]
            while cursor.nextset():
                found.append(cursor.fetchall() if cursor.description else [])
            return found

    @property
    def reusable(self) -> bool:
        """Whether another call may have this connection."""
        status = self._connection.info.transaction_status
        return not self._connection.closed and status == TransactionStatus.IDLE

    def close(self) -> None:
        """Give the connection up; the server undoes what was not committed."""
        with suppress(psycopg.Error):
            self._connection.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (errors.LockNotAvailable, errors.DeadlockDetected, errors.InternalError_) as error:
            # the last: "tuple concurrently updated", when somebody else changes the same membership
            raise Busy(f"{self._name} is busy: {_said(error)}") from error
        except psycopg.Error as error:
            if error.sqlstate and error.sqlstate[:2] in _NO:
                raise StatementRefused(f"{self._name} says no: {_said(error)}", error.sqlstate) from error
            late = time.monotonic() >= self.until
            why = " in time" if late else f": {_said(error)}"
            raise TargetUnavailable(
                f"{self._name} did not answer{why}", remedy="It is tried again."
            ) from error
        except UnicodeError as error:  # a name in a SQL_ASCII database may be any bytes
            raise TargetUnavailable(f"{self._name} holds a name that is not UTF-8") from error


class Sessions:
    """Connections to one server: made when needed, a few kept warm."""

    def __init__(self, dsn: str, *, name: str, reference: str, timeout: timedelta) -> None:
        """``reference`` is what messages call the DSN; it never appears itself. Raises `Misconfigured`."""
        self._name, self._reference, self._timeout = name, reference, timeout.total_seconds()
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:  # its text quotes the DSN
            raise Misconfigured(
                f"target {name}: what {reference} holds is not a PostgreSQL connection string",
                remedy="Write it like postgresql://role@host:5432/database.",
            ) from None
        milliseconds = round(self._timeout * 1000)
        steady: dict[str, Any] = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        pinned: dict[str, Any] = {
            # ours come last and win; pg_temp is named so that it is not searched first
            "options": f"{given.pop('options', None) or ''} -c search_path=pg_catalog,pg_temp"
            f" -c statement_timeout={milliseconds} -c client_min_messages=error"
            " -c default_transaction_read_only=off"
            " -c jit=off"  # compiling a look at 10,000 roles takes the server 100 ms, looking takes 1 ms
            " -c plan_cache_mode=force_generic_plan",  # of what is `Kept`: planning takes longer than looking
            "application_name": "muniment",
            "client_encoding": "UTF8",
            "tcp_user_timeout": milliseconds,
            "target_session_attrs": "primary",  # a standby shows what was, not what is
        }
        self._conninfo = make_conninfo("", **(steady | given | pinned))
        self._idle: list[Session] = []
        self._lent = 0
        self._lock = threading.Lock()

    @contextmanager
    def begin(self, until: float, opening: Callable[[Session], T]) -> Iterator[tuple[Session, T]]:
        """Lend a session on which ``opening`` has succeeded, until a monotonic instant.

        ``opening`` must change nothing, as it may be run twice: a warm connection is proved by its use, and one
        that the server has closed meanwhile costs no call.
        """
        session = self._take()
        try:
            if session is not None:
                session.limit(until)
                try:
                    result = opening(session)
                except Busy:
                    raise
                except TargetUnavailable:
                    session.close()
                    self.close()  # the others are as old
                    session = None
            if session is None:
                session = self._open(until)
                result = opening(session)
            yield session, result
        except BaseException:
            with self._lock:
                self._lent -= 1
            if session is not None:
                session.close()
            raise
        self._put_back(session)

    def warm(self, count: int, until: float, opening: Callable[[Session], object]) -> None:
        """Have so many connections, idle or lent, on each new one of which ``opening`` has succeeded."""
        self._drop_older(_KEPT_SECONDS - _WARM_SECONDS)
        while self._at_hand() < min(count, _KEPT):
            session = self._open(until)
            try:
                opening(session)
            except BaseException:
                session.close()
                raise
            session.idle_since = time.monotonic()
            with self._lock:
                self._idle.append(session)

    def deadline(self) -> float:
        """The monotonic instant at which a call that begins now must have ended."""
        return time.monotonic() + self._timeout

    def close(self) -> None:
        """Close the idle connections. The next call makes new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _take(self) -> Session | None:
        self._drop_older(_KEPT_SECONDS)
        with self._lock:
            self._lent += 1
            return self._idle.pop() if self._idle else None

    def _drop_older(self, seconds: float) -> None:
        oldest = time.monotonic() - seconds
        with self._lock:
            stale = [s for s in self._idle if s.idle_since < oldest]
            self._idle = [s for s in self._idle if s.idle_since >= oldest]
        for session in stale:
            session.close()

    def _at_hand(self) -> int:
        with self._lock:
            return self._lent + len(self._idle)

    def _put_back(self, session: Session) -> None:
        session.idle_since = time.monotonic()
        with self._lock:
            self._lent -= 1
            keep = session.reusable and len(self._idle) < _KEPT
            if keep:
                self._idle.append(session)
        if not keep:
            session.close()

    def _open(self, until: float) -> Session:
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise TargetUnavailable(f"{self._name} did not answer in time", remedy="It is tried again.")
        try:
            # psycopg takes whole seconds, two at least, for each address of the host; 0 is no limit to it
            limit = max(1, int(seconds))
            # psycopg plans nothing by itself: what it gives up after a DROP or a ROLLBACK, it has the server give up
            # for everybody, and ours with it
            connection = _Connection.connect(
                self._conninfo, autocommit=True, connect_timeout=limit, prepare_threshold=None
            )
        except psycopg.Error as error:
            raise self._unreached(str(error)) from None  # its text and its traceback may hold the DSN
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            connection.close()
            raise TargetUnavailable(
                f"{self._name}: the database's encoding is {encoding}",
                remedy=f"Name a database in UTF8 in {self._reference}; roles are the same in all databases.",
            )
        session = Session(connection, self._name)
        session.limit(until)
        return session

    def _unreached(self, said: str) -> TargetUnavailable:
        reason = next((ours for theirs, ours in _REASONS.items() if theirs in said), "connecting failed")
        return TargetUnavailable(
            f"{self._name} did not answer: {reason}",
            remedy=f"Check the server, and host, role and password in {self._reference}.",
        )


def _said(error: psycopg.Error) -> str:
    """The server's own sentence, which holds names but never a secret."""
    return visible(error.diag.message_primary or "the connection broke").replace("\n", " ")[:200]
