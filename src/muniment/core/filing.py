"""From a request to a decision: submit, approve, deny, withdraw, lapse."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Invalid, Refused
from muniment.core.identity import Identity, is_human
from muniment.core.instants import LONGEST, spoken
from muniment.core.separation import require_independent, require_one_vote
from muniment.core.terms import Terms, terms_digest
from muniment.core.ticket import Ticket
from muniment.core.verdict import DEFAULT_BREAK_GLASS_REVIEW, Obligations, Stage, Verdict

#: a start this far in the past is a slow client, not a mistake
PAST_TOLERANCE = timedelta(minutes=1)


def submit(command: c.Submit, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """File a ticket, with policy's verdict on it. A denial by policy is on record too."""
    terms, verdict = command.terms, facts.verdict
    _require_sound(terms, now)
    if facts.actor is None or facts.actor.id != terms.requester or verdict is None:
        raise Refused("a request is filed by its requester, with policy's verdict", code="refused.actor")
    if not facts.active:
        raise Refused(
            f"{terms.beneficiary} or whoever answers for it is deactivated",
            remedy="An operator can see who owns it with `muniment whoami`; an active owner is needed.",
            code="refused.inactive",
        )
    for identity in (terms.requester, terms.beneficiary):
        if not is_human(identity) and not facts.accountable:
            raise Refused(
                f"{identity} has no accountable owner",
                remedy="Give it an owner in the directory.",
                code="refused.no-owner",
            )
    digest = terms_digest(command.ticket, terms)
    filed = e.RequestSubmitted(terms=terms, digest=digest, accountable=facts.accountable)
    obligations = _obligations(terms, verdict)
    decided = e.PolicyDecided(
        permitted=verdict.permitted, policies=verdict.policies, determining=verdict.determining,
        reasons=verdict.reasons, obligations=obligations, evaluations=verdict.evaluations, entities=verdict.entities,
    )  # fmt: skip
    if not verdict.permitted or obligations is None:
        return filed, decided, e.RequestDenied(by="policy", reasons=verdict.reasons)
    _require_obligations(terms, obligations, facts)
    if obligations.stages:
        return filed, decided
    return filed, decided, e.RequestApproved(approvers=(), scope=terms.scope, duration=terms.duration)


def approve(ticket: Ticket, command: c.Approve, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Record one person's yes; with the last one needed, the request is approved."""
    actor = _decider(ticket, facts, "approve")
    require_one_vote(ticket, actor)
    if now >= ticket.lapses_at:
        raise Refused(
            f"{ticket.id} lapsed at {ticket.lapses_at:%H:%M} UTC",
            remedy="File it again.",
            code="refused.lapsed",
        )
    if command.digest != ticket.digest:
        raise Refused(
            f"the terms of {ticket.id} are not the ones that were shown",
            remedy=f"Read `muniment show {ticket.id}` again, then decide.",
            code="refused.stale-approval",
        )
    stage, verdict = _stage_for(ticket, facts, actor, "approve")
    recorded = e.ApprovalRecorded(
        approver=actor.id, decision="approve", stage=stage.name, digest=command.digest, policies=verdict.policies,
        authority=verdict.determining, evaluations=verdict.evaluations, entities=verdict.entities,
        comment=command.comment, signature=command.signature,
    )  # fmt: skip
    if any(ticket.approvals_in(s.name) + (s.name == stage.name) < s.needed for s in ticket.stages):
        return (recorded,)
    approvers = (*(d.approver for d in ticket.decisions), actor.id)
    return recorded, e.RequestApproved(
        approvers=approvers, scope=ticket.terms.scope, duration=ticket.terms.duration
    )


def deny(ticket: Ticket, command: c.Deny, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Record one person's no, which ends the ticket. Whoever approved earlier may still say no."""
    del now
    actor = _decider(ticket, facts, "deny")
    stage, verdict = _stage_for(ticket, facts, actor, "deny")
    recorded = e.ApprovalRecorded(
        approver=actor.id, decision="deny", stage=stage.name, digest=ticket.digest, policies=verdict.policies,
        authority=verdict.determining, evaluations=verdict.evaluations, entities=verdict.entities,
        comment=command.comment, signature=None,
    )  # fmt: skip
    return recorded, e.RequestDenied(by=actor.id, reasons=())


def withdraw(ticket: Ticket, command: c.Withdraw, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """End one's own request before access begins."""
    del command, now
    require_own(ticket, facts, "withdraw")
    return (e.RequestWithdrawn(),)


def lapse(ticket: Ticket, command: c.Lapse, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """End a request that nobody decided, or whose window is over before access could begin."""
    del command, facts
    if ticket.expiry and now >= ticket.expiry:
        return (e.RequestLapsed(reason="its window was over before access could begin"),)
    if ticket.status == "pending" and now >= ticket.lapses_at:
        return (e.RequestLapsed(reason="nobody decided in time"),)
    return ()


def require_own(ticket: Ticket, facts: c.Facts, act: str) -> Identity:
    """Raise `Refused` unless the actor is the requester, the beneficiary, or accountable for them now."""
    actor = facts.actor
    own = {ticket.terms.requester, ticket.terms.beneficiary, *facts.accountable}
    if actor is None or not own.intersection((actor.id, *actor.aliases)):
        who = ticket.terms.requester
        raise Refused(
            f"only {who}, the beneficiary or its owner can {act} {ticket.id}",
            remedy=f"Ask {who}; an operator or an owner of {ticket.terms.target} can revoke it.",
            code="refused.not-yours",
        )
    return actor


def _decider(ticket: Ticket, facts: c.Facts, act: str) -> Identity:
    if facts.actor is None:
        raise Refused("only people decide", code="refused.not-a-person")
    require_independent(ticket, facts.actor, facts.accountable, act)
    return facts.actor


def _stage_for(ticket: Ticket, facts: c.Facts, actor: Identity, act: str) -> tuple[Stage, Verdict]:
    """The first open stage this person is in, and the verdict that lets them decide it."""
    authority = facts.authority
    open_stages = ticket.open_stages()
    could = (
        ", ".join(dict.fromkeys(a for s in open_stages for a in s.approvers)) or "an approver named by policy"
    )
    if authority is None or authority.approver != actor.id or not authority.stages:
        raise Refused(
            f"{actor.id} is not an approver of {ticket.id}",
            remedy=f"These could {act} it: {could}.",
            code="refused.not-an-approver",
        )
    eligible = open_stages if act == "approve" else ticket.stages
    mine = [s for s in eligible if s.name in authority.stages]
    if not mine:
        raise Refused(
            f"the stage of {ticket.id} that {actor.id} is in has its approvals",
            remedy=f"It waits for: {could}.",
            code="refused.stage-satisfied",
        )
    if not authority.verdict.permitted:
        why = "; ".join(authority.verdict.reasons)
        raise Refused(
            f"policy does not let {actor.id} {act} {ticket.id}: {why}",
            remedy=f"These could: {could}.",
            code="refused.by-policy",
        )
    return mine[0], authority.verdict


def _obligations(terms: Terms, verdict: Verdict) -> Obligations | None:
    """What policy demands, and what break-glass demands whatever policy says (I10)."""
    obligations = verdict.obligations
    if obligations and terms.kind == "break_glass" and obligations.review_within is None:
        return replace(obligations, review_within=int(DEFAULT_BREAK_GLASS_REVIEW.total_seconds()))
    return obligations


def _require_sound(terms: Terms, now: datetime) -> None:
    if not 0 < terms.duration <= LONGEST.total_seconds():
        raise Invalid("the duration is out of range", remedy=f"Ask for at most {LONGEST.days} days.")
    if not terms.scope:
        raise Invalid("the scope is empty", remedy="Name at least one privilege.")
    if terms.start and terms.start < now - PAST_TOLERANCE:
        raise Invalid(
            "the start lies in the past", remedy="Leave the start out to begin once it is approved."
        )
    if terms.start and terms.start > now + LONGEST:
        raise Invalid(
            f"the start lies more than {LONGEST.days} days ahead", remedy="File it nearer to the time."
        )
    if terms.kind == "break_glass" and not terms.incident:
        raise Invalid("break-glass needs an incident", remedy="Name it with --incident.")


def _require_obligations(terms: Terms, obligations: Obligations, facts: c.Facts) -> None:
    """Refuse what the requester can mend at once, before anything is filed."""
    if terms.duration > obligations.longest:
        longest = spoken(timedelta(seconds=obligations.longest))
        raise Refused(
            f"policy allows at most {longest} here",
            remedy=f"Ask for {longest} or less.",
            code="refused.too-long",
        )
    absent = [kind for kind in obligations.references if kind not in terms.references]
    if absent:
        raise Refused(
            f"policy demands a reference here: {', '.join(absent)}",
            remedy=f"Add --reference {absent[0]}=ID.",
            code="refused.reference-required",
        )
    if obligations.native_expiry and not facts.native_expiry:
        raise Refused(
            f"policy demands that {terms.target} itself ends the access, which it cannot",
            remedy="Choose a target whose access expires by itself, or ask an operator for another policy.",
            code="refused.native-expiry",
        )
