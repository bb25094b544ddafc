"""People's decisions on a request: approve, deny. Each is one person's, in one stage, on exactly the terms shown."""

from __future__ import annotations

from datetime import datetime

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.errors import Refused
from muniment.core.identity import Identity
from muniment.core.separation import require_independent, require_one_vote
from muniment.core.ticket import Ticket
from muniment.core.verdict import Stage, Verdict


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
        raise stale(ticket)
    _require_signature(ticket, command, facts)
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


def _require_signature(ticket: Ticket, command: c.Approve, facts: c.Facts) -> None:
    """A signature that is there verified, with a key of the approver's own; and it is there where policy demands it."""
    if command.signature is not None and facts.signed_by is None:
        raise Refused(
            "the signature of this approval was not verified",
            remedy=f"Sign what `muniment approve {ticket.id} --statement` prints.",
            code="refused.signature",
        )
    if command.signature is None and ticket.obligations is not None and ticket.obligations.signed is True:
        raise Refused(
            f"policy demands that approvals of {ticket.id} are signed by the approver",
            remedy=f"Run `muniment approve {ticket.id} --sign ~/.ssh/id_ed25519`.",
            code="refused.signature-required",
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


def stale(ticket: Ticket) -> Refused:
    """What is decided is not what was shown (I3)."""
    return Refused(
        f"the terms of {ticket.id} are not the ones that were shown",
        remedy=f"Read `muniment show {ticket.id}` again, then decide.",
        code="refused.stale-approval",
    )
