"""Telling others what happened: entries of the ledger to sinks, each at least once, in the background.

    leaves ──look──> deliveries ──send──> arrived, or again later, or given up

Nothing here is part of a command: a sink that is away delays nobody. What is sent is made from the entry whenever it
is sent, so that a retry, or a replay years later, says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog

from muniment.core.errors import Invalid, MunimentError, NotFound, Unavailable
from muniment.core.instants import wire
from muniment.core.ticket import Ticket
from muniment.ledger.entry import Entry, decode_entry
from muniment.ports import Claim, Random
from muniment.service.desk import Desk
from muniment.store.delivering import Delivery, Progress, SqlDeliveries

#: pauses between attempts; after the last one it is given up. Two and a half days in all
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 60, 300, 1800, 7200, 18000, 36000, 50400, 50400, 50400)
)
#: the longest pause that a sink may ask for
LONGEST = timedelta(days=1)
#: leaves looked at together
LOOK = 1000
#: sent before the lease is taken again
SEND = 50
#: entries that may be sent again by one command
REPLAY = 10_000
LEASE_SECONDS = 120

log = structlog.get_logger("muniment.sending")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One entry, with the ticket that it is about as it stands now."""

    index: int
    entry: Entry
    ticket: Ticket | None


class Later(Unavailable):
    """It did not arrive, and may if it is sent again."""

    code = "unavailable.sink"

    def __init__(self, message: str, *, after: timedelta | None = None) -> None:
        """``after``: the sink says when."""
        super().__init__(message, remedy="It is sent again by itself.")
        self.after = after


class Never(MunimentError):
    """It cannot arrive, however often it is sent; ``closed``: nothing can, until somebody opens the sink again."""

    code = "sink.refused"

    def __init__(self, message: str, *, closed: bool = False) -> None:
        super().__init__(message, remedy="See `muniment deliveries`.")
        self.closed = closed


class Sink(Protocol):
    """Somewhere that entries are told to."""

    @property
    def name(self) -> str:
        """Its own, for ever: how far it is, is kept under it."""

    @property
    def pushed(self) -> bool:
        """Whether we send. Otherwise whoever it is fetches."""

    def wants(self, message: Message) -> bool:
        """Whether an entry is for it."""

    def send(self, message: Message, now: datetime) -> None:
        """Send it. Raises `Later` or `Never`; anything else counts as `Later`."""


def look(desk: Desk, deliveries: SqlDeliveries, sink: Sink) -> bool:
    """Look at leaves that came since; return whether there may be more. A new sink begins with what comes now."""
    size, progress = desk.ledger.head().size, deliveries.progress(sink.name)
    if progress is None:
        deliveries.begin(sink.name, size)
        return False
    upto = min(size, progress.next + LOOK)
    if progress.closed is not None or upto <= progress.next:
        return False
    wanted = range(progress.next, upto)
    found = [each.index for each in messages(desk, wanted) if sink.wants(each)]
    deliveries.move(sink.name, progress.next, upto, found, desk.clock.now())
    return upto < size


def send(desk: Desk, deliveries: SqlDeliveries, sink: Sink, holder: str) -> int:
    """Send what is due, in the ledger's order; return how much arrived. Of several nodes one does it at a time."""
    progress = deliveries.progress(sink.name)
    if not sink.pushed or progress is None or progress.closed is not None:
        return 0
    due = deliveries.due(sink.name, desk.clock.now(), SEND)
    if not due:
        return 0
    key = f"sink {sink.name}"
    lease = desk.store.claim([Claim(key=key, holder=holder, seconds=LEASE_SECONDS)]).get(key)
    if lease is None:
        return 0
    try:
        return _send(desk, deliveries, sink, due)
    finally:
        desk.store.release([lease])


def _send(desk: Desk, deliveries: SqlDeliveries, sink: Sink, due: Sequence[Delivery]) -> int:
    arrived: list[int] = []
    found = {each.index: each for each in messages(desk, [each.index for each in due])}
    for each in due:
        now = desk.clock.now()
        try:
            if each.index in found:
                sink.send(found[each.index], now)
        except Never as error:
            deliveries.failed(sink.name, each.index, error.message, None)
            log.error("not delivered", sink=sink.name, index=each.index, error=error.message)  # noqa: TRY400  ours
            if error.closed:
                deliveries.close(sink.name, error.message)
                break
        except MunimentError as error:
            again = next_attempt(each.attempts, now, desk.random, getattr(error, "after", None))
            deliveries.failed(sink.name, each.index, error.message, again)
            log.warning(
                "not delivered yet" if again else "not delivered, and given up", sink=sink.name, index=each.index,
                error=error.message, attempts=each.attempts + 1,
            )  # fmt: skip
            break  # whoever did not answer this one answers the next one no sooner
        else:
            arrived.append(each.index)
    deliveries.arrived(sink.name, arrived)
    return len(arrived)


def next_attempt(
    attempts: int, now: datetime, random: Random, asked: timedelta | None = None
) -> datetime | None:
    """When to try again after so many attempts that failed before; None: never. With jitter of up to a fifth."""
    if attempts >= len(PAUSES):
        return None
    pause = max(PAUSES[attempts], min(asked or timedelta(0), LONGEST))
    return now + pause + pause * int.from_bytes(random.bytes(2)) // (5 * 65536)


def messages(desk: Desk, indexes: Sequence[int]) -> list[Message]:
    """The entries at these leaves, in order, with their tickets."""
    entries = {index: decode_entry(raw) for index, raw in sorted(desk.ledger.bodies(indexes).items())}
    tickets = desk.store.read_many({e.ticket for e in entries.values() if e.ticket.startswith("req_")})
    return [
        Message(
            index=index, entry=entry, ticket=tickets[entry.ticket][1] if entry.ticket in tickets else None
        )
        for index, entry in entries.items()
    ]


# ── what operators do ──


def states(desk: Desk, sinks: Sequence[Sink]) -> list[tuple[Sink, Progress | None]]:
    """How far each is."""
    deliveries = SqlDeliveries(desk.store.engine)
    return [(sink, deliveries.progress(sink.name)) for sink in sinks]


def document(found: Sequence[tuple[Sink, Progress | None]]) -> dict[str, Any]:
    """As scripts read it."""
    return {
        "items": [
            {
                "sink": sink.name, "next": at.next if at else None, "waiting": at.waiting if at else 0,
                "lost": at.lost if at else 0, "closed": at.closed if at else None,
            }
            for sink, at in found
        ],
        "next": None,
    }  # fmt: skip


def named(sinks: Sequence[Sink], name: str) -> Sink:
    """One of them."""
    for sink in sinks:
        if sink.name == name:
            return sink
    raise NotFound(f"there is no sink {name!r:.80}", remedy="`muniment deliveries list` shows them.")


def replay(desk: Desk, sink: Sink, *, since: datetime | None, upto: datetime | None) -> dict[str, Any]:
    """Send again what was given up, or everything of a time; go on where the sink was closed."""
    deliveries = SqlDeliveries(desk.store.engine)
    if deliveries.progress(sink.name) is None:
        raise NotFound(f"{sink.name} never began", remedy="It begins when `muniment serve` runs with it.")
    if since is None:
        indexes = [each.index for each in deliveries.lost(sink.name, REPLAY)]
    else:
        indexes = _between(desk, sink, since, upto)
    deliveries.again(sink.name, indexes, desk.clock.now())
    deliveries.close(sink.name, None)
    return {"sink": sink.name, "replayed": len(indexes)}


def _between(desk: Desk, sink: Sink, since: datetime, upto: datetime | None) -> list[int]:
    found: list[int] = []
    start, end, size = wire(since), wire(upto) if upto else None, desk.ledger.head().size
    for first in range(0, size, LOOK):
        page = messages(desk, range(first, min(size, first + LOOK)))
        found += [
            each.index
            for each in page
            if start <= each.entry.at and (end is None or each.entry.at < end) and sink.wants(each)
        ]
        if len(found) > REPLAY:
            raise Invalid(f"that is more than {REPLAY} entries", remedy="Name a shorter time.")
    return found
