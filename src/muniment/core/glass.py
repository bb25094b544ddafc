"""Break-glass (I10): access at once for an incident, short and loud, looked at afterwards by people outside of it.

Nothing here waits for anybody: approvals that policy demands are given afterwards, and the ticket stays open until they
are, and until the review is done. Who looks back has no part in the incident: did not break glass for it, is not named
as a responder, and does not report, at any level, to whoever broke it or answers for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity, IdentityId
from muniment.core.instants import parse_instant, spoken
from muniment.core.separation import excluded
from muniment.core.terms import Terms
from muniment.core.ticket import Finding, Ticket

#: the longest, whatever a policy says
LONGEST_BREAK_GLASS = timedelta(hours=4)
#: how long a review may be overdue until it is a matter for the people above
ESCALATE_AFTER = timedelta(days=1)
MAX_RESPONDERS = 50
#: a ticket, to somebody who may not see it (I33)
UNNAMED = "an earlier break-glass"

#: findings that a review answers
BROKEN, LATE = "break-glass", "review-overdue"


def require_glass(terms: Terms, facts: c.Facts) -> None:
    """Raise unless the glass may be broken like this, and by somebody who owes no review that is overdue."""
    if terms.kind != "break_glass":
        if terms.responders:
            raise Invalid("responders go with break-glass", remedy="Add --break-glass, or leave them out.")
        return
    if not terms.incident:
        raise Invalid("break-glass needs an incident", remedy="Name it with --incident.")
    if terms.starts_at is not None:
        raise Invalid("break-glass begins at once", remedy="Leave the start out, or ask in the ordinary way.")
    if terms.duration > LONGEST_BREAK_GLASS.total_seconds():
        longest = spoken(LONGEST_BREAK_GLASS)
        raise Refused(
            f"break-glass lasts {longest} at most, whatever policy says",
            remedy=f"Ask for {longest} or less, and in the ordinary way for what comes after.",
            code="refused.too-long",
        )
    if facts.overdue_reviews:
        raise Refused(
            f"the review of {', '.join(facts.overdue_reviews[:3])} is overdue, and until it is done"
            f" {terms.beneficiary} breaks no glass",
            remedy="Somebody outside that incident can do it now: `muniment review`.",
            code="refused.review-overdue",
        )


def require_outside(ticket: Ticket, actor: Identity, facts: c.Facts, act: str) -> None:
    """Raise `Refused` for somebody with a part in the incident, or who reports to whoever broke the glass."""
    if ticket.terms.kind != "break_glass":
        return
    names = {actor.id, *actor.aliases}
    if not names.isdisjoint((*(ticket.terms.responders or ()), *facts.on_incident)):
        raise Refused(
            f"{actor.id} took part in {ticket.terms.incident} and cannot {act} {ticket.id}",
            remedy="Somebody outside the incident can.",
            code="refused.involved",
        )
    require_no_report(ticket, actor, facts, act)


def require_no_report(ticket: Ticket, actor: Identity, facts: c.Facts, act: str) -> None:
    """Raise `Refused` for somebody who reports, at any level, to whoever had the access or answers for it."""
    if above := sorted(excluded(ticket, facts.accountable).intersection(facts.superiors)):
        raise Refused(
            f"{actor.id} reports to {above[0]} and cannot {act} {ticket.id}",
            remedy="Somebody who does not report to them can.",
            code="refused.subordinate",
        )


def require_outside_delegator(ticket: Ticket, by: IdentityId, facts: c.Facts, act: str) -> None:
    """Raise `Refused` when the authority used is that of somebody who could not use it here themselves."""
    if ticket.terms.kind != "break_glass":
        return
    involved = by in (*(ticket.terms.responders or ()), *facts.on_incident)
    own = excluded(ticket, facts.accountable)
    if involved or not own.isdisjoint(facts.above.get(by, ())):
        why = f"took part in {ticket.terms.incident}" if involved else "reports to whoever broke the glass"
        raise Refused(
            f"{by} {why}, and nobody can {act} {ticket.id} on their behalf",
            remedy="The authority of somebody outside the incident is needed.",
            code="refused.involved" if involved else "refused.subordinate",
        )


def broken(ticket: Ticket) -> tuple[e.Event, ...]:
    """The finding that says so, from the moment on in which access may exist."""
    if ticket.terms.kind != "break_glass":
        return ()
    t = ticket.terms
    message = f"{t.requester} broke the glass on {t.target} for {t.incident}"
    return (_finding(ticket, BROKEN, "high", message),)


def answered(ticket: Ticket, reason: str) -> tuple[e.Event, ...]:
    """What a review makes of the findings that wait for it."""
    waiting = (f for f in ticket.findings if f.type in {BROKEN, LATE} and not f.resolved_at)
    return tuple(e.FindingResolved(finding=f.id, reason=reason) for f in waiting)


def answered_by_review(ticket: Ticket, finding: Finding) -> bool:
    """Whether only the review of a broken glass answers a finding, and nobody's word in its place."""
    return ticket.terms.kind == "break_glass" and finding.type in {BROKEN, LATE}


def review_late_at(ticket: Ticket) -> datetime | None:
    """When the next finding about a review that nobody does is due: at its end, and once more a day later."""
    if ticket.review is None or ticket.review.outcome is not None:
        return None
    raised = len(_late(ticket))
    end = parse_instant(ticket.review.due_at)
    return (end, end + ESCALATE_AFTER)[raised] if raised < 2 else None


def note_late_review(
    ticket: Ticket, command: c.NoteLateReview, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """Raise the finding that is due, each once: high at first, critical when nobody did it for another day."""
    del command, facts
    at = review_late_at(ticket)
    if at is None or now < at or ticket.review is None:
        return ()
    again = bool(_late(ticket))
    message = f"the review of {ticket.id} was due at {ticket.review.due_at} and is not done" + (
        ", a day later; it is for the owners and operators now" if again else ""
    )
    return (_finding(ticket, LATE, "critical" if again else "high", message),)


def _late(ticket: Ticket) -> list[Finding]:
    return [f for f in ticket.findings if f.type == LATE]


def _finding(ticket: Ticket, kind: str, severity: e.Severity, message: str) -> e.FindingRaised:
    number = str(len(ticket.findings) + 1)
    scope = ticket.granted or ticket.approved
    return e.FindingRaised(finding=number, type=kind, severity=severity, message=message, scope=scope)
