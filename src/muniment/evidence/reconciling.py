"""Rules for what is recorded of targets as they are: does an entry say something that can be, after those before it?

Findings of drift are folded as the program folds them. That nobody accepts what he explained himself is judged here
again, from the ledger alone; who held what at that time is not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from muniment.core.drift import LONGEST_ACCEPTED, UNEXPLAINED, Drift, evolve, name_of
from muniment.core.events import (
    DriftAccepted,
    DriftAssigned,
    DriftExplained,
    DriftRaised,
    DriftRemovalOrdered,
    DriftResolved,
    Event,
    InventoryTaken,
    LateUseObserved,
    ReconciliationMade,
    UsageIngested,
)
from muniment.core.identity import is_human
from muniment.core.instants import parse_instant
from muniment.ledger.entry import Entry

_OF_DRIFT = (DriftRaised, DriftAssigned, DriftExplained, DriftAccepted, DriftRemovalOrdered, DriftResolved)


class Reconciliations:
    """Keeps findings of the streams that it sees whole."""

    def __init__(self) -> None:
        """Nothing was found."""
        self._drifts: dict[str, Drift] = {}

    def take(self, event: Event, entry: Entry) -> str | None:
        """Which rule an entry breaks; None if it breaks none, or is about something else."""
        if (rule := _RULES.get(type(event))) is not None:
            fault: str | None = rule(event, entry)
            return fault
        if not isinstance(event, _OF_DRIFT):
            return None
        if entry.ticket != f"drift:{event.finding}":
            return f"it is of {event.finding!r:.60}, and in the stream of another finding"
        before = self._drifts.get(event.finding)
        if (fault := _drift(before, event, entry)) is not None:
            return fault
        after = evolve(before, event, entry.at, entry.actor.id)
        if after is not None:
            self._drifts[after.id] = after
        return None


def _inventory(event: InventoryTaken, entry: Entry) -> str | None:
    if entry.ticket != f"inventory:{event.target}":
        return f"it is of {event.target!r:.80}, and in the stream of another target"
    if parse_instant(event.began_at) > parse_instant(entry.at):
        return "it was recorded before it began"
    direct = event.holdings - event.nested
    if min(event.nested, event.accounts) < 0 or not bool(direct) <= event.accounts <= direct:
        return "its counts do not go together"
    return None


def _made(event: ReconciliationMade, entry: Entry) -> str | None:
    if entry.ticket != f"reconciliation:{event.target}":
        return f"it is of {event.target!r:.80}, and in the stream of another target"
    counts = (event.ticketed, event.excepted, event.baseline, event.unexplained)
    if min(*counts, event.raised, event.resolved, event.open) < 0:
        return "it counts less than nothing"
    if event.resolved and not event.complete:
        return "it calls findings over by an inventory that is not complete"
    return None


def _ingested(event: UsageIngested, entry: Entry) -> str | None:
    if entry.ticket != f"usage:{event.target}":
        return f"it is of {event.target!r:.80}, and in the stream of another target"
    counts = (event.uses, event.refused, event.other, event.duplicates, event.unparsable, event.ahead)
    if min(counts) < 0 or sum(counts) != event.lines:
        return "its counts do not go together"
    if event.part is not None and not 0 <= event.part.begins <= event.part.ends:
        return "it was read from a place that there is not"
    if event.covers_from and event.covers_to and event.covers_to < event.covers_from:
        return "it covers a period that ends before it begins"
    return None


def _late(event: LateUseObserved, entry: Entry) -> str | None:
    if entry.ticket != f"use:{event.ticket}":
        return f"it is of {event.ticket!r:.80}, and in the stream of another ticket"
    if event.events < 1 or parse_instant(event.last_at) < parse_instant(event.first_at):
        return "the use has no place in time"
    return None


def _drift(before: Drift | None, event: Event, entry: Entry) -> str | None:
    at = parse_instant(entry.at)
    if isinstance(event, DriftRaised):
        if before is not None and before.stands(at):
            return "it is raised while it stands"
        return _raised(event)
    if before is None or before.status == "resolved":
        return "there is no such finding" if before is None else "the finding is over"
    if isinstance(event, DriftAccepted):
        return _accepted(before, event, entry)
    if isinstance(event, DriftResolved) and event.outcome == "past" and not _past(before, at):
        return "it is called past, and was not accepted until then"
    return None


def _past(before: Drift, at: datetime) -> bool:
    until = before.accepted_until
    return before.of_use and before.status == "accepted" and until is not None and parse_instant(until) <= at


def _raised(event: DriftRaised) -> str | None:
    """Its name says what it is about."""
    names = {name_of(event.target, about, event.item) for about in (UNEXPLAINED, event.type)}
    return None if event.finding in names else "its name is not that of what it is about"


def _accepted(before: Drift, event: DriftAccepted, entry: Entry) -> str | None:
    at = parse_instant(entry.at)
    if before.explained_by is None:
        return "it is accepted, and nobody explained it"
    if entry.actor.id == before.explained_by or not is_human(entry.actor.id):
        return f"{entry.actor.id} accepts it, and takes somebody else, who is a person"
    if not at < parse_instant(event.until) <= at + LONGEST_ACCEPTED:
        return "it is accepted for too long, or for the past"
    return None


_RULES: dict[type[Event], Callable[[Any, Entry], str | None]] = {
    InventoryTaken: _inventory,
    ReconciliationMade: _made,
    UsageIngested: _ingested,
    LateUseObserved: _late,
}
