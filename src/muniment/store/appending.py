"""Group commit: commands that wait together share one durable commit.

Whoever comes first commits for everybody who waits by then, so there is no thread to start or to lose, and
an idle store answers at once. Measured: fifteen times the commits at ten waiting commands, eighty at a hundred.

One transaction holds, for each append: the version check, the lease, the entries, the read model, the texts and the
credential. An append that fails by itself (another writer was first, a lease is lost) does not touch its neighbours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, bindparam, func, literal_column, select, union_all, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.sql import Executable

from muniment.core.errors import Conflict, Invalid, LeaseLost, MunimentError, Repeated, StoreUnavailable
from muniment.core.events import encode_data
from muniment.core.instants import wire
from muniment.ledger.entry import Actor as EntryActor
from muniment.ledger.entry import Entry
from muniment.ledger.errors import LedgerFault
from muniment.ledger.merkle import leaf_hash
from muniment.ports import Append, Appended, Lease, Stream
from muniment.store import tables as t
from muniment.store.engine import unavailable, writers_turn
from muniment.store.families import counting
from muniment.store.leasing import fences_of, free, take
from muniment.store.marking import Marker
from muniment.store.projecting import (
    FIXED,
    campaigns_to_list,
    drifts_to_list,
    registry_row,
    tickets_to_list,
    viewers_of,
)
from muniment.store.rows import Into, listed, one_of, put, run
from muniment.store.token_rows import token_row
from muniment.store.use_rows import into, take_back

#: entries in one commit; more wait for the next
BATCH = 512
#: in place of the digest of a command whose text was erased: asked again with its key, it is refused
ERASED = "erased"
#: how long a commit waits for the company it can expect. Longer, and whoever waits in vain for it loses more than the
#: next commit gains: measured over HTTP, 2 to 5 ms do 300 lifecycles a second where 10 ms do 190
GATHER_SECONDS = 0.003
#: as many as wrote together so recently are expected to again
RECENT_SECONDS = 0.2


class _Waiting:
    """An append on its way into a commit."""

    __slots__ = ("append", "bodies", "head", "result")

    def __init__(self, append: Append, origin: str) -> None:
        self.append = append
        self.result: Appended | MunimentError | None = None
        self.bodies: list[bytes] = []
        self.head = prev = append.stream.head
        actor, at = EntryActor(id=append.actor.id, via=append.actor.via), wire(append.at)
        for offset, event in enumerate(append.events):
            try:
                entry = Entry(
                    log=origin, ticket=append.stream.id, seq=append.stream.version + offset, prev=prev, type=event.kind,
                    actor=actor, at=at, data=msgspec.Raw(encode_data(event)),
                )  # fmt: skip
                body = entry.encode()
            except (LedgerFault, UnicodeEncodeError) as fault:  # a lone surrogate has no UTF-8
                self.result = Invalid(
                    f"this does not fit into the ledger: {fault}",
                    remedy="Ask for fewer privileges, or say it shorter.",
                )
                return
            prev = "sha256:" + leaf_hash(body).hex()
            self.bodies.append(body)
            self.head = prev

    @property
    def after(self) -> Stream:
        """The stream as it stands once this is recorded."""
        stream = self.append.stream
        return Stream(id=stream.id, version=stream.version + len(self.bodies), head=self.head)

    def done(self, lease: Lease | None) -> None:
        self.result = Appended(stream=self.after, lease=lease)


class _Caller:
    """A thread on its way into a commit, with all that it brought."""

    def __init__(self, mine: list[_Waiting]) -> None:
        self._mine = mine
        self.gate = threading.Lock()
        self.gate.acquire()  # opened by whoever leads

    @property
    def served(self) -> bool:
        """Everything it brought has its result."""
        return all(w.result is not None for w in self._mine)


class Appender:
    """The one way into the event table."""

    def __init__(self, engine: Engine, origin: str, marker: Marker) -> None:
        """``origin`` names the ledger; it is inside every entry, so that none can be moved to another."""
        self._engine, self._origin, self._marker = engine, origin, marker
        self._queue: list[_Waiting] = []
        self._full = threading.Condition()  # the leader waits on it for company
        self._leading = False  # somebody commits for everybody
        self._callers: list[_Caller] = []  # those who wait
        self._together = 0  # how many write at this moment, without those who do not wait
        self._most, self._most_at = 0, 0.0  # how many that lately were at most, and when
        self._hurry = False  # somebody in the queue does not wait

    def append_many(
        self, appends: Sequence[Append], *, patient: bool = False
    ) -> list[Appended | MunimentError]:
        """See `ports.EventStore.append_many`.

        A ``patient`` append lets others join its commit. A controller's is not: it is a batch already, and takes
        access away.
        """
        mine = [_Waiting(append, self._origin) for append in appends]
        caller = _Caller(mine)
        if caller.served:  # nothing that could be recorded
            return [w.result for w in mine if w.result is not None]
        with self._full:
            self._queue.extend(w for w in mine if w.result is None)
            if patient:
                self._together += 1
            else:
                self._hurry = True
            follows = self._leading
            if follows:
                self._callers.append(caller)
                if self._hurry or len(self._queue) >= self._most:
                    self._full.notify()
            self._leading = True
        try:
            if follows:
                self._wait(caller)
            if not caller.served:
                self._lead(caller)
        finally:
            if patient:
                with self._full:
                    self._together -= 1
        return [w.result for w in mine if w.result is not None]

    def _wait(self, caller: _Caller) -> None:
        """Wait until somebody has committed what is ours, or it is our turn to commit for everybody."""
        try:
            caller.gate.acquire()
        except (
            BaseException
        ):  # Ctrl-C: what is in the queue is committed all the same, and somebody must lead
            with self._full:
                if caller in self._callers:
                    self._callers.remove(caller)
                elif not caller.served:
                    self._hand_over()
            raise

    def _lead(self, caller: _Caller) -> None:
        try:
            while not caller.served:
                self._commit(self._gather())
        finally:
            with self._full:
                self._hand_over()

    def _hand_over(self) -> None:
        """Wake whoever was served, and one more to lead. Each waits at a gate of its own, so nobody wakes in vain."""
        waiting = [c for c in self._callers if not c.served]
        for served in (c for c in self._callers if c.served):
            served.gate.release()
        self._leading = bool(waiting)
        self._callers = waiting[1:]
        if waiting:
            waiting[0].gate.release()

    def _gather(self) -> list[_Waiting]:
        """Take what waits; where several write together, give the others some milliseconds to join this commit."""
        with self._full:
            now = time.monotonic()
            if self._together >= self._most or now - self._most_at > RECENT_SECONDS:
                self._most, self._most_at = self._together, now
            if self._most > 1:
                self._full.wait_for(lambda: self._hurry or len(self._queue) >= self._most, GATHER_SECONDS)
            self._hurry = False
            batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        """Commit a batch. A crash before the commit leaves nothing of it; after, all of it."""
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001  whatever it is, each of them gets an answer
            if len(batch) == 1 or _everybodys(error):
                for waiting in batch:
                    waiting.result = _failure(waiting.append, error)
                return
            # another process took a version between our look and our insert, or the database refuses what one of
            # them holds: let each succeed or fail by itself
            for waiting in batch:
                self._commit([waiting])
        except BaseException:  # Ctrl-C: whoever waits for this commit must not wait for ever
            for waiting in batch:
                waiting.result = waiting.result or StoreUnavailable("the commit was interrupted")
            raise

    def _transact(self, batch: list[_Waiting]) -> None:
        leases: dict[int, Lease] = {}
        with (
            writers_turn(self._engine),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            accepted = self._accept(connection, batch, leases)
            if accepted:
                self._write(connection, accepted)
        for waiting in accepted:
            waiting.done(leases.get(id(waiting)))

    def _accept(
        self, connection: Connection, batch: list[_Waiting], leases: dict[int, Lease]
    ) -> list[_Waiting]:
        """Refuse, each by itself, appends whose version, fence or claim does not hold."""
        streams = {w.append.stream.id for w in batch}
        families = {w.append.premise.family for w in batch if w.append.premise}
        versions, entries = _standing(connection, streams, families)
        fences = fences_of(connection, [w.append.fence.key for w in batch if w.append.fence])
        now = max(w.append.at for w in batch)
        taken = take(connection, [w.append.claim for w in batch if w.append.claim], now)
        done = _done_before(connection, batch)
        accepted, used = [], set()
        for waiting in batch:
            append = waiting.append
            once = (append.once.who, append.once.key) if append.once else None
            lease = taken.get((append.claim.key, append.claim.holder)) if append.claim else None
            if once in done:
                waiting.result = Repeated("this was done already, under the same key")
            elif versions[append.stream.id] != append.stream.version:
                waiting.result = _conflict(append)
            elif append.premise and entries[append.premise.family] != append.premise.entries:
                waiting.result = _outdated(append)
            elif append.fence and fences.get(append.fence.key) != append.fence.fence:
                waiting.result = _lost(append.fence.key)
            elif append.claim and lease is None:
                waiting.result = _lost(append.claim.key)
            else:
                versions[append.stream.id] += len(waiting.bodies)
                for family in entries:
                    entries[family] += len(waiting.bodies) if append.stream.id.startswith(family) else 0
                accepted.append(waiting)
                if once:
                    done.add(once)
                if lease:
                    leases[id(waiting)] = lease
                    used.add(lease.key)
        free(connection, [lease for lease in taken.values() if lease.key not in used])
        return accepted

    def _write(self, connection: Connection, accepted: list[_Waiting]) -> None:
        appends = [w.append for w in accepted]
        entries = [
            {
                "stream": w.append.stream.id,
                "seq": w.append.stream.version + offset,
                "body": body,
                "mark": self._marker.of(body),
            }
            for w in accepted
            for offset, body in enumerate(w.bodies)
        ]
        told = [a for a in appends if a.ticket and a.events]
        now = wire(max(a.at for a in appends))
        put(
            connection,
            # first, which PostgreSQL in fact does last: its row is every writer's, and held until the commit
            Into(t.clock, [{"id": 1, "mark": now}], "rise"),
            Into(t.event, entries, queue=t.outbox),
            tickets_to_list((a.ticket for a in told if a.ticket), FIXED),
            # what controllers see in targets shows a ticket to nobody new
            viewers_of(a.ticket for a in told if a.ticket and a.actor.via != "controller"),
            Into(
                t.registry, [_registered(w) for w in accepted if w.bodies and not w.append.ticket], "replace"
            ),
            drifts_to_list(a.drift for a in appends if a.drift and a.events),
            campaigns_to_list(a.campaign for a in appends if a.campaign and a.events),
            *_beside(appends),
            Into(t.token, [token_row(a.token, self._marker) for a in appends if a.token], "replace"),
            *into([a.used for a in appends if a.used]),
        )
        take_back(connection, [a.used for a in appends if a.used])
        if erased := [commitment for a in appends for commitment in a.erased]:
            erase_texts(connection, erased)
        free(connection, [a.fence for a in appends if a.fence and a.release])


def _registered(waiting: _Waiting) -> dict[str, Any]:
    last = waiting.append.events[-1]
    return registry_row(waiting.after, last.kind, encode_data(last))


def _beside(appends: list[Append]) -> Iterator[Into]:
    """What is kept beside the ledger: texts that it commits to, credentials that it never sees, and what was answered."""
    texts = [
        {"commitment": d.commitment, "stream": a.stream.id, "salt": d.salt, "value": d.text}
        for a in appends
        for d in a.texts
    ]
    yield Into(t.text, texts, "replace")
    credentials = [
        {"ticket": a.stream.id, "body": a.credential.body, "until": wire(a.credential.until)}
        for a in appends
        if a.credential
    ]
    yield Into(t.credential, credentials, "replace")
    answered = [
        {
            "who": a.once.who, "key": a.once.key, "request": a.once.request, "ticket": a.stream.id,
            "version": a.stream.version + len(a.events), "sealed": a.once.sealed, "at": wire(a.at),
        }
        for a in appends
        if a.once
    ]  # fmt: skip
    yield Into(t.answered, answered)


def _standing(
    connection: Connection, streams: set[str], families: set[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many entries each of these streams has, and each of these families: one question."""
    dialect = connection.dialect.name
    asking = _asking(dialect, tuple(sorted(families)))
    found = dict.fromkeys((*streams, *families), 0)
    rows: Sequence[Any] = run(connection, asking, {"streams": listed(dialect, [*streams])}).all()
    found |= dict(rows)
    return {name: found[name] for name in streams}, {name: found[name] for name in families}


@cache
def _asking(dialect: str, families: tuple[str, ...]) -> Executable:
    """The last ``seq`` counts the entries of a stream before it. No stream has the name of a family."""
    of_streams = (
        select(t.event.c.stream, func.max(t.event.c.seq) + literal_column("1"))
        .where(one_of(t.event.c.stream, "streams")[dialect])
        .group_by(t.event.c.stream)
    )
    of_families = (
        select(literal_column(f"'{family}'"), counting(dialect, family).scalar_subquery())
        for family in families
    )
    return union_all(of_streams, *of_families) if families else of_streams


def _done_before(connection: Connection, batch: list[_Waiting]) -> set[tuple[str, str] | None]:
    """Which of the keys that these came with are taken. Nobody's key is None."""
    keys = [w.append.once for w in batch if w.append.once]
    if not keys:
        return set()
    rows = connection.execute(_ANSWERED, {"keys": [once.key for once in keys]})
    return {(who, key) for who, key in rows}


def erase_texts(connection: Connection, commitments: Sequence[str]) -> None:
    """Delete texts with their salts, and the unsalted digests of commands that brought some of them."""
    mine = t.text.c.commitment.in_(commitments)
    streams = select(t.text.c.stream).where(mine)
    connection.execute(update(t.answered).where(t.answered.c.ticket.in_(streams)).values(request=ERASED))
    connection.execute(update(t.text).where(mine).values(salt=None, value=None))


def _everybodys(error: Exception) -> bool:
    """Whether the database itself is in trouble, and not one append. A deadlock hits a batch, not its parts."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, SQLAlchemyError)
    deadlock = getattr(error.orig, "sqlstate", None) in {"40P01", "40001"}
    return isinstance(error, OperationalError | InterfaceError) and not deadlock


def _failure(append: Append, error: Exception) -> MunimentError:
    if isinstance(error, IntegrityError):
        return _conflict(append)
    if isinstance(error, MunimentError):
        return error
    if isinstance(error, SQLAlchemyError):
        return unavailable(error)
    failed = StoreUnavailable(f"the store failed unexpectedly: {type(error).__name__}")
    failed.__cause__ = error
    return failed


def _conflict(append: Append) -> Conflict:
    return Conflict(f"{append.stream.id} changed meanwhile", remedy="Read it again, then decide again.")


def _outdated(append: Append) -> Conflict:
    return Conflict(
        f"what the decision on {append.stream.id} rests on changed meanwhile",
        remedy="Read it again, then decide again.",
    )


def _lost(key: str) -> LeaseLost:
    return LeaseLost(f"another worker holds {key}", remedy="Nothing to do: that worker carries on.")


_ANSWERED = select(t.answered.c.who, t.answered.c.key).where(
    t.answered.c.key.in_(bindparam("keys", expanding=True))
)
