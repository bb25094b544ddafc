"""Who holds what now, in memory: what enforcement points ask, from observed grants alone.

Built from the entries of what the read model lists at the start; from then on told of every ticket by the store
itself, after its commit and before whoever committed is answered. So a check after a revocation was acknowledged never
says yes. What other processes commit is looked for every second.

A check is one look into a dictionary. What is over is over by the clock at that instant, not when somebody cleans up.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec
import structlog

from muniment.core.errors import IntegrityError, MunimentError
from muniment.core.identity import IdentityId
from muniment.core.scope import Privilege
from muniment.core.ticket import Ticket
from muniment.service.desk import Desk
from muniment.store.views import PAGE, Filter

FOLLOW_SECONDS = 1.0
#: what is over is remembered so long, since a read that began before it ended may only come in now
ENDED_SECONDS = 60.0

log = structlog.get_logger("muniment.holding")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One grant of one privilege."""

    ticket: str
    until: datetime


#: beneficiary, target, privilege, resource
Key = tuple[IdentityId, str, str, str | None]


class Holdings:
    """The index. Safe for use by several threads: reads take no lock, and see each change whole."""

    def __init__(self, desk: Desk) -> None:
        """Empty; `start` fills it."""
        self._desk = desk
        self._by_key: dict[Key, tuple[Held, ...]] = {}  # values are replaced, never changed
        self._by_ticket: dict[str, tuple[int, tuple[Key, ...]]] = {}
        self._ended: OrderedDict[str, tuple[float, int]] = (
            OrderedDict()
        )  # when we heard, and its version then
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="muniment-holdings", daemon=True)

    def start(self) -> None:
        """Listen first, then read what is there: nothing falls between the two."""
        mark = self._desk.store.last_entry()
        self._desk.store.committed.append(self.take)
        before: str | None = None
        while True:
            page = self._desk.views.ids(Filter(statuses=("active",), before=before, limit=PAGE))
            self._take_all(page)
            if len(page) < PAGE:
                break
            before = page[-1]
        self._mark = mark
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stopping.set()
        if self.take in self._desk.store.committed:
            self._desk.store.committed.remove(self.take)

    # ── questions ──

    def check(self, who: IdentityId, target: str, what: Privilege, now: datetime) -> Held | None:
        """The grant that holds longest, if there is one now."""
        best: Held | None = None
        for held in self._by_key.get((who, target, what.privilege, what.resource), ()):
            if held.until > now and (best is None or held.until > best.until):
                best = held
        return best

    def holders(self, target: str, what: Privilege, now: datetime) -> list[IdentityId]:
        """Who holds it now."""
        wanted = (target, what.privilege, what.resource)
        return sorted({key[0] for key in self._now(now) if key[1:] == wanted})

    def targets(self, who: IdentityId, what: Privilege, now: datetime) -> list[str]:
        """Where somebody holds it now."""
        wanted = (what.privilege, what.resource)
        return sorted({key[1] for key in self._now(now) if key[0] == who and key[2:] == wanted})

    def privileges(self, who: IdentityId, target: str, now: datetime) -> list[Privilege]:
        """What somebody holds on a target now."""
        found = {key[2:] for key in self._now(now) if key[:2] == (who, target)}
        return [
            Privilege(privilege=p, resource=r) for p, r in sorted(found, key=lambda k: (k[0], k[1] or ""))
        ]

    def __len__(self) -> int:
        """How many tickets hold something."""
        return len(self._by_ticket)

    def _now(self, now: datetime) -> Iterator[Key]:
        return (key for key, every in self._by_key.copy().items() if any(held.until > now for held in every))

    # ── changes ──

    def take(self, ticket: Ticket) -> None:
        """A ticket changed. An older state than the one known says nothing."""
        keys, until = _granted(ticket)
        now = time.monotonic()
        with self._lock:
            version, _ = self._by_ticket.get(ticket.id, (-1, ()))
            if max(version, self._ended.get(ticket.id, (0.0, -1))[1]) > ticket.version:
                return
            self._release(ticket.id)
            if until is None:
                self._ended[ticket.id] = (now, ticket.version)
                self._ended.move_to_end(ticket.id)
                while now - next(iter(self._ended.values()))[0] > ENDED_SECONDS:
                    self._ended.popitem(last=False)
                return
            self._ended.pop(ticket.id, None)
            for key in keys:
                self._by_key[key] = (*self._by_key.get(key, ()), Held(ticket=ticket.id, until=until))
            self._by_ticket[ticket.id] = (ticket.version, keys)

    def _release(self, ticket: str) -> None:
        """Call it with the lock."""
        _, old = self._by_ticket.pop(ticket, (-1, ()))
        for key in old:
            left = tuple(held for held in self._by_key[key] if held.ticket != ticket)
            if left:
                self._by_key[key] = left
            else:
                del self._by_key[key]

    def _follow(self) -> None:
        """What other processes committed."""
        while not self._stopping.wait(FOLLOW_SECONDS):
            try:
                self._mark, streams = self._desk.store.written_since(self._mark)
                self._take_all(streams)
            except MunimentError as error:
                log.warning("changes of other processes cannot be read", error=error.message, code=error.code)

    def _take_all(self, streams: Iterable[str]) -> None:
        """By their entries, which are checked (I11). One that cannot be trusted holds nothing, and holds up no other."""
        tickets = [stream for stream in streams if stream.startswith("req_")]
        try:
            found = self._desk.store.read_many(tickets)
        except IntegrityError as error:
            if len(tickets) == 1:
                log.warning("a ticket holds nothing", ticket=tickets[0], error=error.message, code=error.code)
                self._drop(tickets[0])
                return
            for each in tickets:
                self._take_all([each])
            return
        for _, ticket in found.values():
            self.take(ticket)

    def _drop(self, ticket: str) -> None:
        with self._lock:
            self._release(ticket)


def _granted(ticket: Ticket) -> tuple[tuple[Key, ...], datetime | None]:
    """Only what was observed, and only while the ticket is active: a revocation that was ordered ends it here."""
    if ticket.status != "active" or not ticket.granted or ticket.expiry is None:
        return (), None
    terms = ticket.terms
    return tuple(
        (terms.beneficiary, terms.target, p.privilege, p.resource) for p in ticket.granted
    ), ticket.expiry
