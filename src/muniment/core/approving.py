"""People's decisions on a request: approve, deny. Each is one person's, in one stage, on exactly the terms shown.

A stage is open once the ones before it are satisfied, and until it is satisfied itself. Who decides has the authority
in their own right, or by a delegation from somebody who has it and has not used it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.delegation import require_delegate
from muniment.core.errors import Refused
from muniment.core.glass import require_outside, require_outside_delegator
from muniment.core.identity import Identity
from muniment.core.login import Login, falls_short
from muniment.core.separation import (
    excluded,
    require_current_directory,
    require_independent,
    require_one_vote,
    require_person,
)
from muniment.core.ticket import Ticket
from muniment.core.verdict import Authority, Stage


def approve(ticket: Ticket, command: c.Approve, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Record one person's yes; with the last one needed, the request is approved."""
    actor = decider(facts, "approve")
    require_current_directory(facts.stale, "approve")
    if ticket.status != "pending" and ticket.terms.kind != "break_glass":
        raise Refused(
            f"{ticket.id} is {ticket.status}: approve does not apply",
            remedy=f"`muniment show {ticket.id}` says what it waits for.",
            code="refused.status",
        )
    require_one_vote(ticket, actor)
    require_current(ticket, command.digest, now)
    stage, authority = stage_for(ticket, facts, actor, "approve", now)
    require_outside(ticket, actor, facts, "approve")
    _require_signature(ticket, command, facts)
    _require_assurance(ticket, facts, now)
    recorded = _recorded(ticket, actor, stage, authority, command, login=facts.login)
    if ticket.status != "pending":  # of a broken glass: it was given at once, and is approved afterwards
        return (recorded,)
    if any(ticket.short_of(s) > (s.name == stage.name) for s in ticket.stages):
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


def _require_assurance(ticket: Ticket, facts: c.Facts, now: datetime) -> None:
    """Where policy demands it, whoever approves was there just now, and proved it well enough."""
    owed = ticket.obligations
    if owed is not None and (why := falls_short(owed, facts.login, now)):
        raise Refused(
            f"policy demands assurance {owed.assurance} of the login that approves {ticket.id}, and {why}",
            remedy=f"Sign in again at /auth/login?level={owed.assurance}, then approve.",
            code="refused.assurance-required",
        )


def deny(ticket: Ticket, command: c.Deny, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Record one person's no, which ends the ticket. Whoever approved earlier may still say no."""
    actor = decider(facts, "deny")
    stage, authority = stage_for(ticket, facts, actor, "deny", now)
    return _recorded(ticket, actor, stage, authority, command, login=facts.login), e.RequestDenied(
        by=actor.id, reasons=()
    )


def decider(facts: c.Facts, act: str) -> Identity:
    """The active person who decides. Raises `Refused`."""
    if facts.actor is None:
        raise Refused("only people decide", code="refused.not-a-person")
    require_person(facts.actor, act)
    return facts.actor


def require_current(ticket: Ticket, digest: str, now: datetime) -> None:
    """Raise `Refused` when the ticket has lapsed, or its terms are not the ones that were shown."""
    if ticket.status == "pending" and now >= ticket.lapses_at:
        raise Refused(
            f"{ticket.id} lapsed at {ticket.lapses_at:%H:%M} UTC",
            remedy="File it again.",
            code="refused.lapsed",
        )
    if digest != ticket.digest:
        raise stale(ticket)


def stale(ticket: Ticket) -> Refused:
    """What is decided is not what was shown (I3)."""
    return Refused(
        f"the terms of {ticket.id} are not the ones that were shown",
        remedy=f"Read `muniment show {ticket.id}` again, then decide.",
        code="refused.stale-approval",
    )


def stage_for(
    ticket: Ticket, facts: c.Facts, actor: Identity, act: str, now: datetime
) -> tuple[Stage, Authority]:
    """The first stage that this person may decide now, and what lets them: their own authority, else another's.

    Raises:
        Refused: neither; the reason is that of their own authority, if they have any.
    """
    try:
        return _in_own_right(ticket, facts, actor, act)
    except Refused as refusal:
        why = refusal
    for authority in facts.delegated:
        try:
            return _for_another(ticket, authority, facts, actor, act, now)
        except Refused as refusal:
            if why.code == "refused.not-an-approver":
                why = refusal
    raise why


def _in_own_right(ticket: Ticket, facts: c.Facts, actor: Identity, act: str) -> tuple[Stage, Authority]:
    authority = facts.authority
    mine = authority.stages if authority is not None and authority.approver == actor.id else ()
    consents = any(s.consent is True and s.name in mine for s in ticket.stages)
    others = {ticket.terms.requester, ticket.terms.beneficiary}.isdisjoint((actor.id, *actor.aliases))
    if not (consents and others):  # owners agree to what their machine gets, and decide nothing else about it
        require_independent(ticket, actor, facts.accountable, act)
    elif not excluded(ticket, facts.accountable).isdisjoint((actor.id, *actor.aliases)):
        mine = tuple(s.name for s in ticket.stages if s.consent is True and s.name in mine)
    if authority is None or not mine:
        raise Refused(
            f"{actor.id} is not an approver of {ticket.id}",
            remedy=f"These could {act} it: {_could(ticket)}.",
            code="refused.not-an-approver",
        )
    return _first(ticket, authority, mine, actor, act), authority


def _for_another(  # noqa: PLR0917  as `stage_for`, and whose authority
    ticket: Ticket, authority: Authority, facts: c.Facts, actor: Identity, act: str, now: datetime
) -> tuple[Stage, Authority]:
    require_independent(ticket, actor, facts.accountable, act)
    delegation = authority.delegation
    if not delegation or authority.approver != delegation.by:
        raise Refused(f"{actor.id} decides for nobody here", code="refused.not-delegated")
    require_delegate(delegation, actor, excluded(ticket, facts.accountable), facts.superiors, now)
    require_outside_delegator(ticket, delegation.by, facts, act)
    if act == "approve" and any(delegation.by in d.voters for d in ticket.decisions):
        raise Refused(
            f"the vote of {delegation.by} on {ticket.id} is given already",
            remedy="Each person counts once; another approver is needed.",
            code="refused.already-decided",
        )
    theirs = tuple(s.name for s in ticket.stages if s.consent is not True and s.name in authority.stages)
    return _first(ticket, authority, theirs, actor, act), authority


def _first(ticket: Ticket, authority: Authority, stages: tuple[str, ...], actor: Identity, act: str) -> Stage:
    """The first of these stages that can be decided now, if policy lets them."""
    eligible = ticket.open_stages() if act == "approve" else ticket.reached_stages()
    mine = [s for s in eligible if s.name in stages]
    could = _could(ticket)
    if not mine and any(s.name in stages for s in ticket.stages if s not in ticket.reached_stages()):
        raise Refused(
            f"the stage of {ticket.id} that {actor.id} is in is not open yet",
            remedy=f"It waits for others first: {could}.",
            code="refused.stage-not-open",
        )
    if not mine:
        raise Refused(
            f"the stage of {ticket.id} that {actor.id} is in has its approvals",
            remedy=f"It waits for: {could}.",
            code="refused.stage-satisfied",
        )
    if not authority.verdict.permitted:
        why = "; ".join(authority.verdict.reasons)
        raise Refused(
            f"policy does not let {authority.approver} {act} {ticket.id}: {why}",
            remedy=f"These could: {could}.",
            code="refused.by-policy",
        )
    return mine[0]


def _could(ticket: Ticket) -> str:
    named = dict.fromkeys(a for s in ticket.open_stages() for a in s.approvers)
    return ", ".join(named) or "an approver named by policy"


def _recorded(
    ticket: Ticket,
    actor: Identity,
    stage: Stage,
    authority: Authority,
    command: c.Approve | c.Deny,
    *,
    login: Login | None,
) -> e.ApprovalRecorded:
    approves, verdict = isinstance(command, c.Approve), authority.verdict
    return e.ApprovalRecorded(
        approver=actor.id, decision="approve" if approves else "deny", stage=stage.name, digest=ticket.digest,
        policies=verdict.policies, authority=verdict.determining, evaluations=verdict.evaluations, entities=verdict.entities,
        comment=command.comment, signature=command.signature if isinstance(command, c.Approve) else None,
        on_behalf=authority.delegation, login=login or msgspec.UNSET,
    )  # fmt: skip
