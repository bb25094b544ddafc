"""Ending access early, and looking back: return, revoke, review, waive, resolve."""

from __future__ import annotations

from datetime import datetime

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.closure import CHECKS, NEVER_WAIVED, never_waived
from muniment.core.errors import Invalid, Refused
from muniment.core.filing import require_own
from muniment.core.fulfilling import review_owed
from muniment.core.glass import answered, answered_by_review, require_no_report, require_outside
from muniment.core.identity import Identity
from muniment.core.separation import require_current_directory, require_independent
from muniment.core.ticket import Ticket


def give_back(ticket: Ticket, command: c.Return, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """The beneficiary, requester or owner needs it no longer."""
    del command, now
    require_own(ticket, facts, "return")
    return (e.RevocationOrdered(cause="returned", reason=None),)


def revoke(ticket: Ticket, command: c.Revoke, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Somebody responsible ends it. Before access has begun, the request ends with nothing touched."""
    del now
    actor = facts.actor
    decided = actor is not None and any(d.approver in (actor.id, *actor.aliases) for d in ticket.decisions)
    owner = actor is not None and actor.id in facts.accountable
    if actor is None or not actor.active or not (facts.steward or decided or owner):
        raise Refused(
            f"this is for an operator, an owner of {ticket.terms.target}, or an approver of {ticket.id}",
            remedy=f"Ask one of them; {ticket.terms.beneficiary} can return it.",
            code="refused.not-responsible",
        )
    if ticket.status == "approved":
        return (e.RequestWithdrawn(),)
    return (e.RevocationOrdered(cause="revoked", reason=command.reason),)


def review(ticket: Ticket, command: c.Review, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Somebody without a stake says how the access was used (I10)."""
    del now
    actor = _responsible(ticket, facts, "review")
    require_no_report(ticket, actor, facts, "review")
    if ticket.review is None:
        raise Refused(f"no review of {ticket.id} is owed", remedy="Nothing to do.", code="refused.no-review")
    if ticket.review.outcome is not None:
        raise Refused(
            f"{ticket.id} was reviewed by {ticket.review.reviewer}",
            remedy="Nothing to do.",
            code="refused.reviewed",
        )
    recorded = e.ReviewRecorded(reviewer=actor.id, outcome=command.outcome, comment=command.comment)
    recorded_and_over = (recorded, *answered(ticket, command.comment))
    if command.outcome == "appropriate":
        return recorded_and_over
    finding = e.FindingRaised(
        finding=str(len(ticket.findings) + 1), type="inappropriate-use", severity="high",
        message=f"{actor.id} found the use of {ticket.id} inappropriate", scope=ticket.granted or ticket.approved,
    )  # fmt: skip
    return *recorded_and_over, finding


def waive(ticket: Ticket, command: c.Waive, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """A second person answers for a check that cannot hold. Waiving ``gone`` attests that the access is gone (I15)."""
    if command.check not in CHECKS:
        raise Invalid(
            f"there is no check {command.check!r:.60}", remedy=f"The checks are {', '.join(CHECKS)}."
        )
    _responsible(ticket, facts, "waive")
    if command.check in never_waived(ticket):
        fault = command.check in NEVER_WAIVED
        raise Refused(
            f"{command.check} is never waived" + ("" if fault else " of a broken glass"),
            remedy="It points at a fault; tell an operator."
            if fault
            else "Have it reviewed, and its findings resolved.",
            code="refused.never-waived",
        )
    if ticket.status == "revoking" and command.check != "gone":
        raise Refused(
            f"{ticket.id} is still revoking",
            remedy="Waive it once the access is gone.",
            code="refused.status",
        )
    if CHECKS[command.check](ticket) or ticket.waived(command.check):
        raise Refused(f"{command.check} needs no waiver", remedy="Nothing to do.", code="refused.no-waiver")
    waived = e.CheckWaived(check=command.check, reason=command.reason)
    # somebody's word ends the access as a look would: the review that is then owed is owed all the same (I10)
    return (waived, *review_owed(ticket, now)) if command.check == "gone" else (waived,)


def resolve(ticket: Ticket, command: c.Resolve, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Somebody without a stake says that a finding was dealt with."""
    del now
    _responsible(ticket, facts, "resolve")
    found = next((f for f in ticket.findings if f.id == command.finding and not f.resolved_at), None)
    if found is None:
        raise Refused(
            f"{ticket.id} has no open finding {command.finding!r:.40}",
            remedy="`muniment findings` lists them.",
            code="not-found",
        )
    if answered_by_review(ticket, found):
        raise Refused(
            f"the finding {found.id} of {ticket.id} is answered by its review alone",
            remedy="`muniment review`, once access has ended.",
            code="refused.review-first",
        )
    return (e.FindingResolved(finding=command.finding, reason=command.reason),)


def _responsible(ticket: Ticket, facts: c.Facts, act: str) -> Identity:
    """An independent person who is an operator, an auditor, an owner of the target, or in one of its stages."""
    if facts.actor is None:
        raise Refused(f"only people {act}", code="refused.not-a-person")
    require_current_directory(facts.stale, act)
    require_independent(ticket, facts.actor, facts.accountable, act)
    require_outside(ticket, facts.actor, facts, act)
    in_a_stage = facts.authority is not None and bool(facts.authority.stages)
    if not (facts.steward or facts.auditor or in_a_stage):
        raise Refused(
            f"{facts.actor.id} cannot {act} {ticket.id}",
            remedy=f"An operator, an auditor, an owner of {ticket.terms.target} or one of its approvers can.",
            code="refused.not-responsible",
        )
    return facts.actor
