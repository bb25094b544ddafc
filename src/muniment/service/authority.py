"""Whose authority somebody may use on a ticket: their own, and what others handed to them; and whether it still holds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from muniment.core.delegation import Delegation, require_delegate
from muniment.core.errors import Refused
from muniment.core.events import DelegationGiven, Event, decode_data
from muniment.core.identity import Identity, IdentityId
from muniment.core.separation import excluded
from muniment.core.ticket import Decision, Ticket
from muniment.core.verdict import Authority
from muniment.ports import Subject, Target

if TYPE_CHECKING:
    from muniment.service.desk import Desk

#: every delegation has a stream of its own
STREAM = "delegation:"


def in_force(desk: Desk, now: datetime) -> tuple[Delegation, ...]:
    """Delegations that were not ended and whose period includes now, as the primary has them.

    The read model only says where to look: what counts is in the entries, whose marks are checked (I11).
    """
    listed = desk.views.registered(STREAM).items()
    streams = [stream for stream, (_, last) in listed if _covering(last, now)]
    if not streams:
        return ()
    entries = (entry for _, entry in desk.store.last(streams).values())
    found = (_covering(decode_data(entry.type, entry.data), now) for entry in entries)
    return tuple(delegation for delegation in found if delegation)


def _covering(event: Event, now: datetime) -> Delegation | None:
    given = event.delegation if isinstance(event, DelegationGiven) else None
    return given if given and given.covers(now) else None


def received(desk: Desk, who: Identity, now: datetime) -> tuple[Delegation, ...]:
    """Those that let this person decide for others now."""
    return tuple(d for d in in_force(desk, now) if d.to in (who.id, *who.aliases))


def delegated(  # noqa: PLR0917  as `Policy.judge_approver`
    desk: Desk, ticket: Ticket, who: Identity, requester: Subject, beneficiary: Subject, target: Target
) -> tuple[Authority, ...]:
    """What others could decide on a ticket and have handed to ``who``. Not what was handed to those others."""
    found = []
    for each in received(desk, who, desk.clock.now()):
        holder = desk.directory.get(each.by)
        if holder is None or not holder.active:
            continue
        theirs = desk.policy.judge_approver(ticket, desk.subject(holder.id), requester, beneficiary, target)
        if not theirs.stages:
            continue
        # what policy forbids somebody to decide, they decide for nobody else either
        why = desk.policy.forbids(ticket, desk.subject(who.id), requester, beneficiary, target, theirs.stages)
        verdict = replace(theirs.verdict, permitted=False, reasons=why) if why else theirs.verdict
        found.append(replace(theirs, delegation=each, verdict=verdict))
    return tuple(found)


def stands(  # noqa: PLR0917  as `Policy.judge_approver`
    desk: Desk, ticket: Ticket, decision: Decision, requester: Subject, beneficiary: Subject, target: Target
) -> bool:
    """Whether a decision on file is by somebody who could make it now (I4)."""
    approver = desk.directory.get(decision.approver)
    if approver is None or not approver.active:
        return False
    holder = approver
    if decision.on_behalf:
        given = desk.directory.get(decision.on_behalf.by)
        if (
            given is None
            or not given.active
            or not _still_delegated(desk, ticket, decision.on_behalf, approver)
        ):
            return False
        holder = given
    if not names_of(desk, decision).isdisjoint(_stakeholders(desk, ticket, decision, requester, beneficiary)):
        return False
    authority = desk.policy.judge_approver(ticket, desk.subject(holder.id), requester, beneficiary, target)
    if not authority.verdict.permitted or decision.stage not in authority.stages:
        return False
    return not decision.on_behalf or not desk.policy.forbids(
        ticket, desk.subject(approver.id), requester, beneficiary, target, authority.stages
    )


def names_of(desk: Desk, decision: Decision) -> frozenset[IdentityId]:
    """Every name, now, of the people whose vote a decision is."""
    known = (desk.directory.get(voter) for voter in decision.voters)
    return frozenset(decision.voters).union(*((who.id, *who.aliases) for who in known if who))


def _stakeholders(
    desk: Desk, ticket: Ticket, decision: Decision, requester: Subject, beneficiary: Subject
) -> frozenset[IdentityId]:
    """Whose ticket it is now, by every name (I2): no policy has a say in that."""
    parties = frozenset(
        name for s in (requester, beneficiary) for name in (s.identity.id, *s.identity.aliases)
    )
    parties |= {ticket.terms.requester, ticket.terms.beneficiary}
    consent = any(s.consent is True and s.name == decision.stage for s in ticket.stages)
    return parties if consent else parties | excluded(ticket, desk.accountable_of(ticket))


def _still_delegated(desk: Desk, ticket: Ticket, delegation: Delegation, approver: Identity) -> bool:
    now = desk.clock.now()
    own = excluded(ticket, desk.accountable_of(ticket))
    try:
        require_delegate(delegation, approver, own, desk.superiors(approver), now)
    except Refused:
        return False
    return delegation in in_force(desk, now)
