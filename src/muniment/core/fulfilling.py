"""From an approval to access and back: what controllers record, each time after reading the target.

A crash leaves the ticket in the status it had, which is due again; nothing here depends on what a worker
remembers.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Refused, Unavailable
from muniment.core.extending import cut_short, hands_over
from muniment.core.filing import unmet
from muniment.core.glass import broken
from muniment.core.instants import parse_instant, spoken, wire
from muniment.core.listing import in_entries, listed
from muniment.core.quorum import short_now
from muniment.core.scope import Scope, compare
from muniment.core.text import visible
from muniment.core.ticket import UNREAD, Ticket
from muniment.core.verdict import Obligations, Verdict

#: a revocation that is not observed by then is a finding, and stays one until it is
OVERDUE_AFTER = timedelta(seconds=60)
#: characters of a message in an entry: a target may say anything, at any length
MAX_MESSAGE = 1000


def start(  # noqa: PLR0911  each return is one way through the last gate
    ticket: Ticket, command: c.StartProvisioning, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """Judge the authority once more (I4, I9), fix the window, and record the intent (I1)."""
    begins = max(now, ticket.terms.start or now)
    if facts.stale and ticket.terms.kind != "break_glass":
        raise Unavailable(
            f"{ticket.id} waits: the directory may be out of date: {facts.stale}",
            remedy="Access is given once the directory can be used again; break-glass does not wait.",
            code="directory.stale",
        )
    expires = (ticket.terms.start or now) + ticket.terms.length
    if reason := ticket.terms.extends and cut_short(facts.extended):
        return (e.RequestLapsed(reason=reason),)
    if begins > now and not hands_over(ticket, facts.extended, now):
        raise Refused(f"{ticket.id} begins at {wire(begins)}", code="refused.early")
    if expires <= now:
        return (e.RequestLapsed(reason="its window was over before access could begin"),)
    verdict = facts.verdict
    if verdict is None or not verdict.permitted or not facts.active:
        reasons = (
            verdict.reasons
            if verdict and facts.active
            else ("the beneficiary or whoever answers for it is deactivated",)
        )
        return (_denied(verdict, reasons),)
    fallen = tuple(d.approver for d in ticket.decisions if d.approver not in facts.standing_approvers)
    if fallen:
        return (e.ApprovalsVoided(approvers=fallen, reason="no longer entitled to approve"),)
    stricter = _stricter(ticket, verdict.obligations, facts)
    if stricter:
        return (_denied(verdict, (f"what policy demands changed since the approval: {stricter}",)),)
    standing = [p for p in ticket.terms.scope if p in command.held and p not in command.ticketed]
    if standing:
        held = ", ".join(map(str, standing))
        message = f"{ticket.terms.account} holds {held} on {ticket.terms.target} already, without a ticket"
        return fail(ticket, c.FailProvisioning(code="target.already-held", message=message), facts, now)
    parts = in_entries(command.held)
    if parts is None:
        message = f"{ticket.terms.account} holds more on {ticket.terms.target} than the ledger can take down"
        return fail(ticket, c.FailProvisioning(code="target.too-much-held", message=message), facts, now)
    *before, rest = parts
    return (
        *(e.AccountRead(held=part) for part in before),
        e.ProvisioningStarted(
            starts_at=wire(begins), expires_at=wire(expires), held=rest, policies=verdict.policies,
            approvers=tuple(d.approver for d in ticket.decisions), evaluations=verdict.evaluations,
            entities=verdict.entities,
        ),
        *broken(ticket),
    )  # fmt: skip


def _denied(verdict: Verdict | None, reasons: tuple[str, ...]) -> e.RequestDenied:
    """No, with what policy was asked and answered, so that this can be replayed like a yes."""
    if verdict is None or not verdict.evaluations:
        return e.RequestDenied(by="policy", reasons=reasons)
    return e.RequestDenied(
        by="policy", reasons=reasons, policies=verdict.policies, evaluations=verdict.evaluations, entities=verdict.entities
    )  # fmt: skip


def _stricter(  # noqa: PLR0911  each return is one demand
    ticket: Ticket, obligations: Obligations | None, facts: c.Facts
) -> str | None:
    """What policy demands now that the ticket, as approved, does not meet (I9). None if it meets everything."""
    if obligations is None:
        return "it says no longer what access obliges to"
    if ticket.terms.duration > obligations.longest:
        return f"at most {spoken(timedelta(seconds=obligations.longest))} are allowed"
    waits = ticket.terms.kind != "break_glass"  # whose approvals come afterwards
    short = short_now(ticket, obligations, facts.entitled)
    if waits and short:
        return f"it needs more approvals in {', '.join(short)}"
    missed = unmet(ticket.terms, obligations, facts)
    if missed:
        return missed.message
    if any((d.login.level if d.login else 0) < (obligations.assurance or 0) for d in ticket.decisions):
        return f"approvers must sign in with assurance {obligations.assurance}"
    if obligations.signed is True and any(d.signature is None for d in ticket.decisions):
        return "approvers must sign their approvals"
    asked = ticket.obligations is not None and ticket.obligations.witnessed is True
    if obligations.witnessed is True and not asked:
        return "witnesses must have seen the approvals, which the ticket does not ask for"
    return None


def record_grant(
    ticket: Ticket, command: c.RecordGrant, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """Compare what the target holds with what was approved. Only an exact match is active (I16).

    Access may have been ordered to end before anybody could read the target. Then only more than was approved is news.
    """
    del facts, now
    comparison = compare(ticket.approved, command.granted)
    if ticket.status == "revoking" and (ticket.granted is not None or not comparison.excess):
        return ()
    granted, whole = listed(ticket.approved, command.granted)
    observed = e.GrantObserved(
        granted=granted,
        comparison=compare(ticket.approved, granted),
        native_expiry=command.native_expiry,
        handle=command.handle,
        whole=whole,
    )
    if comparison.exact:
        return (observed,)
    if comparison.excess:
        return observed, *_too_much(ticket, comparison.excess, observed.comparison.excess)
    message = f"{ticket.terms.target} does not hold what it was asked to give: {', '.join(map(str, comparison.missing))}"
    return (
        observed,
        e.ProvisioningFailed(code="target.not-given", message=_said(message)),
        e.RevocationOrdered(cause="failed", reason=None),
    )


def _too_much(ticket: Ticket, more: Scope, shown: Scope) -> tuple[e.Event, ...]:
    """The target gave more than was approved: somebody must look at it, and all of it goes."""
    count = f"{len(more)} privileges more" if len(more) > len(shown) else "more"
    message = f"{ticket.terms.target} gave {count} than was approved: {', '.join(map(str, shown))}"
    finding = _finding(ticket, "excess", "critical", message, shown)
    failed = e.ProvisioningFailed(code="target.excess", message=_said(message))
    if ticket.status == "revoking":
        return (finding,) if ticket.failure else (finding, failed)
    return finding, failed, e.RevocationOrdered(cause="excess", reason=None)


def fail(ticket: Ticket, command: c.FailProvisioning, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Give up. Before anything was touched that is the end; after, whatever was given is taken back first."""
    del facts, now
    failed = e.ProvisioningFailed(code=command.code, message=_said(command.message))
    if ticket.status == "approved":
        return failed, e.RequestClosed(outcome="failed", checks=())
    return failed, e.RevocationOrdered(cause="failed", reason=None)


def end(ticket: Ticket, command: c.End, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Order the end of access. Time is half-open: at ``expires_at`` it is over. What a signal ends, somebody looks at."""
    del facts
    if command.cause == "expired" and (ticket.expiry is None or now < ticket.expiry):
        return ()
    over: tuple[e.Event, ...] = (e.RevocationOrdered(cause=command.cause, reason=None),)
    if command.cause == "signal":
        message = f"a signal about {ticket.terms.beneficiary} ended {ticket.id}"
        scope = ticket.granted or ticket.approved
        found = e.FindingRaised(
            finding=str(len(ticket.findings) + 1),
            type="signal",
            severity="high",
            message=message,
            scope=scope,
        )
        over = (*over, found)
    if ticket.status == "provisioning":
        never = e.ProvisioningFailed(code=UNREAD, message="access could not be given before it was to end")
        return never, *over
    return over


def record_revocation(
    ticket: Ticket, command: c.RecordRevocation, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """The target was seen without it; open the review that is owed."""
    del facts
    kept = {k.privilege for k in command.kept}
    gone = e.RevocationObserved(
        gone=tuple(p for p in ticket.granted or ticket.approved if p not in kept),
        kept=command.kept,
        sessions_ended=command.sessions_ended,
    )
    over = tuple(
        e.FindingResolved(finding=f.id, reason=None)
        for f in ticket.findings
        if f.type == "overdue" and not f.resolved_at
    )
    return gone, *over, *review_owed(ticket, now)


def review_owed(ticket: Ticket, now: datetime) -> tuple[e.Event, ...]:
    """What opens the review that policy demands once access has ended; nothing if none is owed, or it is open."""
    within = ticket.obligations.review_within if ticket.obligations else None
    if within is None or ticket.review or ticket.review_excused:
        return ()
    return (e.ReviewOpened(due_at=wire(now + timedelta(seconds=within))),)


def fail_revocation(
    ticket: Ticket, command: c.FailRevocation, facts: c.Facts, now: datetime
) -> tuple[e.Event, ...]:
    """Record trouble when it is new, and a finding when it lasts. Repeating the same is nothing new."""
    del facts
    if ticket.revocation is None:
        return ()
    news: list[e.Event] = []
    said = _said(command.message)
    if ticket.revocation.failure != f"{said} ({command.code})":
        news.append(e.RevocationFailed(code=command.code, message=said))
    late = now >= parse_instant(ticket.revocation.ordered_at) + OVERDUE_AFTER
    if late and not any(f.type == "overdue" and not f.resolved_at for f in ticket.findings):
        message = f"{ticket.terms.account} may still hold access on {ticket.terms.target}: {said}"
        news.append(_finding(ticket, "overdue", "high", message, ticket.granted or ticket.approved))
    return tuple(news)


def record_use(ticket: Ticket, command: c.RecordUse, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Pair a batch of the target's own log with the ticket."""
    del ticket, facts, now
    return (
        e.UseObserved(
            source=command.source, digest=command.digest, events=command.events, first_at=command.first_at,
            last_at=command.last_at, privileges=command.privileges,
        ),
    )  # fmt: skip


def _finding(ticket: Ticket, kind: str, severity: e.Severity, message: str, scope: Scope) -> e.FindingRaised:
    return e.FindingRaised(
        finding=str(len(ticket.findings) + 1),
        type=kind,
        severity=severity,
        message=_said(message),
        scope=scope,
    )


def _said(message: str) -> str:
    """Foreign words as the ledger keeps them: nothing in them acts on a reader (I37), and no entry is too large."""
    plain = visible(message[:MAX_MESSAGE])
    return plain if len(plain) < MAX_MESSAGE else plain[: MAX_MESSAGE - 1] + "…"
