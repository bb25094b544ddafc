"""Drift: what a target holds and should not, or does not hold and should; and what people do about it.

    raised ──assign, explain──> explained ──accept, by somebody else──> accepted until ──> raised again, if it is there still
       │                            │                                       │
       └────────────── seen to be over by a complete inventory ─────────────┴──> resolved

A finding of drift is never closed by a word: it is over when an inventory that is complete no longer shows it, or when a
ticket, the baseline or an exception explains it. One of use is a thing of the past: it is over when it was accepted until a
date, and did not happen again by then. Found again in a later run it is the same finding, under the same name.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity, IdentityId, is_human
from muniment.core.instants import parse_instant, wire
from muniment.core.inventory import Item

#: every holding is in one of these
Class: TypeAlias = Literal["ticketed", "excepted", "baseline", "unexplained"]
CLASSES: tuple[Class, ...] = get_args(Class)
Status: TypeAlias = Literal["open", "explained", "accepted", "resolved"]
STATUSES: tuple[Status, ...] = get_args(Status)
SEVERITIES: tuple[e.Severity, ...] = get_args(e.Severity)

#: how findings of drift are called, unlike those of tickets
PREFIX = "fnd_"
#: in a finding's name instead of its type: what nothing explains is one trouble, whatever else may be said of it
UNEXPLAINED = "unexplained"
#: nobody accepts a finding for longer
LONGEST_ACCEPTED = timedelta(days=90)
#: trouble with how something was used: a thing of the past, which no inventory shows
OF_USE: frozenset[e.DriftType] = frozenset({"used-outside", "used-ungranted", "used-by-person"})
#: how soon somebody must have seen to it
SLA: dict[e.Severity, timedelta] = {
    "critical": timedelta(hours=4), "high": timedelta(days=1), "medium": timedelta(days=7), "low": timedelta(days=30)
}  # fmt: skip


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found: not yet a finding on record."""

    target: str
    type: e.DriftType
    severity: e.Severity
    item: Item
    reference: str | None  # what explained it, or should: a ticket, or a line of the baseline
    message: str
    explained: bool = False  # it is explained, and wrong all the same; or not there
    line: str | msgspec.UnsetType = msgspec.UNSET  # of use: that proves it

    @property
    def id(self) -> str:
        """The same for the same trouble with the same entitlement, in whichever run it is found."""
        return name_of(self.target, self.type if self.explained else UNEXPLAINED, self.item)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A finding on record, as its events say."""

    id: str
    version: int  # events so far
    target: str
    type: e.DriftType
    severity: e.Severity
    item: Item
    reference: str | None
    inventory: str  # that showed it
    message: str
    raised_at: str
    due_at: str
    status: Status = "open"
    assigned_to: IdentityId | None = None
    explained_by: str | None = None
    explanation: str | None = None  # commitment
    accepted_by: str | None = None
    accepted_until: str | None = None
    acceptance: str | None = None  # commitment
    removal_by: str | None = None  # who has it taken away
    removal: str | None = None  # commitment
    resolved_at: str | None = None
    outcome: Literal["gone", "covered", "past"] | None = None
    line: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def of_use(self) -> bool:
        """Whether it is about how something was used."""
        return self.type in OF_USE

    def stands(self, now: datetime) -> bool:
        """Whether it need not be raised again: it is open, or accepted for the time being."""
        if self.status == "accepted" and self.accepted_until:
            return now < parse_instant(self.accepted_until)
        return self.status != "resolved"

    def overdue(self, now: datetime) -> bool:
        """Whether nobody has seen to it in time."""
        return self.status in {"open", "explained"} and now >= parse_instant(self.due_at)


def nothing_explains(drift: Drift) -> bool:
    """Whether it is an entitlement that nothing explains; else one that is explained and wrong, or missing."""
    return drift.id == name_of(drift.target, UNEXPLAINED, drift.item)


def name_of(target: str, about: str, item: Item) -> str:
    """The id of a finding, which says what it is about: a type, or that nothing explains the item."""
    said = [target, about, item.account, item.privilege, item.resource, item.ticket, item.nested]
    digest = hashlib.sha256(msgspec.json.encode(said)).digest()
    return PREFIX + base64.b32encode(digest).decode()[:26].lower()


# ── what happened ──


def evolve(drift: Drift | None, event: e.Event, at: str, actor: str) -> Drift | None:
    """What an event makes of a finding. Total: what is on file has happened."""
    if isinstance(event, e.DriftRaised):
        return Drift(
            id=event.finding, version=drift.version + 1 if drift else 1, target=event.target, type=event.type,
            severity=event.severity, item=event.item, reference=event.reference, inventory=event.inventory,
            message=event.message, raised_at=at, due_at=event.due_at, line=event.line,
            assigned_to=drift.assigned_to if drift else None,
        )  # fmt: skip
    if drift is None:
        return None
    after = replace(drift, version=drift.version + 1)
    match event:
        case e.DriftAssigned():
            after = replace(after, assigned_to=event.to)
        case e.DriftExplained():
            status: Status = "explained" if after.status == "open" else after.status
            after = replace(after, status=status, explained_by=actor, explanation=event.explanation)
        case e.DriftAccepted():
            after = replace(
                after,
                status="accepted",
                accepted_by=actor,
                accepted_until=event.until,
                acceptance=event.reason,
            )
        case e.DriftRemovalOrdered():
            after = replace(after, removal_by=actor, removal=event.reason)
        case e.DriftResolved():
            after = replace(after, status="resolved", resolved_at=at, outcome=event.outcome)
        case _:
            pass
    return after


def replay(recorded: Iterable[tuple[e.Event, str, str]]) -> Drift | None:
    """Fold events, each with its instant and actor."""
    nothing: Drift | None = None
    return reduce(lambda drift, each: evolve(drift, *each), recorded, nothing)


# ── what may happen ──


def raise_(
    found: Observed, known: Drift | None, inventory: str, sla: timedelta, now: datetime
) -> tuple[e.Event, ...]:
    """Put it on record, unless it is."""
    if known is not None and known.stands(now):
        return ()
    return (
        e.DriftRaised(
            finding=found.id, target=found.target, type=found.type, severity=found.severity, item=found.item,
            reference=found.reference, inventory=inventory, message=found.message, due_at=wire(now + sla), line=found.line,
        ),
    )  # fmt: skip


def assign(drift: Drift, to: Identity | None, named: str) -> tuple[e.Event, ...]:
    """Somebody is to see to it."""
    _open(drift)
    if to is None or not to.active or not is_human(to.id):
        raise Invalid(f"{named:.80} is nobody who could see to it", remedy="Name an active person.")
    return (e.DriftAssigned(finding=drift.id, to=to.id),)


def explain(drift: Drift, explanation: str) -> tuple[e.Event, ...]:
    """Somebody says how it came to be."""
    _open(drift)
    return (e.DriftExplained(finding=drift.id, explanation=explanation),)


def accept(
    drift: Drift, actor: Identity, holders: frozenset[str], *, until: datetime, reason: str, now: datetime
) -> tuple[e.Event, ...]:
    """A second person lets it be, until then: neither who explained it, nor who holds it."""
    _open(drift)
    names = {actor.id, *actor.aliases}
    if not is_human(actor.id):
        raise Refused("only people accept findings", code="refused.not-a-person")
    if drift.explained_by is None:
        raise Refused(
            f"nobody has explained {drift.id}",
            remedy="Somebody explains it first: `muniment finding explain`.",
            code="refused.not-explained",
        )
    if drift.explained_by in names:
        raise Refused(
            f"{actor.id} explained {drift.id}, and somebody else must accept it",
            remedy="Ask another operator or owner of the target.",
            code="refused.self-approval",
        )
    if names & holders:
        raise Refused(
            f"{actor.id} holds what {drift.id} is about",
            remedy="Ask somebody else.",
            code="refused.self-approval",
        )
    if not now < until <= now + LONGEST_ACCEPTED:
        raise Invalid(
            "a finding is accepted for 90 days at most, and not for the past",
            remedy="Give an earlier end, or declare the access in the baseline or as an exception.",
        )
    return (e.DriftAccepted(finding=drift.id, until=wire(until), reason=reason),)


def order_removal(drift: Drift, reason: str, *, separate: bool) -> tuple[e.Event, ...]:
    """Have what nothing explains taken away. Ordered before, it is only tried again.

    Args:
        drift: the finding.
        reason: why, as a commitment.
        separate: on the target each ticket's grant is a thing of its own, and nothing else can be named there.
    """
    _open(drift)
    if not nothing_explains(drift):
        raise Refused(
            f"{drift.id} is not about access that nothing explains",
            remedy="What a ticket gives is revoked there; what is declared is taken out of the baseline first.",
            code="refused.not-removable",
        )
    if drift.item.nested or (separate and drift.item.ticket is None):
        raise Refused(
            f"Muniment cannot take away what {drift.id} is about",
            remedy="Take it away on the target, then run `muniment reconcile`.",
            code="refused.not-removable",
        )
    if drift.removal_by is not None:
        return ()
    return (e.DriftRemovalOrdered(finding=drift.id, reason=reason),)


def resolve(drift: Drift, outcome: Literal["gone", "covered", "past"], inventory: str) -> tuple[e.Event, ...]:
    """An inventory shows that it is over."""
    if drift.status == "resolved":
        return ()
    return (e.DriftResolved(finding=drift.id, outcome=outcome, inventory=inventory),)


def resolved_by_nobody(name: str) -> None:
    """Raise `Refused` for a finding of drift: no word ends it, only what an inventory shows."""
    if name.startswith(PREFIX):
        raise Refused(
            f"{name:.60} is over when a complete inventory shows that it is, and not by a word",
            remedy="Take the access away or have it explained by a ticket or the baseline, then `muniment reconcile`;"
            " `muniment finding accept` lets it be for a time.",
            code="refused.not-by-word",
        )


def _open(drift: Drift) -> None:
    if drift.status == "resolved":
        raise Refused(f"{drift.id} is over", remedy="Nothing to do.", code="refused.status")
