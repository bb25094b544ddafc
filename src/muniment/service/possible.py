"""What somebody could do to a ticket now. The gate itself is asked, so a page never offers what the core would refuse."""

from __future__ import annotations

from typing import Literal, TypeAlias

from muniment.core import commands as c
from muniment.core.errors import Invalid, MunimentError, Refused
from muniment.core.lifecycle import decide
from muniment.core.separation import excluded
from muniment.core.ticket import Ticket
from muniment.service.desk import Caller, Desk

Act: TypeAlias = Literal[
    "approve", "deny", "offer", "accept", "withdraw", "return", "revoke", "review", "collect", "extend"
]
#: refusals that say how an approval is to be given, not that somebody else must give it
BY_ANOTHER_WAY = frozenset({"refused.signature-required", "refused.assurance-required"})


def possible(desk: Desk, caller: Caller, ticket: Ticket) -> dict[Act, MunimentError | None]:
    """Each act that makes sense in the ticket's state: None if the caller could do it, else what the core would say.

    Nothing is recorded. An act may still be refused when it comes: the world goes on.
    """
    try:
        facts = desk.facts(ticket, caller, desk.delegations.now())
    except MunimentError:  # its target is not configured: nobody can do anything about it here
        return {}
    now = desk.clock.now()
    found: dict[Act, MunimentError | None] = {}
    for act, command in _commands(ticket).items():
        try:
            decide(ticket, command, facts, now)
        except (Refused, Invalid) as error:
            found[act] = error
        else:
            found[act] = None
    who = {caller.identity.id, *caller.identity.aliases}
    if ticket.offer and ticket.status == "pending" and ticket.terms.requester in who:
        found["accept"] = None
    concerned = who & excluded(ticket)
    if ticket.status == "active" and concerned and ticket.terms.kind == "standard":
        found["extend"] = None  # policy says, once it is asked
    if ticket.status == "active" and concerned:
        target = desk.targets.get(ticket.terms.target)
        if target is not None and target.connector.capabilities.issues_credential:
            found["collect"] = None
    return found


def _commands(ticket: Ticket) -> dict[Act, c.Command]:
    """What could be tried, as far as the ticket's state says. Texts are not looked at yet."""
    found: dict[Act, c.Command] = {}
    looks_back = ticket.terms.kind == "break_glass" and bool(ticket.open_stages()) and not ticket.ended
    if ticket.status == "pending" or looks_back:
        found["approve"] = c.Approve(digest=ticket.digest)
    if ticket.status == "pending":
        found["deny"] = c.Deny(comment="")
        found["offer"] = c.Counter(
            digest=ticket.digest, duration=max(1, ticket.terms.duration - 1), comment=""
        )
    if ticket.status in {"pending", "approved"}:
        found["withdraw"] = c.Withdraw()
    if ticket.status == "active":
        found["return"] = c.Return()
    if ticket.status in {"approved", "provisioning", "active"}:
        found["revoke"] = c.Revoke(reason="")
    if ticket.review is not None and ticket.review.outcome is None:
        found["review"] = c.Review(outcome="appropriate", comment="")
    return found
