"""The event store: reading tickets out of their entries, and leases. Appending is in `appending`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Engine, and_, bindparam, func, or_, select, text

from muniment.core.errors import IntegrityError, Misconfigured, MunimentError
from muniment.core.events import KINDS, Event, RequestSubmitted, decode_data
from muniment.core.instants import parse_instant, wire
from muniment.core.ticket import LIVE, Recorded, Ticket, replay
from muniment.ledger.entry import Entry, decode_entry
from muniment.ledger.merkle import leaf_hash
from muniment.ports import Append, Appended, Claim, Clock, Due, Lease, Stream
from muniment.store import tables as t
from muniment.store.appending import Appender
from muniment.store.clock import RESYNC_SECONDS, StoreClock, system_time
from muniment.store.engine import blob, folded, reading, writing
from muniment.store.families import counting, listing
from muniment.store.leasing import free, take
from muniment.store.marking import Marker

#: folded tickets kept in memory; entries never change, so only newer ones are read again
CACHED = 4096
#: how many ids may be taken and not yet committed
OUT_OF_ORDER = 1024


class SqlStore:
    """`ports.EventStore` on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine, origin: str, marker: Marker, clock: Clock | None = None) -> None:
        """``clock`` replaces the store's own in tests."""
        self.engine, self.origin, self.marker = engine, origin, marker
        self._appender = Appender(engine, origin, marker)
        self._cache: OrderedDict[str, tuple[Stream, Ticket]] = OrderedDict()
        self._cache_lock = threading.Lock()
        self.halted: MunimentError | None = None
        #: told of each ticket that was committed here, before whoever committed it is answered
        self.committed: list[Callable[[Ticket], None]] = []
        self.clock = clock or self._own_clock()

    def _own_clock(self) -> StoreClock:
        clock = (
            StoreClock(self._database_time, resync=RESYNC_SECONDS)
            if self._shared
            else StoreClock(system_time)
        )
        with reading(self.engine) as connection:
            mark = connection.execute(select(t.clock.c.mark)).scalar()
        if mark:
            clock.advance_to(parse_instant(mark))
        return clock

    @property
    def _shared(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def _database_time(self) -> datetime:
        with reading(self.engine) as connection:
            return parse_instant(wire(connection.execute(text("SELECT clock_timestamp()")).scalar_one()))

    # ── reading ──

    def read(self, stream: str) -> tuple[Stream, Ticket | None]:
        """See `ports.EventStore`."""
        known = self.recall(stream)
        with reading(self.engine) as connection:
            rows = connection.execute(
                _SINCE, {"stream": stream, "seq": known[0].version if known else 0}
            ).all()
        if not rows and known is None:
            return Stream(id=stream, version=0, head=None), None
        return self._folded(stream, rows, known)

    def read_many(self, streams: Collection[str]) -> dict[str, tuple[Stream, Ticket]]:
        """See `ports.EventStore`. Asks for versions first, and for entries only where memory is behind."""
        if not streams:
            return {}
        found: dict[str, tuple[Stream, Ticket]] = {}
        with reading(self.engine) as connection:
            last = {
                row.stream: row.last for row in connection.execute(_LAST, {"streams": list(set(streams))})
            }
            behind = []
            for stream, seq in last.items():
                known = self.recall(stream)
                if known and known[0].version - 1 == seq:
                    found[stream] = known
                else:
                    behind.append(stream)
            rows = connection.execute(_ALL_OF, {"streams": behind}).all() if behind else []
        for stream, entries in groupby(rows, key=lambda row: str(row.stream)):
            state, ticket = self._folded(stream, list(entries), None)
            if ticket is not None:
                found[stream] = (state, ticket)
        return found

    def entries(self, stream: str) -> list[Recorded]:
        """Every event of a stream, checked, for those who want to see them one by one."""
        with reading(self.engine) as connection:
            rows = connection.execute(_SINCE, {"stream": stream, "seq": 0}).all()
        return self.checked(Stream(id=stream, version=0, head=None), rows)[1]

    def further(self, state: Stream) -> tuple[Stream, list[Recorded]]:
        """What was recorded in a stream since it was read, checked, and where it stands by that."""
        with reading(self.engine) as connection:
            rows = connection.execute(_SINCE, {"stream": state.id, "seq": state.version}).all()
        return self.checked(state, rows)

    def whole(self, streams: Collection[str]) -> dict[str, tuple[Stream, list[Recorded]]]:
        """Where streams of any kind stand, with all their events, checked; those that have none are left out.

        Of one view: what is decided by these events can be appended where the stream stands.
        """
        with reading(self.engine) as connection:
            rows = connection.execute(_ALL_OF, {"streams": list(streams)}).all()
        return {
            stream: self.checked(Stream(id=stream, version=0, head=None), list(entries))
            for stream, entries in groupby(rows, key=lambda row: str(row.stream))
        }

    def last(self, streams: Collection[str]) -> dict[str, tuple[Stream, Entry]]:
        """Where streams of any kind stand, and their last entries; checked from their beginnings."""
        with reading(self.engine) as connection:
            rows = connection.execute(_ALL_OF, {"streams": list(streams)}).all()
        found = {}
        for stream, entries in groupby(rows, key=lambda row: str(row.stream)):
            whole = list(entries)
            state, _ = self.checked(Stream(id=stream, version=0, head=None), whole)
            found[stream] = (state, decode_entry(blob(whole[-1].body)))
        return found

    def version(self, stream: str) -> int:
        """How many entries a stream has."""
        with reading(self.engine) as connection:
            last = connection.execute(_NEWEST, {"stream": stream}).scalar()
        return 0 if last is None else int(last) + 1

    def count(self, family: str) -> int:
        """How many entries the streams have, together, whose names begin so; see `ports.Premise`."""
        with reading(self.engine) as connection:
            return int(connection.execute(counting(connection.dialect.name, family)).scalar_one())

    def family(self, family: str) -> dict[str, int]:
        """How many entries each of these streams has."""
        with reading(self.engine) as connection:
            rows = connection.execute(listing(connection.dialect.name, family))
            return {stream: last + 1 for stream, last in rows}

    def recall(self, stream: str) -> tuple[Stream, Ticket] | None:
        """A ticket as memory holds it, checked when it was read; perhaps behind, which an append finds out."""
        with self._cache_lock:
            return self._cache.get(stream)

    def _remember(self, state: Stream, ticket: Ticket) -> None:
        """Call it with the lock."""
        self._cache[state.id] = (state, ticket)
        self._cache.move_to_end(state.id)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    def _folded(
        self, stream: str, rows: Sequence[Any], known: tuple[Stream, Ticket] | None
    ) -> tuple[Stream, Ticket | None]:
        state, before = known or (Stream(id=stream, version=0, head=None), None)
        state, recorded = self.checked(state, rows)
        if before is None and recorded and not isinstance(recorded[0].event, RequestSubmitted):
            if type(recorded[0].event) is Event:
                raise Misconfigured(
                    f"{stream} was filed by a newer Muniment", remedy="Install that version to read it."
                )
            return state, None  # an identity, a target, the policy set: on record, and no ticket
        ticket = replay(stream, recorded, before)
        if ticket is None:
            raise IntegrityError(f"{stream} is empty", remedy="Run `muniment ledger verify`.")
        with self._cache_lock:
            self._remember(state, ticket)
        return state, ticket

    def checked(self, state: Stream, rows: Iterable[Any]) -> tuple[Stream, list[Recorded]]:
        """Decode rows of entries that continue ``state``; refuse any that we did not write there (I11).

        Raises:
            IntegrityError: one is foreign, or stands elsewhere.
        """
        recorded = []
        version, head = state.version, state.head
        for row in rows:
            body, mark = blob(row.body), blob(row.mark)
            if not self.marker.holds(body, mark):
                raise _foreign(state.id, row.seq, "it was not written by Muniment")
            entry = decode_entry(body)
            place = (entry.ticket, entry.seq, entry.prev, entry.log)
            if place != (state.id, version, head, self.origin) or row.seq != version:
                raise _foreign(state.id, row.seq, "it does not continue its chain")
            recorded.append(
                Recorded(
                    seq=entry.seq, at=entry.at, actor=entry.actor.id, via=entry.actor.via,
                    event=decode_data(entry.type, entry.data) if entry.type in KINDS else Event(),
                )
            )  # fmt: skip
            version, head = version + 1, "sha256:" + leaf_hash(body).hex()
        return Stream(id=state.id, version=version, head=head), recorded

    def marked_by_us(self) -> bool:
        """Whether the first or the last entry carries our mark; so if there is none. Otherwise our key is another."""
        first, last = select(func.min(t.event.c.id)), select(func.max(t.event.c.id))
        ends = or_(t.event.c.id == first.scalar_subquery(), t.event.c.id == last.scalar_subquery())
        with reading(self.engine) as connection:
            rows = connection.execute(select(t.event.c.body, t.event.c.mark).where(ends)).all()
        return not rows or any(self.marker.holds(blob(row.body), blob(row.mark)) for row in rows)

    # ── what others wrote ──

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless the store answers."""
        with reading(self.engine) as connection:
            connection.execute(select(t.clock.c.mark)).scalar()

    def last_entry(self) -> int:
        """A mark to ask `written_since` with."""
        with reading(self.engine) as connection:
            return int(connection.execute(select(func.max(t.event.c.id))).scalar() or 0)

    def written_since(self, mark: int) -> tuple[int, list[str]]:
        """Streams written since, perhaps again, and the next mark.

        Ids commit out of order: an older one may show up after a newer one, so some are looked at once more.
        """
        query = select(t.event.c.id, t.event.c.stream).where(t.event.c.id > mark - OUT_OF_ORDER)
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return max((row.id for row in rows), default=mark), sorted({row.stream for row in rows})

    def count_tickets(self) -> int:
        """How many tickets there are."""
        with reading(self.engine) as connection:
            return int(connection.execute(select(func.count()).select_from(t.ticket)).scalar_one())

    # ── appending ──

    def halt(self, why: MunimentError) -> None:
        """Append nothing more in this process (I26). Reading goes on, and leases: what is over is still taken away."""
        self.halted = self.halted or why

    def resume(self) -> None:
        """What halted it is mended. Nothing that was read before counts."""
        self.halted = None
        with self._cache_lock:
            self._cache.clear()

    def append(self, append: Append) -> Appended:
        """See `ports.EventStore`."""
        result = self._append([append], patient=True)[0]
        if isinstance(result, MunimentError):
            raise result
        return result

    def append_many(self, appends: Sequence[Append]) -> list[Appended | MunimentError]:
        """See `ports.EventStore`."""
        return self._append(appends, patient=False)

    def _append(self, appends: Sequence[Append], *, patient: bool) -> list[Appended | MunimentError]:
        if self.halted is not None:
            return [self.halted] * len(appends)
        results = self._appender.append_many(appends, patient=patient)
        with self._cache_lock:
            for append, result in zip(appends, results, strict=True):
                if isinstance(result, Appended) and append.ticket:
                    self._remember(result.stream, append.ticket)
                else:
                    self._cache.pop(append.stream.id, None)
        for append, result in zip(appends, results, strict=True):
            if isinstance(result, Appended) and append.ticket and append.events:
                for listener in self.committed:
                    listener(append.ticket)
        return results

    # ── leases and due work ──

    def claim(self, claims: Sequence[Claim]) -> dict[str, Lease]:
        """See `ports.EventStore`."""
        with writing(self.engine) as connection:
            taken = take(connection, claims, self.clock.now())
        return {lease.key: lease for lease in taken.values()}

    def release(self, leases: Sequence[Lease]) -> None:
        """See `ports.EventStore`."""
        if leases:
            with writing(self.engine) as connection:
                free(connection, leases)

    def confirm(self, leases: Sequence[Lease]) -> bool:
        """Whether all of these are still ours, now."""
        held = self._held([lease.key for lease in leases])
        return all(held.get(lease.key) == lease.fence for lease in leases)

    def leased(self, keys: Collection[str]) -> set[str]:
        """See `ports.EventStore`."""
        return set(self._held(keys))

    def _held(self, keys: Collection[str]) -> dict[str, int]:
        """Which of these somebody has leased now, under which fence."""
        with reading(self.engine) as connection:
            rows = connection.execute(_HELD, {"keys": list(keys), "now": wire(self.clock.now())})
            return {row.key: row.fence for row in rows}

    def due(self, until: datetime, limit: int, after: Due | None = None) -> list[Due]:
        """See `ports.EventStore`."""
        behind = {"at": wire(after.at), "id": after.ticket} if after else {}
        with reading(self.engine) as connection:
            query = _DUE_BEHIND if after else _DUE
            rows = connection.execute(query, {"until": wire(until), "limit": limit, **behind}).all()
        return [
            Due(ticket=r.id, target=r.target, account=r.account, action=r.action, at=parse_instant(r.due_at))
            for r in rows
        ]

    def sharing(self, accounts: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Ticket]]:
        """See `ports.EventStore`. Which tickets is asked of the read model; their state comes from the entries."""
        if not accounts:
            return {}
        wanted = set(accounts)
        with reading(self.engine) as connection:
            rows = connection.execute(_ON_ACCOUNTS, {"accounts": [account for _, account in wanted]}).all()
        ids = [row.id for row in rows if (row.target, row.account) in wanted]
        found: dict[tuple[str, str], list[Ticket]] = {}
        for _, ticket in self.read_many(ids).values():
            if ticket.status in LIVE:
                found.setdefault((ticket.terms.target, ticket.terms.account), []).append(ticket)
        return found


def decode_state(state: bytes) -> Ticket:
    """Read a ticket's folded state from the read model."""
    return folded(_decode_ticket, state)


def _foreign(stream: str, seq: int, why: str) -> IntegrityError:
    return IntegrityError(
        f"entry {seq} of {stream} cannot be trusted: {why}",
        remedy="Nothing is granted on it. Run `muniment ledger verify` and keep the database as it is.",
    )


_decode_ticket = msgspec.json.Decoder(Ticket).decode
_COLUMNS = (t.event.c.stream, t.event.c.seq, t.event.c.body, t.event.c.mark)
_SINCE = (
    select(*_COLUMNS)
    .where(t.event.c.stream == bindparam("stream"), t.event.c.seq >= bindparam("seq"))
    .order_by(t.event.c.seq)
)
_NEWEST = (
    select(t.event.c.seq)
    .where(t.event.c.stream == bindparam("stream"))
    .order_by(t.event.c.seq.desc())
    .limit(1)
)
_LAST = (
    select(t.event.c.stream, func.max(t.event.c.seq).label("last"))
    .where(t.event.c.stream.in_(bindparam("streams", expanding=True)))
    .group_by(t.event.c.stream)
)
_ALL_OF = (
    select(*_COLUMNS)
    .where(t.event.c.stream.in_(bindparam("streams", expanding=True)))
    .order_by(t.event.c.stream, t.event.c.seq)
)
_HELD = select(t.lease.c.key, t.lease.c.fence).where(
    t.lease.c.key.in_(bindparam("keys", expanding=True)), t.lease.c.until > bindparam("now")
)
_DUE = (
    select(t.ticket.c.id, t.ticket.c.target, t.ticket.c.account, t.ticket.c.action, t.ticket.c.due_at)
    .where(t.ticket.c.due_at <= bindparam("until"))
    .order_by(t.ticket.c.due_at, t.ticket.c.id)
    .limit(bindparam("limit"))
)
_DUE_BEHIND = _DUE.where(
    or_(
        t.ticket.c.due_at > bindparam("at"),
        and_(t.ticket.c.due_at == bindparam("at"), t.ticket.c.id > bindparam("id")),
    )
)
_ON_ACCOUNTS = select(t.ticket.c.id, t.ticket.c.target, t.ticket.c.account).where(
    t.ticket.c.account.in_(bindparam("accounts", expanding=True)), t.ticket.c.status.in_(sorted(LIVE))
)
