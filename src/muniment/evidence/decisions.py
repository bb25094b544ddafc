# ruff: noqa: PLR0911  each return is one rule
"""Rules of `judging` for what people decide on a request, and for what happens while it waits for them."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from muniment.core import events as e
from muniment.core.identity import is_human
from muniment.core.instants import parse_instant
from muniment.core.login import falls_short
from muniment.core.scope import covers
from muniment.core.terms import Terms, terms_digest
from muniment.core.ticket import Recorded, Ticket
from muniment.core.verdict import Stage
from muniment.evidence.answers import allows, outside, stake, uid


def approval_recorded(t: Ticket, event: e.ApprovalRecorded, recorded: Recorded) -> str | None:
    """One person's yes or no."""
    if fault := _decided(t, event, recorded):
        return fault
    if t.status != "pending" and (t.terms.kind != "break_glass" or event.decision == "deny"):
        return f"the ticket is {t.status}, where nobody decides any more"
    if event.decision == "deny":
        return None
    if t.obligations and t.obligations.signed is True and event.signature is None:
        return f"policy demands that {event.approver} signs the approval, and no signature is there"
    if why := falls_short(t.obligations, event.login or None, parse_instant(recorded.at)):
        return f"policy demands assurance of the login of {event.approver}, and {why}"
    voters = {event.approver, event.on_behalf.by} if event.on_behalf else {event.approver}
    if voted := voters.intersection(who for d in t.decisions for who in d.voters):
        return f"{min(voted)} has decided already, and counts once"
    if event.stage not in {s.name for s in t.open_stages()}:
        return f"stage {event.stage} had its approvals already"
    if t.status == "pending" and parse_instant(recorded.at) >= t.lapses_at:
        return "it had lapsed by then"
    return None


def counter_offered(t: Ticket, event: e.CounterOffered, recorded: Recorded) -> str | None:
    """An approver would agree to less."""
    if fault := _decided(t, event, recorded):
        return fault
    if event.offer != terms_digest(t.id, event.terms):
        return "the digest of the offer is not that of its terms"
    return _narrower(t, event.terms)


def counter_accepted(t: Ticket, event: e.CounterAccepted, recorded: Recorded) -> str | None:
    """The requester took exactly the offer on file."""
    if recorded.actor != t.terms.requester:
        return f"{recorded.actor} accepts other terms for {t.terms.requester}"
    if not t.offer or (event.digest, event.terms) != (t.offer.digest, t.offer.terms):
        return "it accepts an offer that is not on file"
    if event.voided != tuple(d.approver for d in t.decisions):
        return "it voids other approvals than those on file"
    if parse_instant(recorded.at) >= t.lapses_at:
        return "it had lapsed by then"
    return None


def reminded(t: Ticket, _: e.ApproversReminded, recorded: Recorded) -> str | None:
    """Not before its time, and once."""
    early = t.remind_at is None or parse_instant(recorded.at) < t.remind_at
    return "approvers are reminded before policy says so" if early else None


def escalated(t: Ticket, event: e.RequestEscalated, recorded: Recorded) -> str | None:
    """Not before its time, and to whom policy says."""
    if t.escalate_at is None or parse_instant(recorded.at) < t.escalate_at:
        return "others are let in before policy says so"
    known = t.obligations.escalate_to if t.obligations else ()
    return None if event.to == known else "others are let in than policy says"


def _decided(t: Ticket, event: e.ApprovalRecorded | e.CounterOffered, recorded: Recorded) -> str | None:
    who = event.approver
    holder = event.on_behalf.by if event.on_behalf else who
    stage = next((s for s in t.stages if s.name == event.stage), None)
    if not t.permitted:
        return "somebody decides what policy did not permit"
    if recorded.actor != who:
        return f"it is recorded by {recorded.actor} in the name of {who}"
    if fault := _stake(t, stage, event, parse_instant(recorded.at)):
        return fault
    if event.digest != t.digest:
        return f"{who} was shown other terms: the decision binds to another digest"
    if stage is None:
        return f"there is no stage {event.stage!r:.60}"
    if stage not in t.reached_stages():
        return f"stage {stage.name} is not open before others are satisfied"
    # where a stage names people it may mean an alias: that is for `rules`, which has seen the registry
    if all(a.startswith("group:") for a in stage.approvers) and outside(stage.approvers, event, holder):
        return f"{holder} is in none of the groups that stage {stage.name} asks"
    answers = [a for a in event.evaluations if a.context.get("stage") == stage.name]
    if not answers or not all(
        allows(a, "approve", holder) and a.resource == uid("Request", t.id) for a in answers
    ):
        return f"policy did not let {holder} decide stage {stage.name}"
    return None


def _stake(
    t: Ticket, stage: Stage | None, event: e.ApprovalRecorded | e.CounterOffered, at: datetime
) -> str | None:
    """Nobody with a stake decides, nor hands on authority; owners may agree in a stage for just that."""
    who, given = event.approver, event.on_behalf
    if stage is not None and stage.consent is True and not given:
        own = who in {t.terms.requester, t.terms.beneficiary}
        return f"{who} agrees to their own request" if own or not is_human(who) else None
    if fault := stake(t, who, "decides on it"):
        return fault
    if not given:
        return None
    if given.to != who or given.by == who or not given.covers(at):
        return f"{who} decides for {given.by} without a delegation in force"
    return stake(t, given.by, "hands on authority over it")


def _narrower(t: Ticket, offered: Terms) -> str | None:
    """Shorter or for less, and nothing else."""
    terms = t.terms
    less = replace(terms, duration=offered.duration, scope=offered.scope)
    if offered != less or offered == terms:
        return "the offer changes more than duration and scope, or nothing"
    if not 0 < less.duration <= terms.duration or not less.scope or not covers(terms.scope, less.scope):
        return "the offer is for more than was asked"
    return None
