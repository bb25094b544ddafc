"""Looking: lists of tickets, texts beside the ledger, credentials to collect. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    union,
    union_all,
)

from muniment.core.errors import IntegrityError
from muniment.core.events import Event, IdentityDeactivated, decode_data
from muniment.core.instants import parse_instant, wire
from muniment.core.ticket import ENDS, LIVE, STATUSES, Status, Ticket
from muniment.ledger.entry import decode_entry
from muniment.ledger.errors import LedgerFault
from muniment.ports import Stream
from muniment.store import tables as t
from muniment.store.engine import blob, reading, writing
from muniment.store.events import decode_state
from muniment.store.projecting import incident_key
from muniment.store.rows import listed, one_of, run

#: more than anybody reads; longer lists are asked for page by page
PAGE = 1000
#: tickets by which it is said how long something usually takes, and fewer say nothing
RECENT, FEW = 60, 3
#: tickets that are many for one person to see
MANY = 2000
#: people in one question to the database
CHUNK = 500
#: after whatever else a name may go on with
LAST_CHARACTER = "\U0010ffff"
_OPEN: tuple[Status, ...] = ("pending", "approved", "provisioning", "active")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tickets. Every field narrows; an empty one does not."""

    statuses: tuple[Status, ...] = ()
    requester: str | None = None
    beneficiary: str | None = None
    target: str | None = None
    involving: str | None = None  # requester or beneficiary
    concerning: frozenset[str] | None = (
        None  # seen by these, and theirs or a machine's: whoever answers for it sees it
    )
    seen_by: frozenset[str] | None = None  # keys (`core.visibility`); None: by everybody
    with_findings: bool = False
    waiting: bool = False  # for somebody's decision, or for somebody to look back on it
    before: str | None = None  # the id that ended the last page; newest first
    limit: int = 100


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What a command with a key did."""

    request: str
    ticket: str
    version: int
    sealed: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers for whoever watches."""

    open: dict[Status, int]  # tickets by status, those that have not ended
    oldest_pending: datetime | None
    findings: int


class SqlViews:
    """Read models."""

    def __init__(self, engine: Engine) -> None:
        """Share the store's engine."""
        self._engine = engine

    def tickets(self, wanted: Filter) -> list[Ticket]:
        """Tickets newest first, as last folded."""
        with reading(self._engine) as connection:
            rows = connection.execute(_narrowed(connection, select(t.ticket.c.state), wanted))
            return [decode_state(blob(state)) for (state,) in rows]

    def ids(self, wanted: Filter) -> list[str]:
        """Their ids, for whoever goes by their entries alone."""
        with reading(self._engine) as connection:
            return list(connection.execute(_narrowed(connection, select(t.ticket.c.id), wanted)).scalars())

    def tickets_of(self, ids: Collection[str]) -> dict[str, Ticket]:
        """These tickets, as last folded."""
        query = select(t.ticket.c.id, t.ticket.c.state).where(t.ticket.c.id.in_(ids))
        with reading(self._engine) as connection:
            return {ticket: decode_state(blob(state)) for ticket, state in connection.execute(query)}

    def filed_between(
        self, first: str, last: str | None, *, target: str | None, kind: str | None, status: Status | None
    ) -> list[str]:
        """Ids from ``first`` on and before ``last``, which sort by the time of filing. As one text: rows cost far more."""
        c = t.ticket.c
        query = select(c.id).where(c.id >= first).order_by(c.id)
        if last is not None:
            query = query.where(c.id < last)
        for column, value in ((c.target, target), (c.kind, kind), (c.status, status)):
            if value is not None:
                query = query.where(column == value)
        whole = select(func.aggregate_strings(query.subquery().c.id, " "))
        with reading(self._engine) as connection:
            return sorted((connection.execute(whole).scalar() or "").split())

    def times(self, first: str, last: str | None) -> Sequence[tuple[str, int | None, int | None]]:
        """Kind, and seconds until decided and until gone, of tickets from ``first`` on and before ``last``."""
        c = t.ticket.c
        query = select(c.kind, c.decided_after, c.gone_after).where(c.id >= first)
        if last is not None:
            query = query.where(c.id < last)
        with reading(self._engine) as connection:
            return [tuple(row) for row in connection.execute(query)]

    def usual_wait(self, target: str) -> int | None:
        """Seconds within which half of the last requests on a target were decided; None where too few were."""
        c = t.ticket.c
        last = select(c.id).where(c.target == target).order_by(c.id.desc()).limit(RECENT).subquery()
        query = select(c.decided_after).where(c.id.in_(select(last.c.id)), c.decided_after.is_not(None))
        with reading(self._engine) as connection:
            found = sorted(connection.execute(query).scalars())
        return found[len(found) // 2] if len(found) >= FEW else None

    def answered(self, who: str, key: str) -> Answered | None:
        """What was done under somebody's key before."""
        c = t.answered.c
        query = select(c.request, c.ticket, c.version, c.sealed).where(c.who == who, c.key == key)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Answered(**row._mapping)  # noqa: SLF001  public, in spite of its name

    def forget_answered(self, before: datetime) -> None:
        """Delete keys that nobody asks with again."""
        with writing(self._engine) as connection:
            connection.execute(delete(t.answered).where(t.answered.c.at < wire(before)))

    def ticket(self, ticket: str) -> Ticket | None:
        """One ticket, as last folded."""
        with reading(self._engine) as connection:
            state = connection.execute(select(t.ticket.c.state).where(t.ticket.c.id == ticket)).scalar()
        return None if state is None else decode_state(blob(state))

    def unsealed(self, streams: Collection[str]) -> dict[str, int]:
        """How many entries of each stream the ledger has not taken up yet."""
        return self.beside(streams, ())[0]

    def beside(
        self, streams: Collection[str], commitments: Iterable[str]
    ) -> tuple[dict[str, int], dict[str, str]]:
        """What `unsealed` and `texts` say, in one question: every answer about a ticket has both."""
        with reading(self._engine) as connection:
            dialect = connection.dialect.name
            wanted = {
                "streams": listed(dialect, list(streams)), "commitments": listed(dialect, list(set(commitments)))
            }  # fmt: skip
            rows: Sequence[Any] = run(connection, _BESIDE[dialect], wanted).all()
        waiting = {name: count for name, count, _ in rows if count is not None}
        return waiting, {name: value for name, count, value in rows if count is None and value is not None}

    def texts(self, commitments: Iterable[str]) -> dict[str, str]:
        """The texts behind commitments; an erased one is missing."""
        wanted = set(commitments)
        return self.beside((), wanted)[1] if wanted else {}

    def disclosures(self, commitments: Iterable[str]) -> dict[str, tuple[bytes, str]]:
        """Salts and texts behind commitments, for whoever is to check them; an erased one is missing."""
        wanted = list(set(commitments))
        if not wanted:
            return {}
        query = select(t.text.c.commitment, t.text.c.salt, t.text.c.value).where(
            t.text.c.commitment.in_(wanted)
        )
        with reading(self._engine) as connection:
            return {
                commitment: (blob(salt), value)
                for commitment, salt, value in connection.execute(query)
                if salt is not None and value is not None
            }

    def take_credential(self, ticket: str, now: datetime) -> bytes | None:
        """Hand a credential out, once: it is deleted in the same transaction."""
        query = (
            delete(t.credential)
            .where(and_(t.credential.c.ticket == ticket, t.credential.c.until > wire(now)))
            .returning(t.credential.c.body)
        )
        with writing(self._engine) as connection:
            body = connection.execute(query).scalar()
        return None if body is None else bytes(body)

    def drop_stale_credentials(self, now: datetime) -> None:
        """Delete credentials that nobody collected and that are of no more use."""
        with writing(self._engine) as connection:
            connection.execute(delete(t.credential).where(t.credential.c.until <= wire(now)))

    def due_between(self, after: datetime, until: datetime) -> dict[str, int]:
        """By target, how many grants end in that time."""
        with reading(self._engine) as connection:
            rows = connection.execute(_ENDING, {"after": wire(after), "until": wire(until)})
            return {target: int(count) for target, count in rows}

    def debts(self, now: datetime) -> dict[str, tuple[int, float]]:
        """By target, how many tickets' access is over and not seen gone, and for how many seconds the oldest."""
        with reading(self._engine) as connection:
            rows = connection.execute(_DEBTS, {"now": wire(now)}).all()
        return {
            target: (count, max(0.0, (now - parse_instant(first)).total_seconds()))
            for target, count, first in rows
        }

    def figures(self) -> Figures:
        """What is open, overdue and to be looked at."""
        c = t.ticket.c
        with reading(self._engine) as connection:
            statuses = connection.execute(
                select(c.status, func.count())
                .where(c.status.in_(sorted(set(STATUSES) - ENDS)))
                .group_by(c.status)
            ).all()
            oldest = connection.execute(
                select(c.state).where(c.status == "pending").order_by(c.id).limit(1)
            ).scalar()
            findings = connection.execute(
                select(func.coalesce(func.sum(c.open_findings), 0)).where(c.open_findings > 0)
            ).scalar_one()
            drift = connection.execute(
                select(func.count()).where(t.drift.c.status.in_(("open", "explained")))
            ).scalar_one()
        return Figures(
            open=dict.fromkeys(sorted(set(STATUSES) - ENDS), 0) | dict(statuses),
            oldest_pending=parse_instant(decode_state(blob(oldest)).filed_at) if oldest is not None else None,
            findings=int(findings) + int(drift),
        )

    def not_begun(self, before: datetime) -> bool:
        """Whether access that was over by then is still nobody's work: no attempt to take it away is on record."""
        with reading(self._engine) as connection:
            return connection.execute(_NOT_BEGUN, {"before": wire(before)}).first() is not None

    def registered(self, prefix: str) -> dict[str, tuple[Stream, Event]]:
        """The last recorded event of each registry stream that begins with ``prefix``."""
        wanted = {"prefix": prefix, "past": prefix + LAST_CHARACTER}
        with reading(self._engine) as connection:
            rows = connection.execute(_registered(connection.dialect.name), wanted)
            return _read_registered(rows)

    def registered_of(self, streams: Collection[str]) -> dict[str, tuple[Stream, Event]]:
        """The last recorded event of each of these registry streams; those that are not there are left out."""
        found, order = dict[str, tuple[Stream, Event]](), sorted(streams)
        with reading(self._engine) as connection:
            for start in range(0, len(order), CHUNK):
                mine = t.registry.c.stream.in_(order[start : start + CHUNK])
                found |= _read_registered(connection.execute(select(t.registry).where(mine)))
        return found

    def deactivated(self) -> set[str]:
        """Identities that were recorded as gone from the directory."""
        start = "identity:"
        query = select(t.registry.c.stream).where(
            t.registry.c.kind == IdentityDeactivated.kind,
            t.registry.c.stream.startswith(start, autoescape=True),
        )
        with reading(self._engine) as connection:
            return {stream.removeprefix(start) for (stream,) in connection.execute(query)}

    def open_of(self, people: Collection[str]) -> set[str]:
        """Tickets that wait or give access, with one of these as requester or beneficiary."""
        c, found, order = t.ticket.c, set[str](), sorted(people)
        with reading(self._engine) as connection:
            for start in range(0, len(order), CHUNK):
                for column in (c.requester, c.beneficiary):  # each by its own index
                    some = column.in_(order[start : start + CHUNK])
                    query = select(c.id).where(some, c.status.in_(_OPEN))
                    found.update(ticket for (ticket,) in connection.execute(query))
        return found

    def filed_since(self, requester: str, since: str) -> list[str]:
        """When somebody filed tickets whose id is ``since`` or later, oldest first: ids sort by time."""
        c = t.ticket.c
        query = select(c.state).where(c.requester == requester, c.id >= since).order_by(c.id)
        with reading(self._engine) as connection:
            return [decode_state(blob(state)).filed_at for (state,) in connection.execute(query)]

    def held_by(self, beneficiary: str) -> list[Ticket]:
        """Tickets for somebody that wait, or may give access."""
        c = t.ticket.c
        wanted = c.status.in_((*_OPEN, "revoking"))
        with reading(self._engine) as connection:
            rows = connection.execute(select(c.state).where(c.beneficiary == beneficiary, wanted))
            return [decode_state(blob(state)) for (state,) in rows]

    def on_incident(self, incident: str) -> list[Ticket]:
        """Tickets that broke glass for an incident."""
        mine = select(t.viewer.c.ticket).where(t.viewer.c.who == incident_key(incident))
        with reading(self._engine) as connection:
            rows = connection.execute(select(t.ticket.c.state).where(t.ticket.c.id.in_(mine)))
            return [decode_state(blob(state)) for (state,) in rows]

    def live_targets(self) -> set[str]:
        """Targets that hold, or may hold, something for a ticket."""
        query = select(t.ticket.c.target).where(t.ticket.c.status.in_(sorted(LIVE))).distinct()
        with reading(self._engine) as connection:
            return {target for (target,) in connection.execute(query)}

    def oldest_unsealed(self) -> datetime | None:
        """When the oldest entry that waits for the ledger's sequencer was written, or None."""
        oldest = select(func.min(t.outbox.c.event_id)).scalar_subquery()
        query = select(t.event.c.body).where(t.event.c.id == oldest)
        with reading(self._engine) as connection:
            body = connection.execute(query).scalar()
        return None if body is None else parse_instant(_decode_at(blob(body)))


def _narrowed(connection: Connection, query: Select[Any], wanted: Filter) -> Select[Any]:
    """What is rare is found by its index, and then put in order: else a database may walk through all tickets in order."""
    c = t.ticket.c
    query = query.order_by(c.id.desc()).limit(min(wanted.limit, PAGE))
    for column, value in (
        (c.requester, wanted.requester),
        (c.beneficiary, wanted.beneficiary),
        (c.target, wanted.target),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.statuses:
        some = c.status.in_(wanted.statuses)
        open_ = ENDS.isdisjoint(wanted.statuses)
        query = query.where(c.id.in_(select(c.id).where(some)) if open_ else some)
    if wanted.involving is not None:
        query = query.where(or_(c.requester == wanted.involving, c.beneficiary == wanted.involving))
    if wanted.seen_by is not None:
        query = query.where(_seen_by(connection, wanted.seen_by))
    if wanted.concerning is not None:
        query = query.where(c.id.in_(_concerning(connection, wanted.concerning)))
    if wanted.with_findings:
        query = query.where(c.id.in_(_found()))
    if wanted.waiting:
        # of what gives access now, only a broken glass waits, and it has its finding until then
        live = _found().where(c.status.in_(sorted(LIVE)))
        query = query.where(c.id.in_(union(select(c.id).where(c.status.in_(("pending", "revoked"))), live)))
    if wanted.before is not None:
        query = query.where(c.id < wanted.before)
    return query


def _found() -> Select[Any]:
    """Tickets with something to be looked at."""
    return select(t.ticket.c.id).where(t.ticket.c.open_findings > 0)


def _concerning(connection: Connection, who: frozenset[str]) -> CompoundSelect[Any]:
    """Tickets of these people, and of machines that they see: whoever answers for one sees its tickets."""
    c = t.ticket.c
    sqlite = connection.dialect.name == "sqlite"
    seen = _seen_by(connection, who)
    parts = []
    for column in (c.requester, c.beneficiary):
        # SQLite finds them by the index as a range; PostgreSQL's order is the locale's
        machine = or_(column < "human:", column >= "human;") if sqlite else ~column.startswith("human:")
        parts += [select(c.id).where(column.in_(who)), select(c.id).where(machine, seen)]
    return union(*parts)


def _seen_by(connection: Connection, keys: frozenset[str]) -> ColumnElement[bool]:
    """Tickets with one of these keys. Whoever sees few has them looked up; of whoever sees many, tickets are asked one by one."""
    mine = t.viewer.c.who.in_(keys)
    some = select(t.viewer.c.ticket).where(mine).limit(MANY).subquery()
    count: int = connection.execute(select(func.count()).select_from(some)).scalar_one()
    if count < MANY:
        return t.ticket.c.id.in_(select(t.viewer.c.ticket).where(mine))
    return exists().where(mine, t.viewer.c.ticket == t.ticket.c.id)


def _decode_at(body: bytes) -> str:
    try:
        return decode_entry(body).at
    except LedgerFault as fault:
        raise IntegrityError(
            f"an entry that waits is damaged: {fault}", remedy="Run `muniment ledger verify`."
        ) from fault


def _read_registered(rows: Iterable[Any]) -> dict[str, tuple[Stream, Event]]:
    return {
        r.stream: (
            Stream(id=r.stream, version=r.version, head=r.head),
            _decode_registered(r.kind, blob(r.data)),
        )
        for r in rows
    }


def _decode_registered(kind: str, data: bytes) -> Event:
    try:
        return decode_data(kind, data)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"the registry holds a damaged {kind!r:.60}",
            remedy="Run `muniment ledger verify`, and keep the database as it is.",
        ) from error


@cache
def _registered(dialect: str) -> Select[Any]:
    """SQLite finds a prefix by its index as a range; PostgreSQL's order is the locale's."""
    stream = t.registry.c.stream
    if dialect == "sqlite":
        return select(t.registry).where(stream >= bindparam("prefix"), stream < bindparam("past"))
    return select(t.registry).where(func.starts_with(stream, bindparam("prefix")))


_TAKING = ("expire", "revoke")
_DEBTS = (
    select(t.ticket.c.target, func.count(), func.min(t.ticket.c.due_at))
    .where(t.ticket.c.due_at <= bindparam("now"), t.ticket.c.action.in_(_TAKING))
    .group_by(t.ticket.c.target)
)
_ENDING = (
    select(t.ticket.c.target, func.count())
    .where(
        t.ticket.c.due_at > bindparam("after"),
        t.ticket.c.due_at <= bindparam("until"),
        t.ticket.c.action == "expire",
    )
    .group_by(t.ticket.c.target)
)
_NOT_BEGUN = (
    select(t.ticket.c.id)
    .where(
        t.ticket.c.due_at <= bindparam("before"),
        t.ticket.c.action.in_(_TAKING),
        t.ticket.c.status == "active",
    )
    .limit(1)
)
_BESIDE = {
    dialect: union_all(
        select(t.event.c.stream, func.count(), null())
        .join(t.outbox, t.outbox.c.event_id == t.event.c.id)
        .where(of_streams)
        .group_by(t.event.c.stream),
        select(t.text.c.commitment, null(), t.text.c.value).where(
            one_of(t.text.c.commitment, "commitments")[dialect]
        ),
    )
    for dialect, of_streams in one_of(t.event.c.stream, "streams").items()
}
