"""For whoever audits: entries of the ledger by what they are about, and samples of tickets that anybody can draw again.

A sample is drawn by a seed: number k of it, from 0, is the ticket at the place that SHA-256 of the seed, a newline and k
says, as a number, modulo how many there are, in the order of ids; a place that comes again is passed over. Whoever has
the seed and the ids draws the same, with nothing of ours.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from muniment.core.errors import Invalid, Refused
from muniment.core.ticket import STATUSES, Status, Ticket
from muniment.core.visibility import SEES_ALL
from muniment.service.desk import Caller, Desk
from muniment.service.ids import new_id
from muniment.store.searching import Sealed, Sought, search

#: of a sample
MOST = 500
#: bytes of chance of an id: none is the first one of its time
_NO_CHANCE = bytes(10)


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """Which tickets a sample is of. Every field narrows; an empty one does not."""

    since: datetime | None = None  # when they were filed
    before: datetime | None = None
    target: str | None = None
    kind: str | None = None
    status: Status | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Tickets that were drawn, and of how many."""

    size: int
    tickets: tuple[Ticket, ...]


def require_auditor(caller: Caller) -> None:
    """Raise `Refused` unless the caller sees everything."""
    if not SEES_ALL & set(caller.identity.roles):
        raise Refused(
            f"{caller.identity.id} may not read everybody's tickets",
            remedy="Auditors and operators may.",
            code="refused.not-an-auditor",
        )


def entries(desk: Desk, caller: Caller, sought: Sought) -> list[Sealed]:
    """Sealed entries, newest first."""
    require_auditor(caller)
    return search(desk.store.engine, sought)


def drawn(desk: Desk, caller: Caller, population: Population, *, count: int, seed: str) -> Sample:
    """A sample.

    Args:
        desk: the adapters.
        caller: an auditor or operator.
        population: which tickets it is of.
        count: how many, at most `MOST`; all of them, if there are fewer.
        seed: any text; the same one draws the same.
    """
    require_auditor(caller)
    if not 0 < count <= MOST:
        raise Invalid(f"a sample has 1 to {MOST} tickets", remedy=f"Ask for at most {MOST}.")
    if population.status is not None and population.status not in STATUSES:
        raise Invalid(
            f"there is no status {population.status!r:.40}", remedy=f"The statuses: {', '.join(STATUSES)}."
        )
    first = new_id("req", population.since, _NO_CHANCE) if population.since else ""
    last = new_id("req", population.before, _NO_CHANCE) if population.before else None
    ids = desk.views.filed_between(
        first, last, target=population.target, kind=population.kind, status=population.status
    )
    chosen = [ids[place] for place in places(seed, len(ids), count)]
    found = desk.views.tickets_of(chosen)
    return Sample(size=len(ids), tickets=tuple(found[ticket] for ticket in chosen if ticket in found))


def places(seed: str, size: int, count: int) -> list[int]:
    """Where the tickets of a sample stand in their population, in the order in which they are drawn."""
    found: dict[int, None] = {}
    turn = 0
    while len(found) < min(count, size):
        drawn = hashlib.sha256(f"{seed}\n{turn}".encode()).digest()
        found[int.from_bytes(drawn, "big") % size] = None
        turn += 1
    return list(found)
