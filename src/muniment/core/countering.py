"""Counter-offers: an approver would agree to less than was asked (I5).

An approval carries no scope, so whoever would say yes to less says so as an offer: new terms, with a digest of their
own. Nothing changes before the requester accepts exactly that offer. Then the offered terms are the ticket's, every
earlier approval is void in the same transaction (I3), also that of who offered, and policy judges the request again.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from muniment.core import commands as c
from muniment.core import events as e
from muniment.core.approving import decider, require_current, stage_for
from muniment.core.errors import Invalid, Refused
from muniment.core.filing import judged
from muniment.core.scope import covers
from muniment.core.scope import scope as canonical
from muniment.core.terms import Terms, terms_digest
from muniment.core.ticket import Ticket


def counter(ticket: Ticket, command: c.Counter, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """Record an approver's offer. A newer one takes the place of an older."""
    actor = decider(facts, "counter")
    require_current(ticket, command.digest, now)
    stage, authority = stage_for(ticket, facts, actor, "counter", now)
    terms, verdict = narrowed(ticket.terms, command), authority.verdict
    return (
        e.CounterOffered(
            approver=actor.id, stage=stage.name, digest=ticket.digest, offer=terms_digest(ticket.id, terms), terms=terms,
            policies=verdict.policies, authority=verdict.determining, evaluations=verdict.evaluations,
            entities=verdict.entities, comment=command.comment, on_behalf=authority.delegation,
        ),
    )  # fmt: skip


def accept(ticket: Ticket, command: c.Accept, facts: c.Facts, now: datetime) -> tuple[e.Event, ...]:
    """The requester takes the offer: other terms from here on, and all deciding begins again."""
    actor = facts.actor
    if actor is None or ticket.terms.requester not in (actor.id, *actor.aliases):
        raise Refused(
            f"only {ticket.terms.requester} can accept other terms for {ticket.id}",
            remedy=f"Ask {ticket.terms.requester}.",
            code="refused.not-yours",
        )
    if not ticket.offer:
        raise Refused(
            f"nobody has made an offer on {ticket.id}",
            remedy=f"`muniment show {ticket.id}` says what it waits for.",
            code="refused.no-offer",
        )
    require_current(ticket, ticket.digest, now)
    if command.offer != ticket.offer.digest:
        raise Refused(
            f"the offer on {ticket.id} is not the one that was shown",
            remedy=f"Read `muniment show {ticket.id}` again, then accept.",
            code="refused.stale-offer",
        )
    if facts.verdict is None or not facts.active:
        raise Refused(
            f"{ticket.terms.beneficiary} or whoever answers for it is deactivated",
            remedy="An active owner is needed.",
            code="refused.inactive",
        )
    voided = tuple(d.approver for d in ticket.decisions)
    accepted = e.CounterAccepted(digest=ticket.offer.digest, terms=ticket.offer.terms, voided=voided)
    return accepted, *judged(ticket.offer.terms, facts.verdict, facts)


def narrowed(terms: Terms, command: c.Counter) -> Terms:
    """The offered terms: shorter, or for less, and never anything else. Raises `Invalid`."""
    duration = terms.duration if command.duration is None else command.duration
    wanted = terms.scope if command.scope is None else canonical(command.scope)
    if not 0 < duration <= terms.duration:
        raise Invalid("an offer is never longer than what was asked", remedy="Offer a shorter time.")
    if not wanted or not covers(terms.scope, wanted):
        asked = ", ".join(map(str, terms.scope))
        raise Invalid("an offer is never for more than what was asked", remedy=f"Offer part of: {asked}.")
    if (duration, wanted) == (terms.duration, terms.scope):
        raise Invalid("the offer is what was asked", remedy="Approve it, or offer less.")
    return replace(terms, duration=duration, scope=wanted)
